/* SPDX-License-Identifier: BSD-3-Clause */

/* server - one disk, served to many clients by a few event loops
 *
 * The main thread accepts and hands the connections to the loops in turn; from then on only that
 * loop's thread touches one (loop.h).
 */

#ifndef NBDRAM_SERVER_SESSION_SERVER_H
#define NBDRAM_SERVER_SESSION_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "disk/disk.h"
#include "nbd/session.h"
#include "server/session/loop.h"
#include "server/net/tls.h"

struct server {
    /* constant while there are loops */
    struct disk *disk;
    struct nbd_export export;
    struct nbd_policy policy;
    const struct tls_credentials *credentials; /* NULL: no TLS */
    struct logger *log; /* for all threads */
    unsigned timeout;                          /* of handshakes, seconds; 0: none */
    bool keepalive;
    unsigned max_connections; /* 0: no limit */
    struct loop *loops;
    unsigned loop_count;
    int left; /* eventfd, told when a connection ends */

    _Atomic unsigned connections; /* now; relaxed: a number to compare with, guards nothing */
    uint64_t accepted;            /* main thread's */
};

/* Start the loops' threads: to be called after the last fork, once the fields above `loops` are
 * set.  -errno, and nothing is left behind. */
int server_start(struct server *server, unsigned loops);

/* Take the connections that wait at a listening descriptor: 0 when there are no more, or enough
 * for one turn; -EAGAIN when there are max_connections, so that others wait until one has ended;
 * another -errno when the system has no descriptor or memory for one, which then waits as well.
 */
int server_accept(struct server *server, int listener);

/* Serve a client behind two descriptors that are taken over (the same one twice, or two of -s).
 */
int server_adopt(struct server *server, int in, int out);

/* Let the loops finish what is in flight, answer the rest with "shutting down", and end; waits
 * for them.  Clients that do not read their answers, or do not send the rest of a request, are
 * given up after 0.7 s. */
void server_stop(struct server *server);

#endif
