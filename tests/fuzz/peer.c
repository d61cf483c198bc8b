/* SPDX-License-Identifier: BSD-3-Clause */

#include "peer.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "demand.h"
#include "server/session/replies.h"

#define STEPS_MAX 1000000u

struct peer *peer_current;

int peer_descriptor(void)
{
    static int fds[2] = {-1, -1};
    if (fds[0] < 0) {
        DEMAND(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0, "socketpair");
        signal(SIGPIPE, SIG_IGN);
    }
    return fds[0];
}

/* Does what loop_start and add_connection do (loop.c). */
static void attach(struct peer *peer)
{
    static struct scratch *scratch;
    if (!scratch)
        scratch = calloc(1, sizeof *scratch);
    DEMAND(scratch, "no memory");
    scratch_clear_out(scratch);
    peer->worker = (struct worker){.scratch = scratch};
    connection_attach(peer->connection, &peer->worker);
}

static void step(struct peer *peer)
{
    /* Half of the inputs: the turn is over as soon as somebody looks at the clock. */
    turn_begin(&peer->worker.turn, peer->size % 2 == 0 ? 0 : TURN_LONG_NS);
    peer->worker.requests_taken = 0;
    if (peer->worker.stopping)
        connection_stop(peer->connection);
    else
        connection_step(peer->connection);
    DEMAND(scratch_is_empty(peer->worker.scratch), "a step left something to others");
}

void peer_connect(struct peer *peer)
{
    int fd = peer_descriptor();
    peer_current = peer;
    int r = connection_create(&peer->service, fd, fd, &peer->connection);
    DEMAND(r == 0, "%d", r);
    attach(peer);
    step(peer);
}

/* What epoll would report: bytes that the system has, or the end of the stream, but not bytes
 * that TLS has pulled. */
static bool is_readable(const struct peer *peer)
{
    size_t seen = peer->secure ? peer->pulled : peer->at;
    size_t most = peer->secure || peer->tls_at > peer->open ? peer->open : peer->tls_at;
    bool greets = peer->connection->state == CONNECTION_TLS;
    return greets || seen < most || peer->open == peer->size;
}

bool peer_is_closed(const struct peer *peer)
{
    return connection_is_closed(peer->connection);
}

bool peer_run(struct peer *peer)
{
    for (unsigned steps = 0; !peer_is_closed(peer); steps++) {
        uint32_t events = connection_events(peer->connection);
        DEMAND(events || connection_wants_turn(peer->connection), "it waits for nothing");
        DEMAND(steps < STEPS_MAX, "it does not come to rest");
        if (!connection_wants_turn(peer->connection) && !(events & EPOLLOUT) &&
            !(events & EPOLLIN && is_readable(peer))) {
            DEMAND(!replies_are_waiting(peer->connection),
                   "replies wait and nobody looks after them");
            DEMAND(peer->pulled <= peer->at, "bytes wait inside TLS");
            return true;
        }
        step(peer);
    }
    return false;
}

void peer_stop(struct peer *peer)
{
    peer->worker.stopping = true;
    while (!peer_is_closed(peer)) {
        step(peer);
        if (!connection_wants_turn(peer->connection))
            return;
    }
}

void peer_leave(struct peer *peer)
{
    DEMAND(!peer->closed, "closed too early");
    connection_destroy(peer->connection);
    DEMAND(peer->closed, "the descriptor was left behind");
    peer_current = NULL;
}
