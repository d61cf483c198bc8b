/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for its connections, and serves those that can go on
 *
 * Each loop has an epoll instance, level-triggered, and a worker (worker.h), which it lends to
 * the connection whose step it is making.  A connection belongs to one loop, and only that loop's
 * thread touches it.  The loop knows a connection by the functions of connection.h.
 *
 * Other threads post to a loop under its lock, and wake it through an eventfd; handle_wakeup
 * (loop.c) is the one place where that is read.  Posted are connections, and the request to stop.
 */

#ifndef NBDRAM_SERVER_SESSION_LOOP_H
#define NBDRAM_SERVER_SESSION_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/session/state.h"

/* The connections of all loops together. */
struct open_connections {
    _Atomic unsigned count; /* relaxed: a number to compare with, which guards nothing */
    int ended_event;        /* eventfd, written whenever a connection has ended */
};

struct loop {
    /* constant after loop_start */
    const struct service *service;
    struct open_connections *open;
    pthread_t thread;
    int epoll;
    int wake_event; /* eventfd, written after something was posted */
    bool may_spin;  /* there is more than one processor */

    pthread_mutex_t lock;           /* guards what is posted: */
    struct connection_list arrived; /* new connections */
    bool stop;                      /* the server stops */

    /* the thread's own */
    struct worker worker;
    struct connection_list connections; /* all that are live */
    struct connection_list line; /* those that wait for a long turn: first come, first served */
    struct connection_list handshaking;   /* those in the handshake, by deadline: oldest first */
    struct connection_list ended;         /* to be destroyed after the current round of events */
    unsigned spins_to_skip, spin_penalty; /* see wait_for_events */
    size_t untidy;                        /* bytes of connections freed since os_memory_tidy */
    int64_t deadline;                     /* of stopping, milliseconds of os_clock_ms */
};

/* Start a loop's thread.  service and open must outlive it.  -errno, and nothing is left
 * behind. */
int loop_start(struct loop *loop, const struct service *service, struct open_connections *open);

/* Called by the main thread: give a connection to the loop, which owns it from here on, and
 * subtracts it from `open` when it has ended. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* Called by the main thread: ask the loop to stop; and wait until it has, and free what it
 * has. */
void loop_ask_to_stop(struct loop *loop);
void loop_join(struct loop *loop);

#endif
