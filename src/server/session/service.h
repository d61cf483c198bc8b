/* SPDX-License-Identifier: BSD-3-Clause */

/* service - what is served, to whom, and how: the same for every connection
 *
 * Filled in by main before the first loop starts, and constant from then on, so every thread
 * reads it without a lock.  The disk and the credentials belong to main, and outlive the service.
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
    unsigned timeout_seconds;                  /* that a handshake may take; 0: no limit */
    unsigned max_connections;                  /* open at one time; 0: no limit */
    bool keepalive;                            /* TCP asks a silent peer whether it is there */
};

#endif
