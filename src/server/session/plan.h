/* SPDX-License-Identifier: BSD-3-Clause */

/* plan - what the next send takes, as a list of vectors
 *
 * A plan begins with the replies that gathered in scratch->out.  Reads follow: each has one or
 * more headers, also in scratch->out, and pieces of data, which the disk lends.  A plan is made
 * and sent inside one read section of the disk (disk_lend_begin), in which nothing may wait.
 *
 *     vectors | replies + header | piece | piece | header | piece | ......... piece |
 *                                                         '------- tail -----------'
 *
 * If the socket does not take all of it, the rest has two parts.  The tail is the data at the end
 * that belong to the last read.  They are not copied: that read gets its range back, and asks the
 * disk for it again later, so a client that reads large blocks slowly costs no copy.  What lies
 * between the cut and the tail is copied to connection->unsent.
 *
 * A header promises a number of bytes, so nothing may come between it and its data.  The order of
 * what waits is: unsent, then the data that are promised (read_job.promised) of the first waiting
 * read, then everything else.
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_PLAN_H
#define NBDRAM_SERVER_SESSION_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "server/session/state.h"

struct plan {
    struct connection *connection;
    struct scratch *scratch;
    unsigned count;        /* vectors */
    size_t bytes;          /* in all vectors together */
    size_t tail;           /* of these bytes, the data at the end that belong to `last` */
    struct read_job *last; /* the read that was planned last; NULL: none */
};

/* Begin a plan with the replies in scratch->out. */
struct plan plan_begin(struct connection *connection);

/* Add the reads of scratch->reads, beginning with number `from`, as far as there is room.  After
 * an error (-errno) the connection has to be closed: bytes were promised that cannot be had. */
int plan_reads(struct plan *plan, unsigned from);

/* The socket took `sent` of the plan's bytes: keep the rest in the connection and in `last`.
 * -ENOMEM. */
int plan_keep_rest(struct plan *plan, size_t sent);

#endif
