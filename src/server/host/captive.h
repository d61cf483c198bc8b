/* SPDX-License-Identifier: BSD-3-Clause */

/* captive - the command of --run
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_CAPTIVE_H
#define NBDRAM_SERVER_HOST_CAPTIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct reason; /* text/reason.h */

/* The command, and the values of the shell variables that it may use: nbdkit's $uri, $nbd (the
 * same as $uri), $unixsocket, $port, $exportname and $tls.  NULL makes a variable empty, as does
 * port 0. */
struct captive_options {
    const char *command;
    const char *uri, *unix_path, *export_name;
    unsigned port;
    const char *tls; /* "1": offered; "2": required */
};

/* All zero at the start. */
struct captive {
    pid_t child; /* 0: there is none */
    int script;  /* descriptor: the script goes there; good until is_started */
    bool is_started;
    bool has_killer;
    int killer; /* descriptor: numbers of signals go there */
};

/* Fork the process that will run the command.  It gets whatever we have now: rights, limits,
 * signals that are ignored or blocked (it undoes those), and descriptors.  So this is called
 * first, before there are threads.  A server that will give up rights and then may not send
 * signals to the command has_killer: another process, which keeps the rights to do so.  Returns
 * 0, or -errno with a reason. */
int captive_fork(struct captive *captive, bool has_killer, struct reason *reason);

/* Start the command with /bin/sh.  The variables are the shell's own, and not exported.  The
 * command gets default signals.  It is sent SIGTERM if we end first.  Returns 0, or -errno with a
 * reason. */
int captive_start(struct captive *captive, const struct captive_options *options,
                  struct reason *reason);

/* Has the command ended?  Then *status is the exit status that we should have.  Does not wait. */
bool captive_has_ended(struct captive *captive, int *status);

/* Ask the command to end, if it is running. */
void captive_terminate(struct captive *captive);

/* Wait until the command has ended, if it is running.  It is killed at the deadline (a time of
 * os_clock_ms).  SIGCHLD must be blocked. */
void captive_wait(struct captive *captive, int64_t deadline);

/* Turn a wait status into an exit status for us: the command's own, or 128 + signal. */
int captive_exit_status(int wait_status);

#endif
