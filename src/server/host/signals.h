/* SPDX-License-Identifier: BSD-3-Clause */

/* signals - a descriptor from which the main thread reads the signals that it handles
 *
 * Only the main thread calls these functions.
 */

#ifndef NBDRAM_SERVER_HOST_SIGNALS_H
#define NBDRAM_SERVER_HOST_SIGNALS_H

#include <stdbool.h>

struct reason; /* text/reason.h */

enum signal_event {
    SIGNAL_NONE,   /* no signal is pending */
    SIGNAL_STATS,  /* SIGUSR1: somebody wants the statistics */
    SIGNAL_CHILD,  /* SIGCHLD: a child may have ended */
    SIGNAL_HANGUP, /* SIGHUP: the terminal is gone, or somebody wants files to be read again */
    SIGNAL_STOP,   /* any other signal: the server has to stop */
};

/* Does the process have a controlling terminal?  The kernel sends SIGHUP when such a terminal
 * goes away.  To be called before signals_open: while SIGHUP is not blocked, a terminal that goes
 * away ends the process.  Once the signal can be read, the terminal is gone already. */
bool signals_have_terminal(void);

/* Block the signals that signals_read takes, in this thread and in all threads that it will
 * start.  Open a descriptor that is readable while one of these signals is pending.
 *
 * SIGPIPE is ignored.  If SIGHUP was ignored before, as it is under nohup(1), it stays ignored.
 * Returns the descriptor, or -errno with a reason. */
int signals_open(struct reason *reason);

/* Take one pending signal, or return SIGNAL_NONE.  Does not wait. */
enum signal_event signals_read(int fd);

#endif
