/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for events of its connections, and serves the connections
 *
 * Each loop has an epoll instance, level-triggered, and a worker (worker.h), which it lends to
 * each connection for the time of a step.  A connection belongs to one loop, and only that loop's
 * thread touches it.  Of a connection, a loop uses only the functions of connection.h, the
 * descriptors, and the last fields of struct connection, which are for loop.c only (state.h).
 *
 * Turns (turn.h).  A connection whose last turn was cheap gets a short turn as soon as epoll
 * reports it.  All others wait in a line, and between two calls of epoll_wait the line is served
 * for the time of one long turn.  So a client that waits for each of its answers waits for one
 * long turn at most, however many others are busy.
 *
 * Other threads post to a loop: they change a field that the loop's lock guards, and write to the
 * loop's eventfd.  handle_wakeup (loop.c) receives all posts: new connections, and the request to
 * stop.
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
    _Atomic unsigned count; /* read and changed with relaxed order, because it guards nothing */
    int ended_event;        /* eventfd, written when a connection has ended */
    struct peers peers;     /* of the connections that have one */
};

struct loop {
    /* These fields are constant after loop_start. */
    const struct service *service;
    struct open_connections *open;
    pthread_t thread;
    int epoll;
    int wake_event; /* eventfd, written after each post */
    bool may_spin;  /* the machine has more than one processor */

    pthread_mutex_t lock;           /* guards `arrived` and `stop` */
    struct connection_list arrived; /* new connections that the main thread has posted */
    bool stop;                      /* the server stops */

    /* Only the loop's thread uses these fields. */
    struct worker worker;
    struct connection_list connections; /* all connections that have not ended */
    struct connection_list line;        /* connections that wait for a long turn, in order */
    struct connection_list handshaking; /* handshakes with a deadline, the earliest first */
    struct connection_list idling;      /* others with a deadline, the earliest first */
    struct connection_list ended;       /* connections to destroy after this round of events */
    int64_t asked; /* when epoll was last asked for events, os_clock_ms; set for --idle-timeout */
    unsigned spins_to_skip, spin_penalty; /* see SPIN_PENALTY_MAX in loop.c */
    size_t untidy;                        /* bytes of connections freed since os_memory_tidy */
    int64_t deadline; /* when a stopping loop closes all connections, time of os_clock_ms */
};

/* Start a loop and its thread.  service and open have to outlive the loop.  Returns 0 or -errno.
 * On an error everything is undone. */
int loop_start(struct loop *loop, const struct service *service, struct open_connections *open);

/* Called by the main thread: give a connection to the loop.  From here on the loop owns the
 * connection.  When the connection has ended, the loop subtracts 1 from open->count. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* Called by the main thread: ask the loop to stop. */
void loop_ask_to_stop(struct loop *loop);

/* Called by the main thread: wait until a loop that was asked to stop has ended, and free
 * everything that it owns, except for its counters. */
void loop_join(struct loop *loop);

#endif
