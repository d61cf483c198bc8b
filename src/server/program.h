/* SPDX-License-Identifier: BSD-3-Clause */

/* program - everything that the main thread owns
 *
 * main.c makes the only struct program, and only the main thread uses it.  set_up.c fills it in,
 * step by step, and main.c takes it down at the end.  The fields of a step that was not reached
 * are as main.c has made them.
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
    ACCEPTING_AT_LIMIT, /* no, until one of the --max-connections open connections has ended */
    ACCEPTING_FAILED,   /* no, for a short time, because the system refused a connection */
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
    int64_t stats_due; /* when to write the file of --stats next, time of os_clock_ms */
    int stats_error;   /* the result of the last write to that file: 0; or -errno, and logged */
    int status;        /* the exit status of the program */
};

/* Log an error that ends the program.  Returns -1. */
int program_report(struct program *program, const char *text);

/* Write the file of --stats, if there is one, and set stats_due.  An error is logged once, not at
 * every write that has the same error.  Returns 0 or -errno. */
int program_write_stats(struct program *program);

#endif
