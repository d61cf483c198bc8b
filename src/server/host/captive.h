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

/* The command, and the values of the shell variables that the command may use.  They are nbdkit's
 * $uri, $nbd (the same as $uri), $unixsocket, $port, $exportname and $tls.  A variable is empty
 * if its value is NULL, or port 0. */
struct captive_options {
    const char *command;
    const char *uri, *unix_path, *export_name;
    unsigned port;
    const char *tls; /* "1": TLS is offered; "2": TLS is required */
};

/* All zero at the start. */
struct captive {
    pid_t child;     /* the process of the command; 0: none */
    int script;      /* descriptor to which we write the script; closed once is_started */
    bool is_started; /* the child has got its script */
    bool has_killer; /* there is a killer, and `killer` is valid */
    int killer;      /* descriptor to which we write numbers of signals */
};

/* Fork the process that will run the command.  To be called first, before other threads start,
 * because the process inherits the rights, limits and descriptors that we have at this moment,
 * and the signals that are ignored or blocked (which it resets).  has_killer must be true if the
 * server will give up rights, and then may not send signals to the command: this forks another
 * process, the killer, which keeps the rights to do so.  Returns 0, or -errno with a reason. */
int captive_fork(struct captive *captive, bool has_killer, struct reason *reason);

/* Start the command with /bin/sh.  The variables are set in the shell, and not exported.  All
 * signals have their default actions in the command.  The command is sent SIGTERM if we end
 * first.  Returns 0, or -errno with a reason. */
int captive_start(struct captive *captive, const struct captive_options *options,
                  struct reason *reason);

/* Has the command ended?  If so, stores in *status the exit status with which we should exit.
 * Does not wait. */
bool captive_has_ended(struct captive *captive, int *status);

/* Ask the command to end, if it is running. */
void captive_terminate(struct captive *captive);

/* Wait until the command has ended, if it is running.  A command that is still running at the
 * deadline (time of os_clock_ms) is killed.  SIGCHLD must be blocked. */
void captive_wait(struct captive *captive, int64_t deadline);

/* Turn the command's wait status into our exit status: the command's exit status, or 128 + the
 * number of the signal that has ended the command. */
int captive_exit_status(int wait_status);

#endif
