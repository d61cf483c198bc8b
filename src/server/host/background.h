/* SPDX-License-Identifier: BSD-3-Clause */

/* process - a server in the background, its number in a file, its parent
 *
 * All called by the main thread.  -errno, and one line in why, unless said otherwise.
 */

#ifndef NBDRAM_SERVER_HOST_BACKGROUND_H
#define NBDRAM_SERVER_HOST_BACKGROUND_H

#include <stddef.h>

struct reason; /* text/reason.h */

/* Go to the background (fork, new session, folder /, standard streams from and to the null
 * device), before any thread exists.  The parent waits: it exits 0 when the child calls
 * background_ready, and 1 if the child ends before, with what the child said on standard error
 * still shown; only the child returns.  Standard output and error stay until background_ready. */
int background_enter(struct reason *reason);

/* The server accepts connections: let the parent go, if there is one, and leave the terminal. */
void background_ready(void);

/* Write the process's number and a newline, whole: to a new file that is then renamed (a FIFO or
 * device is written to).  The folder is the one that was current at the start, also after
 * background_enter. */
int pidfile_write(const char *path, struct reason *reason);

/* Remove it, if it still holds our number. */
void pidfile_remove(const char *path);

/* Have a signal (SIGTERM) sent when the parent ends. */
int background_exit_with_parent(struct reason *reason);

#endif
