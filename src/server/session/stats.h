/* SPDX-License-Identifier: BSD-3-Clause */

/* stats - what the server has done, and what it takes
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_SESSION_STATS_H
#define NBDRAM_SERVER_SESSION_STATS_H

#include <stddef.h>
#include <stdio.h>

#include "server/session/server.h"

struct reason; /* text/reason.h */

/* One screen of it (less than PIPE_BUF bytes), for people. */
void stats_print(const struct server *server, FILE *to);

/* A file that always holds a whole JSON object (host/file_replace.h). */
struct stats_file {
    int folder; /* descriptor: good also after a change of directory; -1: no file */
    char *name;
};

/* -errno, and one line in why: also when there is something that is not a regular file, which
 * renaming would replace.  Writes nothing yet. */
int stats_file_open(struct stats_file *file, const char *path, struct reason *reason);
int stats_file_write(const struct stats_file *file, const struct server *server);
void stats_file_close(struct stats_file *file); /* the file stays */

#endif
