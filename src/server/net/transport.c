/* SPDX-License-Identifier: BSD-3-Clause */

/* Without TLS, each receive or send is one system call.  The calls are readv and writev instead
 * of recv and send, because the descriptors may be pipes. */

#include "server/net/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/stream.h"
#include "server/net/socket.h"
#include "server/net/socket_kind.h"
#include "server/net/tls.h"

static int make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

static void tune_socket(int fd, bool keepalive)
{
    struct socket_address address;
    if (socket_own_address(fd, &address) < 0)
        return; /* not a socket */
    const struct socket_kind *kind = socket_kind_of_family(address.any.sa_family);
    if (kind && kind->tune)
        kind->tune(fd, keepalive);
}

int transport_init(struct transport *transport, int in, int out, bool keepalive)
{
    int r = make_nonblocking(in);
    if (r == 0 && out != in)
        r = make_nonblocking(out);
    if (r < 0)
        return r;
    tune_socket(out, keepalive);
    *transport = (struct transport){.in = in, .out = out};
    return 0;
}

void transport_close(struct transport *transport)
{
    if (transport->tls) {
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
    if (transport->tls)
        tls_session_bye(transport->tls);
    return shutdown(transport->out, SHUT_WR) == 0;
}

int transport_start_tls(struct transport *transport, struct tls_credentials *credentials)
{
    return tls_session_create(credentials, transport->in, transport->out, &transport->tls);
}

int transport_handshake(struct transport *transport, struct reason *reason)
{
    return tls_session_handshake(transport->tls, reason);
}

uint32_t transport_events(const struct transport *transport)
{
    bool wants_write = transport->tls && tls_session_wants_write(transport->tls);
    return wants_write ? EPOLLOUT : EPOLLIN;
}

/* Return the -errno of the call that has just failed.  ECONNRESET becomes -EPIPE, because both
 * mean that the client is gone. */
static ssize_t last_failure(void)
{
    return errno == ECONNRESET ? -EPIPE : -errno;
}

ssize_t transport_receive(struct transport *transport, const struct iovec *iov, int count)
{
    if (transport->tls)
        return tls_session_receive(transport->tls, iov, count);
    for (;;) {
        ssize_t got = os_stream_read(transport->in, iov, count);
        if (got >= 0)
            return got;
        if (errno != EINTR)
            return last_failure();
    }
}

ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count)
{
    if (transport->tls)
        return tls_session_send(transport->tls, iov, count);
    if (count == 0)
        return 0;
    for (;;) {
        ssize_t sent = os_stream_write(transport->out, iov, count);
        if (sent >= 0)
            return sent;
        if (errno != EINTR)
            return last_failure();
    }
}

bool transport_wants_flush(const struct transport *transport)
{
    return transport->tls && tls_session_wants_flush(transport->tls);
}

bool transport_has_pending(const struct transport *transport)
{
    return transport->tls && tls_session_has_pending(transport->tls);
}

void transport_peer(const struct transport *transport, char *name, size_t size)
{
    struct socket_address address;
    int r = socket_peer_address(transport->in, &address);
    const struct socket_kind *kind = r < 0 ? NULL : socket_kind_of_family(address.any.sa_family);
    if (kind && kind->name_peer)
        kind->name_peer(transport->in, &address, name, size);
    else
        snprintf(name, size, "%s", r == -ENOTSOCK ? "stdio" : "unknown");
}
