/* SPDX-License-Identifier: BSD-3-Clause */

/* loop - a thread that waits for events of its connections, and serves the connections
 *
 * Each loop has a level-triggered epoll instance and a worker (worker.h).  The loop lends the
 * worker to one connection after the other, each time for one call of connection_step.  A
 * connection belongs to one loop, and only that loop's thread touches the connection.  loop.c
 * uses these parts of a connection: the functions of connection.h, the descriptors, and the last
 * fields of struct connection, which are for loop.c only (state.h).
 *
 * A turn is the time for which a connection is served (turn.h).  A turn is cheap if it took at
 * most TURN_CHEAP_NS, else it is costly.  If one of the last two turns of a connection was cheap,
 * the connection gets a short turn as soon as epoll reports an event of it.  All other
 * connections wait in a line, and get long turns.  Between two calls of epoll_wait the loop
 * serves the line for the length of one long turn.  A single costly turn does not send a
 * connection to the line, because a turn is also costly if the system gave the processor to
 * another process meanwhile.
 *
 * Connections whose handshake is not complete wait in a second line, because one step of a TLS
 * handshake takes longer than a turn.  The loop serves the second line, too, for the length of
 * one long turn between two calls of epoll_wait.  It destroys connections that have ended for as
 * long.  So a client with one request in flight waits for the length of three long turns, even if
 * many other clients are busy.
 *
 * Other threads can send a loop a new connection, or the order to stop.  They change a field that
 * the loop's lock guards, and then write to the loop's eventfd.  handle_wakeup (loop.c) receives
 * both kinds of messages, and parked requests that return (park.h).
 */

#ifndef NBDRAM_SERVER_SESSION_LOOP_H
#define NBDRAM_SERVER_SESSION_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/session/peers.h"
#include "server/session/state.h"

/* What all loops share: the number of open connections, and the peers that hold them. */
struct open_connections {
    _Atomic unsigned count; /* number of open connections; relaxed order is enough */
    _Atomic size_t freed;   /* memory of connections freed since server_tidy; relaxed order */
    int ended_event;        /* an eventfd; a loop writes to it when a connection has ended */
    struct peers peers;     /* the peers that hold connections; empty without --max-per-peer */
};

struct loop {
    /* These fields are constant after loop_start. */
    const struct service *service;
    struct open_connections *open;
    pthread_t thread;
    int epoll;
    int wake_event; /* an eventfd that wakes the loop after a change of `arrived` or `stop` */
    bool may_spin;  /* the machine has more than one processor */

    pthread_mutex_t lock;           /* guards `arrived` and `stop` */
    struct connection_list arrived; /* new connections from the main thread */
    bool stop;                      /* the main thread has asked the loop to stop */

    /* Only the loop's thread uses these fields. */
    struct worker worker;
    struct connection_list connections; /* all connections that have not ended */
    struct connection_list line; /* connections waiting for a long turn, longest wait first */
    struct connection_list newcomers;   /* like `line`, but for connections in the handshake */
    struct connection_list handshaking; /* connections with handshake deadline, earliest first */
    struct connection_list idling;      /* connections with idle deadline, earliest first */
    struct connection_list ended;       /* connections to destroy after this round of events */
    /* The time (os_clock_ms) when the loop last asked epoll for events.  It is set only if
     * --idle-timeout is given. */
    int64_t asked;
    unsigned spins_to_skip, spin_penalty; /* the comment on SPIN_PENALTY_MAX explains both */
    int64_t deadline; /* when a stopping loop closes all its connections (os_clock_ms) */
};

/* Start a loop and its thread.  `service`, `open` and `park` have to exist as long as the loop.
 * Returns 0 or -errno.  After an error nothing is left to free. */
int loop_start(struct loop *loop, const struct service *service, struct open_connections *open,
               struct park *park);

/* Give a connection to a loop, which then owns the connection.  Called by the main thread.  When
 * the connection has ended, the loop subtracts 1 from open->count. */
void loop_hand_over(struct loop *loop, struct connection *connection);

/* Ask a loop to stop, without waiting for it.  Called by the main thread. */
void loop_ask_to_stop(struct loop *loop);

/* Wait until the thread of a loop has ended, and free everything that the loop owns, except its
 * counters.  Called by the main thread after loop_ask_to_stop. */
void loop_join(struct loop *loop);

#endif
