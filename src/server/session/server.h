/* SPDX-License-Identifier: BSD-3-Clause */

/* server - one disk, served to many clients by a few event loops
 *
 * The main thread accepts connections, and gives each to one of the loops, in turn.  From then on
 * only the thread of its loop touches a connection (loop.h).
 *
 * Threads: everything here is called by the main thread.
 */

#ifndef NBDRAM_SERVER_SESSION_SERVER_H
#define NBDRAM_SERVER_SESSION_SERVER_H

#include <stdint.h>

#include "server/session/loop.h"
#include "server/session/service.h"

struct server {
    struct service service; /* set by the caller before server_start; then constant */

    struct loop *loops; /* loops that have started; constant until server_free */
    unsigned loop_count;
    struct open_connections open;
    uint64_t accepted; /* connections accepted since the start */
};

/* Start `loops` loops, each with its thread.  To be called after the last fork.  All fields but
 * `service` must be zero.  Returns 0 or -errno.  On an error everything is undone. */
int server_start(struct server *server, unsigned loops);

/* The number of connections that are open now. */
unsigned server_connections(const struct server *server);

/* Accept the connections that wait at a listening descriptor.  Returns
 *
 *     0        no more connections wait, or enough for one turn were accepted
 *     -EAGAIN  max_connections are open; further connections have to wait until an open one has
 *              ended (open.ended_event)
 *     -errno   (any other) the system has no descriptor or memory for the next connection, which
 *              goes on waiting */
int server_accept(struct server *server, int listener);

/* Serve a client over two descriptors: standard input and output (-s), or a socket, which is both
 * in and out.  Returns 0, and the server owns the descriptors; or -errno, and the descriptors
 * stay the caller's. */
int server_adopt(struct server *server, int in, int out);

/* Stop the loops: they complete the requests in flight, and answer all others with ESHUTDOWN.
 * Returns when the loops have ended.  Clients that do not read their answers, or do not send the
 * rest of a request, are disconnected after 0.7 s.  The counters keep their numbers. */
void server_stop(struct server *server);

/* Free the loops and their counters.  To be called after server_stop. */
void server_free(struct server *server);

#endif
