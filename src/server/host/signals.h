/* SPDX-License-Identifier: BSD-3-Clause */

/* signals - a descriptor from which the main thread reads the signals that it handles
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_SIGNALS_H
#define NBDRAM_SERVER_HOST_SIGNALS_H

struct reason; /* text/reason.h */

enum signal_event {
    SIGNAL_NONE,  /* no signal is pending */
    SIGNAL_STATS, /* SIGUSR1: the statistics are wanted */
    SIGNAL_CHILD, /* SIGCHLD: a child may have ended */
    SIGNAL_STOP,  /* any other signal: the server has to stop */
};

/* Block the signals, for this thread and all threads that it will start, and open a descriptor
 * that is readable while one of the signals is pending.  SIGPIPE is ignored.  SIGHUP stays
 * ignored if it was ignored before, as it is under nohup(1).  Returns the descriptor, or -errno
 * with a reason. */
int signals_open(struct reason *reason);

/* Take one pending signal.  Does not wait. */
enum signal_event signals_read(int fd);

#endif
