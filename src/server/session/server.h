/* SPDX-License-Identifier: BSD-3-Clause */

/* server - one disk, served to many clients by a few event loops
 *
 * The main thread accepts connections, and gives them to the loops in turn.  From then on only
 * the thread of its loop touches a connection (loop.h).
 *
 * Threads: everything here is called by the main thread.
 */

#ifndef NBDRAM_SERVER_SESSION_SERVER_H
#define NBDRAM_SERVER_SESSION_SERVER_H

#include <stdint.h>

#include "server/session/loop.h"
#include "server/session/service.h"

struct server {
    struct service service; /* filled in by the caller before server_start; then constant */

    struct loop *loops; /* the loops that have started; constant until server_free */
    unsigned loop_count;
    struct open_connections open;
    uint64_t accepted; /* connections accepted since the start */
};

/* Start `loops` loops, each with its own thread.  To be called after the last fork.  All fields
 * except `service` must be zero.  Returns 0 or -errno.  On an error everything is undone. */
int server_start(struct server *server, unsigned loops);

/* The number of connections that are open now. */
unsigned server_connections(const struct server *server);

/* Accept the connections that wait at a listening descriptor.  Returns
 *
 *     0        no more connections wait, or TURN_ACCEPTS connections were accepted
 *     -EAGAIN  max_connections are open: the next connection has to wait until one of them has
 *              ended (open.ended_event)
 *     -errno   (any other) the system has no descriptor or no memory for the next connection */
int server_accept(struct server *server, int listener);

/* Serve a client over two descriptors: standard input and output (-s), or a socket that is both
 * in and out.  Returns 0 or -errno.  If the result is 0, the server owns the descriptors.  On an
 * error the caller keeps them. */
int server_adopt(struct server *server, int in, int out);

/* Stop the loops, and wait until all of them have ended.  The loops complete the requests in
 * flight, and refuse all other requests with ESHUTDOWN.  Clients get 0.7 s to read their answers,
 * and to send the rest of a request, before they are disconnected.  The counters keep their
 * numbers. */
void server_stop(struct server *server);

/* Free the loops and their counters.  To be called after server_stop. */
void server_free(struct server *server);

#endif
