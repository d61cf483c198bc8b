/* SPDX-License-Identifier: BSD-3-Clause */

/* TCP, and vsock (between a virtual machine and its host). */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "text/parse.h"
#include "text/reason.h"

#define PORT_DEFAULT 10809
#define TCP_PORT_MAX 65535

/* How often to look for a port that is free on all addresses. */
#define PORT_TRIES 100

static in_port_t *port_of(struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return &((struct sockaddr_in6 *)(void *)address)->sin6_port;
    return &((struct sockaddr_in *)(void *)address)->sin_port;
}

static int bound_port(int fd, unsigned *port)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    /* Not seen to be written to.  NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
    *port = ntohs(*port_of((struct sockaddr *)&address));
    return 0;
}

/* Names can list an address more than once. */
static bool is_repeated(const struct addrinfo *all, const struct addrinfo *this)
{
    for (; all != this; all = all->ai_next)
        if (all->ai_addrlen == this->ai_addrlen &&
            memcmp(all->ai_addr, this->ai_addr, this->ai_addrlen) == 0)
            return true;
    return false;
}

static void forget(struct listeners *listeners)
{
    while (listeners->count > 0)
        close(listeners->fds[--listeners->count]);
    listeners->port = 0;
}

/* Listen on one more address; the first of them settles the port. */
static int add_address(struct listeners *listeners, struct addrinfo *info)
{
    if (listeners->count == LISTENERS_MAX)
        return -ENOSPC;
    if (listeners->count > 0)
        *port_of(info->ai_addr) = htons((in_port_t)listeners->port);
    int fd = listen_bound(info->ai_family, info->ai_addr, info->ai_addrlen);
    if (fd < 0)
        return fd;
    listeners->fds[listeners->count++] = fd;
    return listeners->count == 1 ? bound_port(fd, &listeners->port) : 0;
}

/* All addresses.  One that this machine does not have (such as ::1 without IPv6) is passed over,
 * unless that leaves none.  On an error, *which is the address. */
static int add_addresses(struct listeners *listeners, struct addrinfo *all,
                         const struct addrinfo **which)
{
    int missing = -EADDRNOTAVAIL;
    *which = all;
    for (struct addrinfo *info = all; info; info = info->ai_next) {
        if (is_repeated(all, info))
            continue;
        int err = add_address(listeners, info);
        if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL) {
            missing = err;
        } else if (err) {
            *which = info;
            return err;
        }
    }
    return listeners->count > 0 ? 0 : missing;
}

static int why_not(int err, const struct addrinfo *info, struct reason *reason)
{
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    return reason_set(reason, err, "cannot listen on %s, port %s: ", host, port);
}

static int look_up(const struct listen_options *options, struct addrinfo **found,
                   struct reason *reason)
{
    /* No AI_PASSIVE: without an address, it is the loopback ones. */
    struct addrinfo hints = {.ai_family = options->family, .ai_socktype = SOCK_STREAM};
    const char *port = options->port ? options->port : "10809";
    _Static_assert(PORT_DEFAULT == 10809, "as in the text");
    unsigned number = 0;
    /* getaddrinfo would take it modulo 65536. */
    if (port[strspn(port, "0123456789")] == '\0' &&
        parse_number(port, PARSE_DECIMAL, 0, TCP_PORT_MAX, &number))
        return reason_set(reason, -EINVAL, "port %s: must be at most %d", port, TCP_PORT_MAX);
    int failed = getaddrinfo(options->address, port, &hints, found);
    if (failed)
        return reason_set(reason, -EADDRNOTAVAIL, "address %s, port %s: %s",
                          options->address ? options->address : "(loopback)", port,
                          failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed));
    return 0;
}

static int open_tcp(const struct listen_options *options, struct listeners *listeners,
                    struct reason *reason)
{
    struct addrinfo *found = NULL;
    int err = look_up(options, &found, reason);
    if (err || !found) /* success has found something: for analyzers */
        return err;
    bool any_port = *port_of(found->ai_addr) == 0;
    const struct addrinfo *which = found;
    for (int i = 0; i < PORT_TRIES; i++) {
        err = add_addresses(listeners, found, &which);
        /* Free on the first address is not free on all. */
        if (err != -EADDRINUSE || !any_port)
            break;
        forget(listeners);
    }
    if (err)
        why_not(err, which, reason);
    freeaddrinfo(found);
    return err;
}

static int open_vsock(const struct listen_options *options, struct listeners *listeners,
                      struct reason *reason)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT_DEFAULT};
    if (options->port &&
        parse_number(options->port, PARSE_DECIMAL, 0, VMADDR_PORT_ANY - 1, &address.svm_port))
        return reason_set(reason, -EINVAL, "port %s: for vsock, a number is needed",
                          options->port);
    if (address.svm_port == 0)
        address.svm_port = VMADDR_PORT_ANY;
    int fd = listen_bound(AF_VSOCK, (const struct sockaddr *)&address, sizeof address);
    if (fd == -EAFNOSUPPORT)
        return reason_set(reason, fd, "this kernel has no vsock");
    if (fd < 0)
        return reason_set(reason, fd, "cannot listen on vsock port %u: ", address.svm_port);
    listeners->fds[listeners->count++] = fd;
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return reason_set(reason, -errno, "vsock: ");
    listeners->port = address.svm_port;
    return 0;
}

const struct socket_kind socket_tcp = {
    .name = "tcp",
    .open = open_tcp,
    .port_max = TCP_PORT_MAX,
    .has_service_names = true,
    .has_addresses = true,
};

const struct socket_kind socket_vsock = {
    .name = "vsock",
    .open = open_vsock,
    .port_max = UINT32_MAX,
};
