/* SPDX-License-Identifier: BSD-3-Clause */

/* service - the disk and the settings that all connections share
 *
 * The main thread fills in the struct before the first loop starts.  From then on the struct is
 * constant, so every thread reads it without a lock.  The objects behind the pointers belong to
 * the main function, and exist longer than the struct.
 */

#ifndef NBDRAM_SERVER_SESSION_SERVICE_H
#define NBDRAM_SERVER_SESSION_SERVICE_H

#include <stdbool.h>

#include "nbd/session.h"

struct disk;      /* declared in disk/disk.h */
struct logger;    /* declared in server/host/log.h */
struct tls_store; /* declared in server/net/tls_store.h */

struct service {
    struct disk *disk;
    struct nbd_export export;
    struct nbd_policy policy;
    struct tls_store *tls;    /* NULL: no TLS; any thread may take credentials from the store */
    struct logger *log;       /* any thread may use the logger */
    unsigned timeout_seconds; /* limit for the handshake of a client; 0: no limit */
    unsigned idle_seconds;    /* a client that is idle for longer is disconnected; 0: no limit */
    unsigned max_connections; /* limit for the number of open connections; 0: no limit */
    unsigned max_per_peer;    /* limit for the connections of one peer; 0: no limit */
    bool keepalive;           /* the option SO_KEEPALIVE is set on TCP sockets */
};

#endif
