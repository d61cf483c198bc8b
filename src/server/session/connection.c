/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "os/check.h"
#include "server/host/log.h"
#include "server/session/commands.h"
#include "server/session/inbox.h"
#include "server/session/negotiation.h"
#include "server/session/replies.h"
#include "text/reason.h"

/* The estimated memory of a TLS session, in bytes.  GnuTLS has no function that returns the real
 * number. */
#define TLS_MEMORY (32u << 10)

int connection_create(const struct service *service, int in, int out, struct connection **made)
{
    uint8_t greeting[NBD_GREETING_SIZE];
    struct wire_writer writer = wire_write(greeting, sizeof greeting);
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return -ENOMEM;
    connection->service = service;
    connection->handshake = malloc(sizeof *connection->handshake);
    int r = connection->handshake ? 0 : -ENOMEM;
    if (r == 0) {
        nbd_handshake_begin(connection->handshake, &service->export, &service->policy,
                            &connection->session, &writer);
        r = buffer_store(&connection->unsent, greeting, sizeof greeting);
    }
    if (r == 0)
        r = transport_init(&connection->transport, in, out, service->keepalive);
    if (r < 0) {
        buffer_drop(&connection->unsent);
        free(connection->handshake);
        free(connection);
        return r;
    }
    *made = connection;
    return 0;
}

/* Verify the rules that state.h lists for a connection.  If a rule is broken, os_check_failed is
 * called.  In a build without checks (OS_CHECK_ENABLED) the function does nothing.  Called
 * whenever the connection was served, and before it is destroyed. */
static void check_invariants(const struct connection *connection)
{
    struct reason reason;
    if (OS_CHECK_ENABLED && connection_check(connection, &reason) < 0)
        os_check_failed(reason.text);
}

void connection_destroy(struct connection *connection)
{
    check_invariants(connection);
    if (connection->worker)
        park_abandon(connection->worker->park, &connection->parked);
    transport_close(&connection->transport);
    buffer_drop(&connection->unread);
    buffer_drop(&connection->unsent);
    free(connection->waiting);
    free(connection->handshake);
    free(connection);
}

void connection_attach(struct connection *connection, struct worker *worker)
{
    connection->worker = worker;
    park_owner_init(&connection->parked, connection, &worker->returns);
}

bool connection_is_handshaking(const struct connection *connection)
{
    return connection->handshake;
}

bool connection_is_parked(const struct connection *connection)
{
    return connection->parked.count > 0;
}

void connection_hold(struct connection *connection)
{
    if (connection->state == CONNECTION_TRANSMISSION)
        connection->state = CONNECTION_HELD;
}

bool connection_is_closed(const struct connection *connection)
{
    return connection->state == CONNECTION_CLOSED;
}

void connection_close(struct connection *connection)
{
    connection->state = CONNECTION_CLOSED;
}

void connection_expire(struct connection *connection)
{
    const struct service *service = connection->service;
    char peer[64];
    transport_peer(&connection->transport, peer, sizeof peer);
    if (connection_is_handshaking(connection))
        log_error(service->log, "%s: no handshake within %u seconds", peer,
                  service->timeout_seconds);
    else
        log_error(service->log, "%s: idle for %u seconds", peer, service->idle_seconds);
    connection_close(connection);
}

size_t connection_memory(const struct connection *connection)
{
    return sizeof *connection + sizeof *connection->handshake + connection->unread.size +
           connection->unsent.size + connection->waiting_count * sizeof *connection->waiting +
           (connection->transport.tls ? TLS_MEMORY : 0);
}

/* The functions in this section serve a connection during its turn. */

/* Log why a connection ends.  `r` is the -errno that ended it.  If the stream ended (-ENOTCONN)
 * after the handshake, nothing is logged.  Other ends are logged if -v is given.
 *
 * One end is always logged, as an error, so that the operator sees it: the server requires TLS,
 * but the client did not begin TLS.  An attacker may have removed the client's STARTTLS. */
static void log_end(const struct connection *connection, int r)
{
    char peer[64];
    bool stayed_in_the_clear =
        connection->handshake && connection->handshake->wanted_tls && !connection->session.secure;
    bool is_usual = r == -ENOTCONN && connection->state != CONNECTION_HANDSHAKE;
    if (!stayed_in_the_clear && (is_usual || !log_wants_debug(connection->service->log)))
        return;
    transport_peer(&connection->transport, peer, sizeof peer);
    if (stayed_in_the_clear)
        log_error(connection->service->log,
                  "%s: refused: TLS is required, and it went on in the clear", peer);
    else
        log_debug(connection->service->log, "%s: %s", peer,
                  r == -ENOTCONN ? "left during the handshake" : strerror(-r));
}

/* Receive bytes and throw them away.  Returns 1 if bytes were received, and 0 if no bytes have
 * arrived.  At the end of the stream, returns -errno. */
static int discard_input(struct connection *connection)
{
    struct iovec vector = {connection->worker->scratch->in, SCRATCH_IN};
    ssize_t n = transport_receive(&connection->transport, &vector, 1);
    if (n == 0)
        return -ENOTCONN;
    return n == -EAGAIN ? 0 : n < 0 ? (int)n : 1;
}

/* Whether the state has changed to one in which step_once does something else than receive. */
static bool needs_another_step(const struct connection *connection)
{
    return connection->state != CONNECTION_HANDSHAKE &&
           connection->state != CONNECTION_TRANSMISSION;
}

/* Receive once, process the bytes that have arrived, and send the replies.  Returns
 *
 *     1             the caller has to call again, because there is possibly more to do
 *     0 or -EAGAIN  the connection has to wait (connection_events)
 *     -errno        (any other) the connection has to be closed */
static int receive_and_reply(struct connection *connection)
{
    int r = inbox_receive(connection);
    int sent = replies_flush(connection);
    if (r < 0 && r != -EAGAIN) {
        if (sent != -EAGAIN && !connection_is_parked(connection))
            return r;
        connection->state = CONNECTION_DRAINING; /* send the kept replies before closing */
    }
    if (sent < 0)
        return sent;
    /* If r is 0, probably no more bytes have arrived.  While the server is stopping, receive once
     * more to be certain. */
    if (r == 0 && connection->worker->stopping)
        return 1;
    return r > 0 || needs_another_step(connection) || inbox_is_ready(connection) ||
           transport_has_pending(&connection->transport);
}

/* Answer the parked requests that have finished.  Returns 1 if the connection is not held any
 * more, 0 if other parked requests have to return first, or a negative result of replies_flush.
 * -ENOTCONN means that nothing is left to be answered in the state DRAINING. */
static int answer_parked(struct connection *connection)
{
    int r = 0;
    while (r == 0 && !TAILQ_EMPTY(&connection->parked.finished)) {
        if (replies_are_full(connection))
            r = replies_flush(connection);
        else
            commands_end_parked(connection);
    }
    if (r == 0)
        r = replies_flush(connection);
    if (r < 0)
        return r;
    if (connection->state == CONNECTION_DRAINING)
        return connection_is_parked(connection) ? 0 : -ENOTCONN;
    return connection->state == CONNECTION_TRANSMISSION;
}

static int step_once(struct connection *connection)
{
    switch (connection->state) {
    case CONNECTION_HANDSHAKE:
    case CONNECTION_TRANSMISSION:
        return receive_and_reply(connection);
    case CONNECTION_TLS:
        return negotiation_secure(connection);
    case CONNECTION_LINGERING:
        return discard_input(connection);
    case CONNECTION_HELD:
    case CONNECTION_DRAINING:
        return answer_parked(connection);
    case CONNECTION_CLOSED:
        break;
    }
    return -ENOTCONN;
}

static void make_turn(struct connection *connection)
{
    struct turn *turn = &connection->worker->turn;
    int r = replies_resume(connection);
    while (r >= 0 && !turn_is_over(turn)) {
        r = step_once(connection);
        turn_spend(turn, TURN_CALL_BYTES);
        if (r == 0)
            break;
    }
    connection->wants_turn = turn_is_over(turn) && (r >= 0 || r == -EAGAIN);
    if (r >= 0 || r == -EAGAIN)
        return;
    log_end(connection, r);
    connection_close(connection);
}

void connection_step(struct connection *connection)
{
    make_turn(connection);
    check_invariants(connection);
}

static bool is_in_flight(const struct connection *connection)
{
    return connection->wants_turn || connection->payload.active || connection->zeroing.active ||
           connection_is_parked(connection) || replies_are_waiting(connection) ||
           !buffer_is_empty(&connection->unread);
}

void connection_stop(struct connection *connection)
{
    unsigned taken = connection->worker->requests_taken;
    connection->session.shutting_down = true;
    connection_step(connection);
    if (connection->state == CONNECTION_CLOSED || connection->state == CONNECTION_LINGERING)
        return;
    bool in_flight = is_in_flight(connection);
    if (in_flight || connection->worker->requests_taken != taken)
        connection->answered_late = true;
    if (in_flight)
        return;
    connection_close(connection);
    if (connection->answered_late && transport_shut(&connection->transport))
        connection->state = CONNECTION_LINGERING;
}

bool connection_wants_turn(const struct connection *connection)
{
    return connection->wants_turn;
}

bool connection_is_securing(const struct connection *connection)
{
    return connection->state == CONNECTION_TLS;
}

/* In HELD and DRAINING, only the return of parked requests gives work to do. */
__attribute__((noinline)) static uint32_t events_of_state(const struct connection *connection)
{
    if (connection->state == CONNECTION_TLS)
        return transport_events(&connection->transport);
    if (connection->state == CONNECTION_HELD || connection->state == CONNECTION_DRAINING)
        return 0;
    return EPOLLIN;
}

uint32_t connection_events(const struct connection *connection)
{
    if (replies_are_waiting(connection))
        return EPOLLOUT;
    return connection->state == CONNECTION_TRANSMISSION ? EPOLLIN : events_of_state(connection);
}
