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
    ACCEPTING_NOW,      /* yes */
    ACCEPTING_AT_LIMIT, /* no: --max-connections are open.  It will when one has ended. */
    ACCEPTING_FAILED,   /* no: the system refused the last one.  It will after a short time. */
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
    int64_t stats_due; /* when to write next, on the clock os_clock_ms */
    int stats_error;   /* of the last write, and already logged; 0: none; else -errno */
    int status;        /* the exit status of the program */
};

/* Log an error that ends the program.  Returns -1. */
int program_report(struct program *program, const char *text);

/* Write the file of --stats, if there is one, and say when it is due again.  An error is logged
 * when it is new, not every second.  Returns 0 or -errno. */
int program_write_stats(struct program *program);

#endif
