/* SPDX-License-Identifier: BSD-3-Clause */

/* stats - what the server has done so far, and the memory that it takes
 *
 * The loops' threads count on, so numbers that are read together may belong to slightly different
 * moments.
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

/* A file that always holds a whole JSON object: each write replaces it (host/file_replace.h). */
struct stats_file {
    int folder; /* descriptor, valid even if the process changes its directory; -1: no file */
    char *name; /* in folder; owned */
};

/* Look for the file's folder.  Nothing is written yet.  -errno and a reason, also if something
 * other than a regular file is at path: writing would replace it. */
int stats_file_open(struct stats_file *file, const char *path, struct reason *reason);

/* Write the numbers of this moment.  -errno, and the file is as it was. */
int stats_file_write(const struct stats_file *file, const struct server *server);

/* Free what stats_file_open got.  The file itself stays. */
void stats_file_close(struct stats_file *file);

#endif
