/* SPDX-License-Identifier: BSD-3-Clause */

/* service - the disk and the settings that all connections share
 *
 * The main thread fills in the struct before the first loop starts.  From then on it is constant,
 * so every thread reads it without a lock.  The pointers in it lead to objects that main owns and
 * that outlive it.
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
    unsigned timeout_seconds;                  /* limit for a handshake; 0: no limit */
    unsigned idle_seconds;                     /* limit for an idle client; 0: no limit */
    unsigned max_connections;                  /* limit of open connections; 0: no limit */
    unsigned max_per_peer;                     /* limit of one peer's connections; 0: no limit */
    bool keepalive;                            /* TCP sockets get keep-alive */
};

#endif
