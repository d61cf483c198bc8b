/* SPDX-License-Identifier: BSD-3-Clause */

/* service - the disk and the settings that all connections share
 *
 * The main thread fills in the struct before the first loop starts.  From then on the struct is
 * constant, so every thread reads it without a lock.  The pointers lead to objects of main, which
 * outlive the struct.
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
    struct logger *log;                        /* any thread may use the logger */
    unsigned timeout_seconds;                  /* limit for the handshake; 0: no limit */
    unsigned idle_seconds;    /* the longest idle time of a client; 0: no limit */
    unsigned max_connections; /* the most connections at a time; 0: no limit */
    unsigned max_per_peer;    /* the most connections that one peer may hold; 0: no limit */
    bool keepalive;           /* TCP sockets get the option keep-alive */
};

#endif
