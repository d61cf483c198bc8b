/* SPDX-License-Identifier: BSD-3-Clause */

/* server - one disk, served to many clients by a few event loops
 *
 * The main thread accepts connections and hands them to the loops in turn.  From then on only the
 * thread of that loop touches a connection (loop.h).
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

    struct loop *loops; /* started, constant until server_free */
    unsigned loop_count;
    struct open_connections open;
    uint64_t accepted; /* connections, since the start */
};

/* Start the loops' threads, `loops` of them: after the last fork.  All fields but `service` must
 * be zero.  -errno, and nothing is left behind. */
int server_start(struct server *server, unsigned loops);

/* The number of connections that are open now. */
unsigned server_connections(const struct server *server);

/* Accept the connections that wait at a listening descriptor.  0 when no more wait, or enough for
 * one turn were accepted.  -EAGAIN when max_connections are open: others wait until one has
 * ended (open.ended_event).  Another -errno when the system has no descriptor or memory for the
 * next one, which goes on waiting. */
int server_accept(struct server *server, int listener);

/* Serve a client over two descriptors: of a socket, the same one twice; or the two of -s.  They
 * are the server's from here on; on an error (-errno) they stay the caller's. */
int server_adopt(struct server *server, int in, int out);

/* Stop: the loops complete what is in flight and answer everything else with ESHUTDOWN.  Returns
 * when they have ended.  Clients that do not read their answers, or do not send the rest of a
 * request, are disconnected after 0.7 s.  The counters keep their numbers. */
void server_stop(struct server *server);

/* To be called after server_stop, when nobody needs the counters any more. */
void server_free(struct server *server);

#endif
