/* SPDX-License-Identifier: BSD-3-Clause */

#include "peer.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "demand.h"
#include "os/thread.h"
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

/* What loop_start and welcome do (loop.c). */
static void enter_loop(struct peer *peer)
{
    static struct scratch *scratch;
    if (!scratch)
        scratch = calloc(1, sizeof *scratch);
    DEMAND(scratch, "no memory");
    peer->loop = (struct loop){.server = &peer->server, .scratch = scratch};
    TAILQ_INIT(&peer->loop.connections);
    TAILQ_INIT(&peer->loop.greeting);
    peer->connection->loop = &peer->loop;
    TAILQ_INSERT_TAIL(&peer->loop.connections, peer->connection, link);
    TAILQ_INSERT_TAIL(&peer->loop.greeting, peer->connection, greeting);
}

static void step(struct peer *peer)
{
    peer->loop.effort = 0;
    /* With every other input turns are over as soon as the clock is looked at. */
    peer->loop.step_began = peer->size % 2 ? os_clock_fine() : 0;
    peer->loop.taken = 0;
    if (peer->loop.stopping)
        connection_stop(peer->connection);
    else
        connection_step(peer->connection);
    DEMAND(peer->loop.scratch->out_used == 0 && peer->loop.scratch->read_count == 0,
           "a step left something to others");
}

void peer_connect(struct peer *peer)
{
    int fd = peer_descriptor();
    peer_current = peer;
    int r = connection_create(&peer->server, fd, fd, &peer->connection);
    DEMAND(r == 0, "%d", r);
    enter_loop(peer);
    step(peer);
}

/* What epoll would tell: bytes that the system has, or the end.  What TLS has pulled it does not
 * see. */
static bool is_readable(const struct peer *peer)
{
    size_t seen = peer->secure ? peer->pulled : peer->at;
    size_t most = peer->secure || peer->tls_at > peer->open ? peer->open : peer->tls_at;
    bool greets = peer->connection->state == CONNECTION_TLS;
    return greets || seen < most || peer->open == peer->size;
}

bool peer_is_closed(const struct peer *peer)
{
    return peer->connection->state == CONNECTION_CLOSED;
}

bool peer_run(struct peer *peer)
{
    for (unsigned steps = 0; !peer_is_closed(peer); steps++) {
        uint32_t events = connection_events(peer->connection);
        DEMAND(events, "it waits for nothing");
        DEMAND(steps < STEPS_MAX, "it does not come to rest");
        if (!(events & EPOLLOUT) && !(events & EPOLLIN && is_readable(peer))) {
            DEMAND(!replies_wait(peer->connection), "replies wait and nobody looks after them");
            DEMAND(peer->pulled <= peer->at, "bytes wait inside TLS");
            return true;
        }
        step(peer);
    }
    return false;
}

void peer_stop(struct peer *peer)
{
    peer->loop.stopping = true;
    while (!peer_is_closed(peer)) {
        step(peer);
        if (!peer->connection->turn_over)
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
