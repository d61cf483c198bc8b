/* SPDX-License-Identifier: BSD-3-Clause */

/* Plain connections are one system call a call.  Works on pipes too, so no recv and no send. */

#include "server/net/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/stream.h"
#include "server/net/tls.h"

/* Of a Unix socket; the kernel doubles it.  256 KiB replies, a fifth to a third faster than with
 * the usual 208 KiB, which take two rounds each; 2 MiB gained no more and can pin that much
 * memory for each client that does not read.  The receive buffer of a Unix socket has no effect.
 */
#define UNIX_SEND_BUFFER (512 << 10)

static int make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

/* The address family of a socket, or -1: no socket. */
static int family_of(int fd)
{
    int family = -1;
    socklen_t size = sizeof family;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 ? family : -1;
}

/* Without any of these a connection works, so failures are of no interest. */
static void tune_socket(int fd, bool keepalive)
{
    int on = 1, size = UNIX_SEND_BUFFER;
    switch (family_of(fd)) {
    case AF_UNIX:
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        break;
    case AF_INET:
    case AF_INET6:
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (keepalive)
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        break;
    default:
        break;
    }
}

int transport_init(struct transport *transport, int in, int out, bool keepalive)
{
    int err = make_nonblocking(in);
    if (err == 0 && out != in)
        err = make_nonblocking(out);
    if (err != 0)
        return err;
    tune_socket(out, keepalive);
    *transport = (struct transport){.in = in, .out = out};
    return 0;
}

void transport_close(struct transport *transport)
{
    if (transport->tls != NULL) {
        tls_session_bye(transport->tls);
        tls_session_free(transport->tls);
    }
    close(transport->in);
    if (transport->out != transport->in)
        close(transport->out);
    *transport = (struct transport){.in = -1, .out = -1};
}

bool transport_shut(struct transport *transport)
{
    if (transport->tls != NULL)
        tls_session_bye(transport->tls);
    return shutdown(transport->out, SHUT_WR) == 0;
}

int transport_start_tls(struct transport *transport, const struct tls_credentials *credentials)
{
    return tls_session_create(credentials, transport->in, transport->out, &transport->tls);
}

int transport_handshake(struct transport *transport, struct reason *reason)
{
    return tls_session_handshake(transport->tls, reason);
}

uint32_t transport_events(const struct transport *transport)
{
    bool write = transport->tls != NULL && tls_session_wants_write(transport->tls);
    return write ? EPOLLOUT : EPOLLIN;
}

/* -errno of a failed call; a peer that went away is one error, whatever the system says. */
static ssize_t failed(void)
{
    return errno == ECONNRESET ? -EPIPE : -errno;
}

ssize_t transport_receive(struct transport *transport, const struct iovec *iov, int count)
{
    if (transport->tls != NULL)
        return tls_session_receive(transport->tls, iov, count);
    for (;;) {
        ssize_t got = os_stream_read(transport->in, iov, count);
        if (got >= 0)
            return got;
        if (errno != EINTR)
            return failed();
    }
}

ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count)
{
    if (transport->tls != NULL)
        return tls_session_send(transport->tls, iov, count);
    if (count == 0)
        return 0;
    for (;;) {
        ssize_t sent = os_stream_write(transport->out, iov, count);
        if (sent >= 0)
            return sent;
        if (errno != EINTR)
            return failed();
    }
}

bool transport_wants_flush(const struct transport *transport)
{
    return transport->tls != NULL && tls_session_wants_flush(transport->tls);
}

bool transport_has_pending(const struct transport *transport)
{
    return transport->tls != NULL && tls_session_has_pending(transport->tls);
}

static void name_internet(const struct sockaddr_storage *address, socklen_t length, char *name,
                          size_t size)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)address, length, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(name, size, "unknown");
    else
        snprintf(name, size, address->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static void name_unix(int fd, char *name, size_t size)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0)
        snprintf(name, size, "unix:%ld", (long)peer.pid);
    else
        snprintf(name, size, "unix");
}

void transport_peer(const struct transport *transport, char *name, size_t size)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    if (getpeername(transport->in, (struct sockaddr *)&address, &length) != 0) {
        snprintf(name, size, "%s", errno == ENOTSOCK ? "stdio" : "unknown");
        return;
    }
    const struct sockaddr_vm *vm = (const struct sockaddr_vm *)&address;
    switch (address.ss_family) {
    case AF_INET:
    case AF_INET6:
        name_internet(&address, length, name, size);
        break;
    case AF_UNIX:
        name_unix(transport->in, name, size);
        break;
    case AF_VSOCK:
        snprintf(name, size, "vsock:%u:%u", vm->svm_cid, vm->svm_port);
        break;
    default:
        snprintf(name, size, "unknown");
        break;
    }
}
