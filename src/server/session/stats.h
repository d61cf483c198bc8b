/* SPDX-License-Identifier: BSD-3-Clause */

/* stats - statistics about the work and the memory of the server
 *
 * The threads of the loops continue to count while the statistics are read.  So the numbers in
 * one output are not from exactly the same moment.
 *
 * Threads: everything here is called by the main thread.
 */

#ifndef NBDRAM_SERVER_SESSION_STATS_H
#define NBDRAM_SERVER_SESSION_STATS_H

#include <stddef.h>
#include <stdio.h>

#include "server/session/server.h"

struct reason; /* text/reason.h */

/* Print the statistics for people.  The text has less than PIPE_BUF bytes. */
void stats_print(const struct server *server, FILE *to);

/* A file with the statistics in JSON.  Each write replaces the whole file, so a reader always
 * finds a complete JSON object (host/file_replace.h). */
struct stats_file {
    int folder; /* descriptor of the folder with the file; -1: there is no file */
    char *name; /* name of the file in the folder; owned by this struct */
};

/* Open the folder of the statistics file, and write nothing.  After that the process can change
 * its working directory.  Returns 0, or -errno with a reason.  If `path` exists, it must be a
 * regular file, because a write would replace a device or a link. */
int stats_file_open(struct stats_file *file, const char *path, struct reason *reason);

/* Write the current statistics to the file.  Returns 0 or -errno.  After an error the file is
 * unchanged. */
int stats_file_write(const struct stats_file *file, const struct server *server);

/* Close the folder, and free the name.  The file itself is not deleted. */
void stats_file_close(struct stats_file *file);

#endif
