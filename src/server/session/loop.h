/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for its connections, and makes them go on
 *
 * One epoll instance each.  A connection belongs to one loop, and is touched by its thread alone;
 * what it needs for the moment of a step (scratch) it borrows from the loop, so that an idle
 * connection costs a few hundred bytes and nothing else.
 */

#ifndef NBDRAM_SERVER_SESSION_LOOP_H
#define NBDRAM_SERVER_SESSION_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "nbd/protocol.h"

/* Effort, from which on it is another connection's turn: some milliseconds. */
#define TURN_EFFORT (16u << 20)
#define LOOP_LIGHT (16u << 10) /* bytes that a request of no weight moves at most */

struct connection;
struct scratch;
struct server;
TAILQ_HEAD(connection_list, connection);

/* What was done, counted by one thread and read by another: relaxed. */
struct counters {
    _Atomic uint64_t requests[NBD_COMMANDS];
    _Atomic uint64_t failed;   /* requests answered with an error */
    _Atomic uint64_t received; /* bytes of payload, written to the disk */
    _Atomic uint64_t sent;     /* bytes of payload, read from it, holes that were told included */
};

struct loop {
    /* constant after start */
    struct server *server;
    pthread_t thread;
    int epoll, wake;
    struct scratch *scratch;

    struct counters counters;

    pthread_mutex_t lock;           /* guards what follows */
    struct connection_list arrived; /* from the main thread; `wake` tells */
    bool stop;

    /* the thread's own */
    struct connection_list connections;
    struct connection_list greeting;   /* those in the handshake, oldest first */
    struct connection_list ended;      /* to be freed when the events at hand are worked off */
    uint64_t effort;                   /* of the step being made: bytes of the disk changed */
    int64_t step_began;                /* nanoseconds of os_clock_fine */
    unsigned untimed;                  /* requests since that was last looked at */
    unsigned taken;                    /* requests since the last wait (loop_take) */
    unsigned skip_looks, look_penalty; /* see wait_for_events */
    size_t untidy;                     /* bytes of connections freed since os_memory_tidy */
    bool may_look;                     /* there is more than one processor */
    bool stopping;
    int64_t deadline; /* of stopping, milliseconds of os_clock */
};

/* Only the loop's own thread counts, so it need not be one step. */
static inline void loop_count(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + n, memory_order_relaxed);
}

/* A request was taken in that moves so many bytes; a large one counts as two. */
static inline void loop_take(struct loop *loop, uint64_t bytes)
{
    loop->taken += bytes > LOOP_LIGHT ? 2 : 1;
}

/* -errno, and nothing is left behind. */
int loop_start(struct loop *loop, struct server *server);

/* From the main thread: hand a connection over; it is the loop's from here on. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* From the main thread: ask the loop to stop; wait until it has. */
void loop_ask_to_stop(struct loop *loop);
void loop_join(struct loop *loop);

#endif
