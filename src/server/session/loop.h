/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for events of its connections, and serves the connections
 *
 * Each loop has a level-triggered epoll instance and a worker (worker.h).  The loop lends the
 * worker to one connection after the other, each time for one step.  A connection belongs to one
 * loop, and only that loop's thread touches the connection.  loop.c uses these parts of a
 * connection: the functions of connection.h, the descriptors, and the last fields of struct
 * connection, which are for loop.c only (state.h).
 *
 * Turns (turn.h).  If one of the last two turns of a connection was cheap, the connection gets a
 * short turn as soon as epoll reports an event of it.  All other connections wait in a line.
 * Between two calls of epoll_wait the line is served for the time of one long turn.  So a client
 * with one request in flight is delayed by one long turn at most, however many other clients are
 * busy.  A single costly turn does not count, because the system may have taken the processor
 * away during that turn.
 *
 * Connections in the handshake phase wait in a line of their own, because a step of a TLS
 * handshake takes longer than a turn.  Each line is served once between two calls of epoll_wait.
 *
 * Other threads post to a loop: they change a field that the loop's lock guards, and then write
 * to the loop's eventfd.  There are two kinds of posts: a new connection, and the order to stop.
 * handle_wakeup (loop.c) receives both.
 */

#ifndef NBDRAM_SERVER_SESSION_LOOP_H
#define NBDRAM_SERVER_SESSION_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/session/peers.h"
#include "server/session/state.h"

/* The connections of all loops together. */
struct open_connections {
    _Atomic unsigned count; /* number of connections; relaxed order: the count guards nothing */
    int ended_event;        /* eventfd, written when a connection has ended */
    struct peers peers;     /* the peers that hold connections; empty without --max-per-peer */
};

struct loop {
    /* These fields are constant after loop_start. */
    const struct service *service;
    struct open_connections *open;
    pthread_t thread;
    int epoll;
    int wake_event; /* eventfd, written after each post to the loop */
    bool may_spin;  /* the machine has more than one processor */

    pthread_mutex_t lock;           /* guards `arrived` and `stop` */
    struct connection_list arrived; /* new connections that the main thread has posted */
    bool stop;                      /* the server stops */

    /* Only the loop's thread uses these fields. */
    struct worker worker;
    struct connection_list connections; /* all connections that have not ended */
    struct connection_list line; /* connections waiting for a long turn, longest wait first */
    struct connection_list newcomers;   /* the same for connections in the handshake phase */
    struct connection_list handshaking; /* handshakes with deadlines, earliest deadline first */
    struct connection_list idling;      /* clients with idle deadlines, earliest deadline first */
    struct connection_list ended;       /* connections to destroy after this round of events */
    /* When epoll was last asked for events, time of os_clock_ms.  Only set for --idle-timeout. */
    int64_t asked;
    unsigned spins_to_skip, spin_penalty; /* explained at SPIN_PENALTY_MAX in loop.c */
    size_t untidy;    /* bytes freed with connections since the last os_memory_tidy */
    int64_t deadline; /* when a stopping loop closes all connections, time of os_clock_ms */
};

/* Start a loop and its thread.  service and open have to outlive the loop.  Returns 0 or -errno.
 * On an error everything is undone. */
int loop_start(struct loop *loop, const struct service *service, struct open_connections *open);

/* Called by the main thread: give a connection to the loop, which then owns the connection.  When
 * the connection has ended, the loop subtracts 1 from open->count. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* Called by the main thread: ask the loop to stop. */
void loop_ask_to_stop(struct loop *loop);

/* Called by the main thread after loop_ask_to_stop: wait for the end of the loop's thread, and
 * free everything that the loop owns, except its counters. */
void loop_join(struct loop *loop);

#endif
