/* SPDX-License-Identifier: BSD-3-Clause */

/* service - what is served and how: the same for every connection
 *
 * main fills it in before the first loop starts.  From then on it is constant, so every thread
 * reads it without a lock.  What it points to belongs to main, and outlives it.
 */

#ifndef NBDRAM_SERVER_SESSION_SERVICE_H
#define NBDRAM_SERVER_SESSION_SERVICE_H

#include <stdbool.h>

#include "nbd/session.h"

struct disk;            /* disk/disk.h */
struct logger;          /* server/host/log.h */
struct tls_credentials; /* server/net/tls_credentials.h */

struct service {
    struct disk *disk;
    struct nbd_export export;
    struct nbd_policy policy;
    const struct tls_credentials *credentials; /* NULL: no TLS */
    struct logger *log;                        /* any thread may use it */
    unsigned timeout_seconds;                  /* for a handshake; 0: no limit */
    unsigned idle_seconds;                     /* for a client that does nothing; 0: no limit */
    unsigned max_connections;                  /* open at the same time; 0: no limit */
    unsigned max_per_peer;                     /* of these, held by one peer; 0: no limit */
    bool keepalive;                            /* TCP sockets get keep-alive */
};

#endif
