/* SPDX-License-Identifier: BSD-3-Clause */

/* options - what the command line asks for
 *
 * command_line.c fills in struct options from the rows of option_table.c.  set_up.c and serve.c
 * read the struct.  Strings point into argv, and live as long as argv does.
 */

#ifndef NBDRAM_SERVER_CLI_OPTIONS_H
#define NBDRAM_SERVER_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "disk/disk.h"
#include "server/host/log.h"
#include "server/host/privileges.h"
#include "server/net/listen.h"
#include "server/net/tls_credentials.h"

#define OPTIONS_THREADS_MAX 256
#define OPTIONS_CONNECTIONS_MAX 1000000
#define OPTIONS_TIMEOUT_MAX 1000000 /* seconds; the same time in milliseconds fits into an int */
#define OPTIONS_TIMEOUT_DEFAULT 30

struct options {
    /* The parts of the program that use these options define the structs for them. */
    struct disk_options disk;     /* size=, limit=, allocator= */
    struct listen_options listen; /* -U, -p, -i, -4, -6, --vsock, -s, -e */
    struct tls_options tls;       /* --tls, --tls-...; credentials without --tls mean TLS_ON */
    struct user_names run_as;     /* -u, -g */

    /* The process. */
    const char *run; /* the command of --run; NULL: none */
    bool foreground; /* -f; implied by -s, --run, --exit-with-parent and socket activation */
    bool print_uri;
    const char *pidfile; /* -P; NULL: none */
    bool exit_with_parent;
    bool swap; /* --swap: this machine swaps to the disk, so the program locks its own memory */
    bool verbose;
    enum log_target log;
    const char *debug_flag; /* -D: a debug flag of nbdkit, which has no effect here; NULL: none */
    const char *stats;      /* the file of --stats; NULL: none */

    /* The server. */
    bool read_only;
    unsigned threads; /* -t: number of threads, up to OPTIONS_THREADS_MAX; 0: one per processor */

    /* Limits of open connections.  Each limit is at most OPTIONS_CONNECTIONS_MAX. */
    unsigned max_connections; /* all connections; 0: as many as descriptors allow */
    unsigned max_per_peer;    /* connections of each peer; 0: no limit */

    /* Limits of time, in seconds.  Each limit is at most OPTIONS_TIMEOUT_MAX. */
    unsigned timeout_seconds; /* how long a handshake may take; 0: no limit */
    unsigned idle_seconds;    /* how long a connection may be idle; 0: no limit */

    bool keepalive;
    bool no_structured;      /* --no-sr */
    uint16_t handshake_mask; /* --mask-handshake: the server offers no flags outside this mask */
};

#endif
