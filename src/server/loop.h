/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for its connections, and makes them go on
 *
 * One epoll instance each.  A connection belongs to one loop, and is touched by its thread alone;
 * what it needs for the moment of a step (scratch) it borrows from the loop, so that an idle
 * connection costs a few hundred bytes and nothing else.
 */

#ifndef NBDRAM_SERVER_LOOP_H
#define NBDRAM_SERVER_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "nbd/protocol.h"

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
    struct connection_list greeting; /* those in the handshake, oldest first */
    struct connection_list ended;    /* to be freed when the events at hand are worked off */
    bool stopping;
    int64_t deadline; /* of stopping, milliseconds of os_clock */
};

/* -errno, and nothing is left behind. */
int loop_start(struct loop *loop, struct server *server);

/* From the main thread: hand a connection over; it is the loop's from here on. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* From the main thread: ask the loop to stop; wait until it has. */
void loop_ask_to_stop(struct loop *loop);
void loop_join(struct loop *loop);

#endif
