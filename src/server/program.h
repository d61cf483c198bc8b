/* SPDX-License-Identifier: BSD-3-Clause */

/* program - everything that the main thread owns
 *
 * main.c makes the only struct program, and only the main thread uses it.  set_up.c fills in
 * the fields, and main.c takes the program down at the end.  If set_up fails, the fields that it
 * has not filled in still have the values that main.c gave them.
 */

#ifndef NBDRAM_SERVER_PROGRAM_H
#define NBDRAM_SERVER_PROGRAM_H

#include <stdint.h>

#include "server/cli/options.h"
#include "server/host/background.h"
#include "server/host/captive.h"
#include "server/host/inherited.h"
#include "server/host/log.h"
#include "server/host/pidfile.h"
#include "server/net/listen.h"
#include "server/net/tls_store.h"
#include "server/session/server.h"
#include "server/session/stats.h"

/* Whether the main thread accepts connections. */
enum accepting {
    ACCEPTING_NOW,      /* yes */
    ACCEPTING_AT_LIMIT, /* no: --max-connections connections are open; wait until one ends */
    ACCEPTING_FAILED,   /* no: wait for a short time, because the system refused a connection */
};

struct program {
    struct options options;
    struct logger log;
    struct disk *disk;
    struct tls_store tls; /* all zero: no TLS */
    struct listeners listeners;
    struct server server;
    struct captive captive; /* the command of --run */
    struct background background;
    struct inherited inherited; /* in the background: descriptors that are let go when ready */
    struct pidfile pidfile;
    int signals; /* descriptor from which signals are read (host/signals.h) */
    int parent;  /* pidfd of the process with which we have to end (host/process.h); -1: none */
    bool ends_at_hangup; /* SIGHUP ends the server, because it means that the terminal is gone */
    enum accepting accepting;
    struct stats_file stats;
    int64_t stats_due; /* when to write the file of --stats next, as a time of os_clock_ms */
    int stats_error;   /* result of the last write of the file of --stats: 0 or -errno */
    int status;        /* the exit status of the program */
};

/* Log `text`, which describes an error that ends the program.  Returns -1. */
int program_report(struct program *program, const char *text);

/* Write the file of --stats, if there is one, and set stats_due.  If several writes in a row have
 * the same error, only the first error is logged.  Returns 0 or -errno. */
int program_write_stats(struct program *program);

#endif
