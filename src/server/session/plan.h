/* SPDX-License-Identifier: BSD-3-Clause */

/* plan - the bytes of the next send, as a list of vectors
 *
 * A plan begins with the replies that gathered in scratch->out.  Reads follow.  Each read has one
 * or more headers, also in scratch->out, and pieces of data, which the disk lends.  A plan is
 * made and sent inside one read section of the disk (disk_lend_begin).  Nothing in the section
 * may wait.
 *
 *     vectors | replies + header | piece | piece | header | piece | ......... piece |
 *                                                         '------- tail -----------'
 *
 * If the socket does not take the whole plan, the bytes that were not sent have two parts.  The
 * tail is the data of the last read, at the end of the plan.  The tail is not copied: its range
 * is given back to the read, and the disk lends the same range again later.  So a client that
 * reads large blocks slowly causes no copying.  The part before the tail is copied to
 * connection->unsent.
 *
 * A header promises a number of bytes, so nothing may come between a header and its data.  Bytes
 * that wait are sent in this order: first connection->unsent, then the promised data
 * (read_job.promised) of the first waiting read, then everything else.
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_PLAN_H
#define NBDRAM_SERVER_SESSION_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "server/session/state.h"

struct plan {
    struct connection *connection;
    struct scratch *scratch;
    unsigned count;        /* the number of vectors */
    size_t bytes;          /* the number of bytes in all vectors together */
    size_t tail;           /* bytes at the end of the plan that are data of `last` */
    struct read_job *last; /* the read that was planned last; NULL: none */
};

/* Begin a plan with the replies in scratch->out. */
struct plan plan_begin(struct connection *connection);

/* Add the reads of scratch->reads, beginning with number `from`, as far as there is room.
 * Returns 0 or -errno.  After an error the connection has to be closed, because a header may have
 * promised bytes that cannot be sent. */
int plan_reads(struct plan *plan, unsigned from);

/* Keep the bytes that the socket did not take, in the connection and in `last`.  `sent` is the
 * number of bytes that the socket took.  Returns 0 or -ENOMEM. */
int plan_keep_rest(struct plan *plan, size_t sent);

#endif
