/* SPDX-License-Identifier: BSD-3-Clause */

/* signals - the signals that the main thread handles, from a descriptor that can be polled
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
    SIGNAL_STOP,  /* any other: the server is to stop */
};

/* Block the signals, for this thread and those that it will start, and open a descriptor that is
 * readable while one of them is pending.  SIGPIPE is ignored.  So is SIGHUP if it was ignored
 * before, as nohup(1) leaves it.  Returns the descriptor, or -errno with a reason. */
int signals_open(struct reason *reason);

/* Take one pending signal.  Does not wait. */
enum signal_event signals_read(int fd);

#endif
