/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "server/host/log.h"
#include "server/session/replies.h"
#include "server/session/requests.h"
#include "server/session/server.h"
#include "text/reason.h"

#define TLS_MEMORY (32u << 10) /* of a session, about: the library does not tell */
#define TURN_RECEIVES 16       /* until others have their turn */

int connection_create(struct server *server, int in, int out, struct connection **made)
{
    uint8_t greeting[NBD_GREETING_SIZE];
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return -ENOMEM;
    connection->server = server;
    connection->handshake = malloc(sizeof *connection->handshake);
    int r = connection->handshake ? 0 : -ENOMEM;
    if (r == 0) {
        nbd_handshake_begin(connection->handshake, &server->export, &server->policy,
                            &connection->session, greeting);
        r = buffer_store(&connection->unsent, greeting, sizeof greeting);
    }
    if (r == 0)
        r = transport_init(&connection->transport, in, out, server->keepalive);
    if (r < 0) {
        buffer_drop(&connection->unsent);
        free(connection->handshake);
        free(connection);
        return r;
    }
    *made = connection;
    return 0;
}

void connection_destroy(struct connection *connection)
{
    transport_close(&connection->transport);
    buffer_drop(&connection->unread);
    buffer_drop(&connection->unsent);
    free(connection->waiting);
    free(connection->handshake);
    free(connection);
}

size_t connection_memory(const struct connection *connection)
{
    return sizeof *connection + sizeof *connection->handshake + connection->unread.size +
           connection->unsent.size + connection->waiting_count * sizeof *connection->waiting +
           (connection->transport.tls ? TLS_MEMORY : 0);
}

static void tell(const struct connection *connection, const char *what)
{
    char peer[64];
    if (!log_is_verbose(connection->server->log))
        return;
    transport_peer(&connection->transport, peer, sizeof peer);
    log_debug(connection->server->log, "%s: %s", peer, what);
}

static void enter_transmission(struct connection *connection)
{
    TAILQ_REMOVE(&connection->loop->greeting, connection, greeting);
    free(connection->handshake);
    connection->handshake = NULL;
    connection->state = CONNECTION_TRANSMISSION;
    tell(connection, "enters transmission");
}

ssize_t connection_receive(struct connection *connection, size_t want, size_t *came)
{
    struct buffer *unread = &connection->unread;
    uint8_t *in = connection->loop->scratch->in;
    size_t there = buffer_left(unread);
    ssize_t n = 0;
    if (!requests_are_ready(connection)) {
        struct iovec vector = {in + there, want};
        n = transport_receive(&connection->transport, &vector, 1);
        if (n <= 0)
            return n == 0 ? -ENOTCONN : n;
    }
    if (there)
        memcpy(in, unread->bytes + unread->at, there);
    buffer_drop(unread);
    *came = (size_t)n;
    return (ssize_t)there + n;
}

/* Handshake. */

/* Take the options that have come in.  Answers like requests_take. */
static int take_options(struct connection *connection, const uint8_t *in, size_t size)
{
    uint8_t out[NBD_HANDSHAKE_OUT];
    enum nbd_progress progress = NBD_AGAIN;
    size_t at = 0;
    int r = 0;
    while (progress == NBD_AGAIN && r == 0) {
        size_t used, put;
        progress =
            nbd_handshake_step(connection->handshake, in + at, size - at, &used, out, &put);
        at += used;
        replies_add_bytes(connection, out, put);
        if (replies_are_full(connection))
            r = replies_flush(connection);
    }
    if (progress == NBD_TRANSMISSION) {
        enter_transmission(connection);
        if (r == 0)
            return requests_take(connection, in + at, size - at);
    }
    if (progress == NBD_TLS || progress == NBD_CLOSE) {
        connection->state = progress == NBD_TLS ? CONNECTION_TLS : CONNECTION_DRAINING;
        return r; /* what else came in is not honoured */
    }
    connection->unread_ready = r == -EAGAIN && at < size;
    if (at == size || (r < 0 && r != -EAGAIN))
        return r;
    int kept = buffer_store(&connection->unread, in + at, size - at);
    return kept < 0 ? kept : r;
}

static int handshake_receive(struct connection *connection)
{
    size_t want = SCRATCH_IN - buffer_left(&connection->unread), came;
    ssize_t size = connection_receive(connection, want, &came);
    return size < 0 ? (int)size
                    : take_options(connection, connection->loop->scratch->in, (size_t)size);
}

/* Once the acknowledgement is gone.  1: the session is secure. */
static int tls_step(struct connection *connection)
{
    struct transport *transport = &connection->transport;
    struct reason reason;
    char peer[64];
    if (!transport->tls) {
        int r = transport_start_tls(transport, connection->server->credentials);
        if (r < 0)
            return r;
    }
    int r = transport_handshake(transport, &reason);
    if (r == 0) {
        connection->state = CONNECTION_HANDSHAKE;
        return 1;
    }
    if (r == -EPROTO) {
        transport_peer(transport, peer, sizeof peer);
        log_error(connection->server->log, "%s: TLS refused: %s", peer, reason.text);
    }
    return r;
}

/* Throw away what comes in. */
static int linger(struct connection *connection)
{
    struct iovec vector = {connection->loop->scratch->in, SCRATCH_IN};
    ssize_t n = transport_receive(&connection->transport, &vector, 1);
    if (n == 0)
        return -ENOTCONN;
    return n == -EAGAIN ? 0 : n < 0 ? (int)n : 1;
}

/* Steps. */

/* Why it is to be closed.  One that was told to begin TLS, and left instead, or was closed
 * because it could not be told, may have had its STARTTLS taken away on the way here. */
static void tell_end(const struct connection *connection, int r)
{
    char peer[64];
    if (connection->handshake && connection->handshake->wanted_tls &&
        !connection->session.secure) {
        transport_peer(&connection->transport, peer, sizeof peer);
        log_error(connection->server->log,
                  "%s: refused: TLS is required, and it went on in the clear", peer);
    } else if (r != -ENOTCONN || connection->state == CONNECTION_HANDSHAKE) {
        tell(connection, r == -ENOTCONN ? "left during the handshake" : strerror(-r));
    }
}

/* Receive, answer, send.  1: there may be more, 0 or -EAGAIN: wait, else close. */
static int one_step(struct connection *connection)
{
    int r = 0;
    switch (connection->state) {
    case CONNECTION_HANDSHAKE:
        r = handshake_receive(connection);
        break;
    case CONNECTION_TLS:
        return tls_step(connection);
    case CONNECTION_TRANSMISSION:
        r = requests_receive(connection);
        break;
    case CONNECTION_LINGERING:
        return linger(connection);
    case CONNECTION_DRAINING:
    case CONNECTION_CLOSED:
        return -ENOTCONN;
    }
    int sent = replies_flush(connection);
    if (r < 0 && r != -EAGAIN) {
        if (sent != -EAGAIN)
            return r;
        connection->state = CONNECTION_DRAINING; /* what was answered before still goes out */
    }
    if (sent < 0)
        return sent;
    if (connection->state == CONNECTION_DRAINING)
        return -ENOTCONN;
    if (r == 0 && connection->loop->stopping)
        return 1; /* a short receive is likely the last, but now it must be */
    if (connection->loop->effort >= TURN_EFFORT)
        return 1; /* ended early, maybe with more to receive */
    return r > 0 || connection->state == CONNECTION_TLS || requests_are_ready(connection) ||
           transport_has_pending(&connection->transport);
}

void connection_step(struct connection *connection)
{
    int r = replies_resume(connection);
    connection->turn_over = false;
    for (unsigned i = 0; r >= 0 && i < TURN_RECEIVES; i++) {
        r = one_step(connection);
        if (r == 0)
            return;
        if (connection->loop->effort >= TURN_EFFORT)
            break;
    }
    connection->turn_over = r >= 0;
    if (r >= 0 || r == -EAGAIN)
        return;
    tell_end(connection, r);
    connection->state = CONNECTION_CLOSED;
}

void connection_stop(struct connection *connection)
{
    unsigned taken = connection->loop->taken;
    connection->session.shutting_down = true;
    connection_step(connection);
    if (connection->state == CONNECTION_CLOSED || connection->state == CONNECTION_LINGERING)
        return;
    bool in_flight = connection->turn_over || connection->payload.active ||
                     connection->zero.active || replies_wait(connection) ||
                     buffer_any(&connection->unread);
    if (in_flight || connection->loop->taken != taken)
        connection->answered_late = true;
    if (in_flight)
        return;
    connection->state = CONNECTION_CLOSED;
    if (connection->answered_late && transport_shut(&connection->transport))
        connection->state = CONNECTION_LINGERING;
}

uint32_t connection_events(const struct connection *connection)
{
    if (replies_wait(connection))
        return EPOLLOUT;
    if (connection->state == CONNECTION_TLS)
        return transport_events(&connection->transport);
    if (connection->turn_over)
        return EPOLLIN | EPOLLOUT; /* it goes on at once */
    return EPOLLIN;
}
