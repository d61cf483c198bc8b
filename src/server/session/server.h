/* SPDX-License-Identifier: BSD-3-Clause */

/* server - one disk, served to many clients by a few event loops
 *
 * The main thread accepts connections, and gives them to the loops in round-robin order.  From
 * then on only the thread of the loop uses the connection (loop.h).
 *
 * Threads: everything here is called by the main thread.
 */

#ifndef NBDRAM_SERVER_SESSION_SERVER_H
#define NBDRAM_SERVER_SESSION_SERVER_H

#include <stdint.h>

#include "server/session/loop.h"
#include "server/session/service.h"

struct server {
    struct service service; /* set by the caller before server_start, and then constant */

    struct loop *loops; /* an array of the started loops; constant until server_free */
    unsigned loop_count;
    struct open_connections open;
    struct park park;  /* requests of all loops that have to wait */
    uint64_t accepted; /* number of connections that were accepted since the start */
};

/* Start the given number of loops.  Each loop gets its own thread, so the process must not fork
 * afterwards.  All fields except `service` must be zero.  Returns 0 or -errno.  After an error
 * nothing is left to free. */
int server_start(struct server *server, unsigned loops);

/* Returns the number of connections that are open now. */
unsigned server_connections(const struct server *server);

/* Make malloc return the memory of ended connections to the system, if there is enough of it to
 * be worth the time.  To be called after an event of open.ended_event.  The main thread does
 * this, because it can take milliseconds after a crowd has left. */
void server_tidy(struct server *server);

/* Accept the connections that wait at a listening descriptor.  Returns
 *
 *     0        no more connections wait, or TURN_ACCEPTS connections were accepted
 *     -EAGAIN  max_connections are open: the next connection has to wait until one of them has
 *              ended (open.ended_event)
 *     -errno   (any other) the system has no descriptor or no memory for the next connection */
int server_accept(struct server *server, int listener);

/* Serve a client over two descriptors.  They are standard input and output (-s), or one socket
 * for both.  Returns 0 or -errno.  After 0 the server owns the descriptors.  After an error the
 * caller still owns them. */
int server_adopt(struct server *server, int in, int out);

/* Stop the loops, and wait until all of them have ended.  The loops complete the requests in
 * flight, and refuse all other requests with ESHUTDOWN.  Clients have 0.7 s to read their
 * replies, and to send the rest of a request.  Then they are disconnected.  If requests are still
 * parked then, the disk gives up waiting, and the threads of the park end.  The counters of the
 * loops can still be read afterwards. */
void server_stop(struct server *server);

/* Free the loops and their counters.  The caller must have called server_stop before. */
void server_free(struct server *server);

#endif
