/* SPDX-License-Identifier: BSD-3-Clause */

/* TCP, over IPv4 and IPv6.  There can be several hosts, and a host name can have several
 * addresses.  Each address gets its own socket, and all these sockets have the same port. */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "server/net/listeners.h"
#include "server/net/socket.h"
#include "server/net/socket_kind.h"
#include "text/parse.h"
#include "text/reason.h"

#define PORT_MAX 65535

#define TEXT_(number) #number
#define TEXT(number) TEXT_(number)

/* If --port is 0, any free port is accepted: at most this many ports are tried, until one is
 * free on all addresses. */
#define PORT_TRIES 100

static in_port_t *port_of(struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return &((struct sockaddr_in6 *)(void *)address)->sin6_port;
    return &((struct sockaddr_in *)(void *)address)->sin_port;
}

static bool is_any_address(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED(
        &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

static bool is_same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
    const struct sockaddr_in6 *six = (const void *)a, *other = (const void *)b;
    return IN6_ARE_ADDR_EQUAL(&six->sin6_addr, &other->sin6_addr) &&
           six->sin6_scope_id == other->sin6_scope_id;
}

/* Does one of our sockets receive the connections to this address already?  Several hosts can
 * have an address in common, and 0.0.0.0 or :: is all addresses of its family. */
static bool is_covered(const struct listeners *listeners, const struct sockaddr *wanted)
{
    struct socket_address bound;
    for (unsigned i = 0; i < listeners->count; i++)
        if (socket_own_address(listeners->fds[i], &bound) == 0 &&
            bound.any.sa_family == wanted->sa_family &&
            (is_any_address(&bound.any) || is_same_address(&bound.any, wanted)))
            return true;
    return false;
}

/* Open a listening socket.  Returns its descriptor, or -errno. */
static int listen_on_address(const struct addrinfo *info)
{
    static const int yes = 1;
    int fd = socket_create(info->ai_family);
    if (fd < 0)
        return fd;
    int failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* An IPv6 socket could also serve IPv4.  It must not, because IPv4 has its own socket. */
    if (!failed && info->ai_family == AF_INET6)
        failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (!failed)
        failed = bind(fd, info->ai_addr, info->ai_addrlen);
    if (!failed)
        failed = listen(fd, SOCKET_BACKLOG);
    if (!failed)
        return fd;
    int r = -errno;
    close(fd);
    return r;
}

/* What the command line asks for. */
struct tcp_place {
    struct {
        const char *name;           /* NULL: loopback */
        struct addrinfo *addresses; /* from getaddrinfo */
    } hosts[LISTEN_ADDRESSES_MAX];
    unsigned count;
    in_port_t port;               /* in network byte order; 0: any free port */
    const struct addrinfo *which; /* after an error: the address that caused it */
};

/* Listen on one more address.  The port of the first address is used for all other addresses. */
static int add_address(struct listeners *listeners, struct addrinfo *info, const char *host,
                       in_port_t port)
{
    if (listeners->count == LISTENERS_MAX)
        return -ENOSPC;
    *port_of(info->ai_addr) = listeners->port ? htons((in_port_t)listeners->port) : port;
    int fd = listen_on_address(info);
    if (fd < 0)
        return fd;
    listeners->hosts[listeners->count] = host;
    listeners->fds[listeners->count++] = fd;
    if (listeners->port)
        return 0;
    struct socket_address bound;
    int r = socket_own_address(fd, &bound);
    if (r == 0)
        listeners->port = ntohs(*port_of(&bound.any));
    return r;
}

/* Listen on all addresses of a host.  Addresses that this machine does not have (such as ::1
 * without IPv6) are skipped.  If no address is left, that is an error. */
static int add_host(struct listeners *listeners, struct tcp_place *place, unsigned i)
{
    int result = -EADDRNOTAVAIL;
    place->which = place->hosts[i].addresses;
    for (struct addrinfo *info = place->hosts[i].addresses; info; info = info->ai_next) {
        int r = is_covered(listeners, info->ai_addr)
                    ? 0
                    : add_address(listeners, info, place->hosts[i].name, place->port);
        if (r == 0 || (result < 0 && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)))
            result = r;
        if (r < 0 && r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL) {
            place->which = info;
            return r;
        }
    }
    return result;
}

/* 0.0.0.0 and :: come first.  Once one of them is bound, the other addresses of its family are
 * covered; once another address is bound, the kernel refuses them. */
static int add_hosts(struct listeners *listeners, struct tcp_place *place)
{
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < place->count; i++) {
            bool is_first = is_any_address(place->hosts[i].addresses->ai_addr);
            int r = is_first == (pass == 0) ? add_host(listeners, place, i) : 0;
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int look_up(const struct listen_options *options, const char *host,
                   struct addrinfo **found, struct reason *reason)
{
    /* Without AI_PASSIVE, getaddrinfo returns the loopback addresses if no address is given. */
    const struct addrinfo hints = {.ai_family = options->family, .ai_socktype = SOCK_STREAM};
    const char *port = options->port ? options->port : TEXT(LISTEN_PORT_DEFAULT);
    unsigned number;
    /* getaddrinfo would take a larger number modulo 65536, so a larger number is refused here. */
    if (port[strspn(port, "0123456789")] == '\0' &&
        parse_number(port, PARSE_DECIMAL, 0, PORT_MAX, &number) < 0)
        return reason_set(reason, -EINVAL, "port %s: must be at most %d", port, PORT_MAX);
    int failed = getaddrinfo(host, port, &hints, found);
    if (failed)
        return reason_set(reason, -EADDRNOTAVAIL, "address %s, port %s: %s",
                          host ? host : "(loopback)", port,
                          failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed));
    return 0;
}

static int refuse_address(int error, const struct addrinfo *info, struct reason *reason)
{
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    return reason_set(reason, error, "cannot listen on %s, port %s: ", host, port);
}

static int look_up_hosts(const struct listen_options *options, struct tcp_place *place,
                         struct reason *reason)
{
    const struct listen_addresses *addresses = &options->addresses;
    unsigned count = addresses->count > 0 ? addresses->count : 1;
    for (unsigned i = 0; i < count; i++) {
        const char *name = addresses->count > 0 ? addresses->names[i] : NULL;
        struct addrinfo *found = NULL;
        int r = look_up(options, name, &found, reason);
        if (r < 0 || !found) /* never NULL after success, but analyzers do not know that */
            return r;
        place->hosts[i].name = name;
        place->hosts[i].addresses = found;
        place->count = i + 1;
        place->port = *port_of(found->ai_addr);
    }
    return 0;
}

/* A port that is free on the first address need not be free on the others.  If any port is
 * accepted, other ports are then tried. */
static int try_ports(struct listeners *listeners, struct tcp_place *place)
{
    unsigned before = listeners->count;
    int r = 0;
    for (int i = 0; i < PORT_TRIES; i++) {
        r = add_hosts(listeners, place);
        if (r != -EADDRINUSE || place->port != 0)
            break;
        while (listeners->count > before)
            close(listeners->fds[--listeners->count]);
        listeners->port = 0;
    }
    return r;
}

static int open_tcp(const struct listen_options *options, struct listeners *listeners,
                    struct reason *reason)
{
    struct tcp_place place = {.count = 0};
    int r = look_up_hosts(options, &place, reason);
    if (r == 0) {
        r = try_ports(listeners, &place);
        if (r < 0)
            refuse_address(r, place.which, reason);
    }
    for (unsigned i = 0; i < place.count; i++)
        freeaddrinfo(place.hosts[i].addresses);
    return r;
}

/* Write an address or a host name for a URI.  By RFC 6874, the percent sign before a zone
 * ("fe80::1%eth0") is encoded. */
static void put_host(FILE *out, const char *host)
{
    bool has_brackets = strchr(host, ':') != NULL;
    fputs(has_brackets ? "[" : "", out);
    for (; *host != '\0'; host++)
        if (*host == '%')
            fputs("%25", out);
        else
            fputc(*host, out);
    fputs(has_brackets ? "]" : "", out);
}

static bool has_family(const struct listeners *listeners, sa_family_t family)
{
    struct socket_address address;
    for (unsigned i = 0; i < listeners->count; i++)
        if (socket_own_address(listeners->fds[i], &address) == 0 &&
            address.any.sa_family == family)
            return true;
    return false;
}

/* Write HOST:PORT.  HOST is the address that the command line gives.  If the socket was passed to
 * us, HOST is the address to which it is bound. */
static int put_tcp_authority(FILE *out, const struct listen_options *options,
                             const struct listeners *listeners, unsigned i,
                             const struct socket_address *address)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo(&address->any, address->length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -EADDRNOTAVAIL;
    bool is_passed = options->kind->is_passed;
    if (is_any_address(&address->any) || (!is_passed && !listeners->hosts[i]))
        /* On some machines the name localhost has no IPv6 address, so the URI has ::1 if there
         * is no IPv4 socket. */
        put_host(out, has_family(listeners, AF_INET) ? "localhost" : "::1");
    else
        put_host(out, is_passed ? host : listeners->hosts[i]);
    fprintf(out, ":%s", port);
    return 0;
}

static void set_tcp_options(int fd, bool keepalive)
{
    const int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (keepalive)
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
}

static void name_tcp_peer(int fd, const struct socket_address *address, char *name, size_t size)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    (void)fd;
    if (getnameinfo(&address->any, address->length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(name, size, "unknown");
    else
        snprintf(name, size, address->any.sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
                 port);
}

/* Write the address of the client.  A socket that was passed to us may listen for both IPv6 and
 * IPv4.  The addresses of its IPv4 clients look like ::ffff:192.0.2.1, and are written as
 * 192.0.2.1. */
static void name_tcp_holder(int fd, const struct socket_address *address, char *name, size_t size)
{
    static const char mapped[] = "::ffff:";
    char host[NI_MAXHOST];
    const char *start = host;
    (void)fd;
    if (getnameinfo(&address->any, address->length, host, sizeof host, NULL, 0, NI_NUMERICHOST))
        snprintf(host, sizeof host, "unknown");
    if (strncmp(host, mapped, sizeof mapped - 1) == 0 && strchr(host, '.'))
        start += sizeof mapped - 1;
    snprintf(name, size, "%s", start);
}

const struct socket_kind socket_tcp = {
    .name = "tcp",
    .port_max = PORT_MAX,
    .has_service_names = true,
    .has_addresses = true,
    .open = open_tcp,
    .scheme = "",
    .put_authority = put_tcp_authority,
    .families = {AF_INET, AF_INET6},
    .tune = set_tcp_options,
    .name_peer = name_tcp_peer,
    .name_holder = name_tcp_holder,
};
