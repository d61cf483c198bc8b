/* SPDX-License-Identifier: BSD-3-Clause */

/* stats - statistics: the work that the server has done so far, and the memory that it takes
 *
 * The loops' threads go on counting while the statistics are read, so numbers that are read
 * together may belong to slightly different moments.
 *
 * Threads: everything here is called by the main thread.
 */

#ifndef NBDRAM_SERVER_SESSION_STATS_H
#define NBDRAM_SERVER_SESSION_STATS_H

#include <stddef.h>
#include <stdio.h>

#include "server/session/server.h"

struct reason; /* text/reason.h */

/* Print one screen (less than PIPE_BUF bytes) for people. */
void stats_print(const struct server *server, FILE *to);

/* A file that always holds a whole JSON object, because each write replaces the whole file
 * (host/file_replace.h). */
struct stats_file {
    int folder; /* descriptor of the folder that holds the file; -1: there is no file */
    char *name; /* the name of the file inside the folder; owned */
};

/* Open the folder of the file, so that the process may later change its directory.  Writes
 * nothing.  Returns 0, or -errno with a reason.  If path exists, it must be a regular file: a
 * write would replace a device or a link. */
int stats_file_open(struct stats_file *file, const char *path, struct reason *reason);

/* Write the statistics of this moment.  Returns 0 or -errno.  On an error the file stays as it
 * was. */
int stats_file_write(const struct stats_file *file, const struct server *server);

/* Close the folder and free the name.  The file itself stays. */
void stats_file_close(struct stats_file *file);

#endif
