/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for its connections, and serves those that can go on
 *
 * Each loop has an epoll instance, level-triggered, and a worker (worker.h), which it lends to
 * each connection for the time of a step.  A connection belongs to one loop, and only that loop's
 * thread touches it.  A loop uses the functions of connection.h, the descriptors, and the fields
 * that state.h sets aside for it; it knows nothing else of a connection.
 *
 * Turns (turn.h).  A connection whose last turn was cheap gets a short turn as soon as epoll
 * reports it.  All others wait in a line, and between two calls of epoll_wait the line is served
 * for the time of one long turn.  So a client that waits for each of its answers waits for one
 * long turn at most, however many others are busy.
 *
 * Other threads post to a loop: they put something where its lock guards it, and write to its
 * eventfd.  handle_wakeup (loop.c) receives all posts: new connections, and the request to stop.
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
    _Atomic unsigned count; /* relaxed: a number to compare with, which guards nothing */
    int ended_event;        /* eventfd, written when a connection has ended */
    struct peers peers;     /* of the connections that have one */
};

struct loop {
    /* constant after loop_start */
    const struct service *service;
    struct open_connections *open;
    pthread_t thread;
    int epoll;
    int wake_event; /* eventfd, written to after something was posted */
    bool may_spin;  /* the machine has more than one processor */

    pthread_mutex_t lock; /* guards what is posted, which is: */
    struct connection_list arrived;
    bool stop; /* the server stops */

    /* the thread's own */
    struct worker worker;
    struct connection_list connections;   /* all that have not ended */
    struct connection_list line;          /* those that wait for a long turn, in this order */
    struct connection_list handshaking;   /* those that have a deadline, the earliest first */
    struct connection_list idling;        /* the others that have one, the earliest first */
    struct connection_list ended;         /* to be destroyed after this round of events */
    int64_t asked;                        /* when epoll was asked, if clients may be idle */
    unsigned spins_to_skip, spin_penalty; /* see wait_for_events */
    size_t untidy;                        /* bytes of connections freed since os_memory_tidy */
    int64_t deadline;                     /* of stopping, milliseconds of os_clock_ms */
};

/* Start a loop and its thread.  service and open have to outlive it.  On an error (-errno)
 * nothing is left behind. */
int loop_start(struct loop *loop, const struct service *service, struct open_connections *open);

/* Called by the main thread: give a connection to the loop.  The loop owns it from here on, and
 * subtracts it from open->count when it has ended. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* Called by the main thread: ask the loop to stop. */
void loop_ask_to_stop(struct loop *loop);

/* Called by the main thread: wait until a loop that was asked to stop has ended, and free what it
 * holds, except for its counters. */
void loop_join(struct loop *loop);

#endif
