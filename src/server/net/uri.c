/* SPDX-License-Identifier: BSD-3-Clause */

/* doc/uri.md of the NBD project:
 *
 *   nbd://HOST:PORT/EXPORT          nbd+unix:///EXPORT?socket=PATH nbd+vsock://CID:PORT/EXPORT
 *
 * and nbds for nbd where TLS is required, as nbdkit does: with TLS only offered, a client that
 * cannot verify us is still let in.  That of the first socket, if there are several. */

#include <arpa/inet.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "text/string_builder.h"

/* RFC 3986: unreserved characters stay.  So does the slash, which paths and export names are full
 * of, and which means nothing else there. */
static void put_encoded(FILE *out, const char *text, size_t length)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~/";
    for (size_t i = 0; i < length; i++)
        if (text[i] != '\0' && strchr(plain, text[i]))
            fputc(text[i], out);
        else
            fprintf(out, "%%%02X", (unsigned)(unsigned char)text[i]);
}

/* A zone ("fe80::1%eth0") has its percent sign encoded: RFC 6874. */
static void put_host(FILE *out, const char *host)
{
    bool brackets = strchr(host, ':') != NULL;
    fputs(brackets ? "[" : "", out);
    for (; *host != '\0'; host++)
        if (*host == '%')
            fputs("%25", out);
        else
            fputc(*host, out);
    fputs(brackets ? "]" : "", out);
}

static bool is_any(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr == INADDR_ANY;
    const struct sockaddr_in6 *six = (const void *)address;
    return IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);
}

static bool has_family(const struct listeners *listeners, sa_family_t family)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
        socklen_t length = sizeof address;
        if (getsockname(listeners->fds[i], (struct sockaddr *)&address, &length) == 0 &&
            address.ss_family == family)
            return true;
    }
    return false;
}

static int put_inet(FILE *out, const struct listen_options *options,
                    const struct listeners *listeners, const struct sockaddr *address,
                    socklen_t length)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo(address, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -1;
    bool passed = options->kind->is_passed;
    fputs("://", out);
    if (is_any(address) || (!passed && !options->address))
        /* "localhost" has an IPv6 address not everywhere. */
        put_host(out, has_family(listeners, AF_INET) ? "localhost" : "::1");
    else
        put_host(out, passed ? host : options->address);
    fprintf(out, ":%s/", port);
    return 0;
}

static void put_export(FILE *out, const struct listen_options *options)
{
    if (options->export_name)
        put_encoded(out, options->export_name, strlen(options->export_name));
}

static void put_unix(FILE *out, const struct listen_options *options,
                     const struct sockaddr_un *address, socklen_t length)
{
    size_t bytes = length - offsetof(struct sockaddr_un, sun_path);
    /* An abstract name starts with a zero byte, and all of it counts. */
    if (address->sun_path[0] != '\0')
        bytes = strnlen(address->sun_path, bytes);
    fputs("+unix:///", out);
    put_export(out, options);
    fputs("?socket=", out);
    put_encoded(out, address->sun_path, bytes);
}

static int put_uri(FILE *out, const struct listen_options *options,
                   const struct listeners *listeners)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    if (getsockname(listeners->fds[0], (struct sockaddr *)&address, &length) < 0)
        return -1;
    fputs(options->is_tls_required ? "nbds" : "nbd", out);
    switch (address.ss_family) {
    case AF_UNIX:
        put_unix(out, options, (const struct sockaddr_un *)&address, length);
        return 0;
    case AF_INET:
    case AF_INET6:
        if (put_inet(out, options, listeners, (const struct sockaddr *)&address, length) < 0)
            return -1;
        put_export(out, options);
        return 0;
    case AF_VSOCK:
        /* The loopback, for clients on this machine; others know by what number they know us. */
        fprintf(out, "+vsock://%u:%u/", VMADDR_CID_LOCAL,
                ((const struct sockaddr_vm *)&address)->svm_port);
        put_export(out, options);
        return 0;
    default:
        return -1;
    }
}

char *uri_of_listeners(const struct listen_options *options, const struct listeners *listeners)
{
    struct string_builder text;
    FILE *out = string_builder_open(&text);
    if (!out)
        return NULL;
    int err = put_uri(out, options, listeners);
    char *uri = string_builder_close(&text, out);
    if (!err)
        return uri;
    free(uri);
    return NULL;
}
