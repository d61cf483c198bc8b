/* SPDX-License-Identifier: BSD-3-Clause */

/* program - everything that the main thread owns
 *
 * Only the main thread uses this; main.c makes the only one.  set_up.c fills it in, step by step,
 * and main.c takes it down: a step that was not reached has left its fields as main.c made them.
 */

#ifndef NBDRAM_SERVER_PROGRAM_H
#define NBDRAM_SERVER_PROGRAM_H

#include <stdint.h>

#include "server/cli/options.h"
#include "server/host/background.h"
#include "server/host/captive.h"
#include "server/host/log.h"
#include "server/host/pidfile.h"
#include "server/net/listen.h"
#include "server/session/server.h"
#include "server/session/stats.h"

/* Whether the main thread accepts connections. */
enum accepting {
    ACCEPTING_NOW,      /* it does */
    ACCEPTING_AT_LIMIT, /* not before one has ended: --max-connections allows no more */
    ACCEPTING_FAILED,   /* not before some time has passed: the system refused the last one */
};

struct program {
    struct options options;
    struct logger log;
    struct disk *disk;
    struct tls_credentials *credentials;
    struct listeners listeners;
    struct server server;
    struct captive captive; /* the command of --run */
    struct background background;
    struct pidfile pidfile;
    int signals; /* descriptor (host/signals.h) */
    enum accepting accepting;
    struct stats_file stats;
    int64_t stats_due; /* os_clock_ms's time of the next write */
    int stats_error;   /* the error of the last write, which is in the log: 0 or -errno */
    int status;        /* to exit with */
};

/* Log an error that ends the program.  Returns -1. */
int program_report(struct program *program, const char *text);

/* Write the file of --stats, if there is one, and say when it is due again.  An error is logged
 * when it is new, not every second.  Returns 0 or -errno. */
int program_write_stats(struct program *program);

#endif
