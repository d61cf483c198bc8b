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

/* The command, and values for the shell variables that it can use.  These are nbdkit's variables
 * $uri, $nbd (the same as $uri), $unixsocket, $port, $exportname and $tls.  If a value is NULL,
 * or if the port is 0, the variable is empty. */
struct captive_options {
    const char *command;
    const char *uri, *unix_path, *export_name;
    unsigned port;
    const char *tls; /* "1": TLS is offered; "2": TLS is required */
};

/* The caller initializes all fields to zero. */
struct captive {
    pid_t child;     /* process id of the command; 0: none */
    int script;      /* descriptor to which we write the script; closed when is_started is set */
    bool is_started; /* the child has received its script */
    bool has_killer; /* the killer exists */
    int killer; /* descriptor to which we write the number of a signal for the killer to send */
};

/* Fork the process that will run the command.  The process inherits the rights, limits and
 * descriptors that we have when this function is called.  So the function has to be called first,
 * and before other threads start.  In the new process, signals that were ignored or blocked are
 * reset.
 *
 * If the server will give up rights, has_killer must be true, because the server may then no
 * longer have the right to send signals to the command.  If has_killer is true, a second process
 * is forked: the killer, which keeps the right to send signals.
 *
 * Returns 0, or -errno with a reason. */
int captive_fork(struct captive *captive, bool has_killer, struct reason *reason);

/* Start the command with /bin/sh.  The variables are set in the shell, and not exported.  In the
 * command, all signals have their default actions.  If the server ends before the command, the
 * command receives SIGTERM.  Returns 0, or -errno with a reason. */
int captive_start(struct captive *captive, const struct captive_options *options,
                  struct reason *reason);

/* Has the command ended?  If so, *status becomes the exit status for our own process.  Does not
 * wait. */
bool captive_has_ended(struct captive *captive, int *status);

/* Ask the command to end, if it is running. */
void captive_terminate(struct captive *captive);

/* Wait until the command has ended, if it is running.  If it still runs at the deadline (a time
 * of os_clock_ms), it is killed.  SIGCHLD must be blocked. */
void captive_wait(struct captive *captive, int64_t deadline);

/* Convert the wait status of the command into our exit status.  This is the exit status of the
 * command, or 128 plus the number of the signal that has ended the command. */
int captive_exit_status(int wait_status);

#endif
