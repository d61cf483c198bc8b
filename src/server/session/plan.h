/* SPDX-License-Identifier: BSD-3-Clause */

/* plan - the list of buffers that one call of transport_send sends
 *
 * A plan begins with the replies that are already in scratch->out.  After them it has the replies
 * to reads.  The reply to a read has one or more headers, also in scratch->out, and pieces of
 * data, which the disk lends.  A plan is made and sent inside one read section of the disk
 * (disk_lend_begin).  The thread must not wait for anything inside the section.
 *
 *     vectors | replies + header | piece | piece | header | piece | ......... piece |
 *                                                         '------- tail -----------'
 *
 * If the socket does not take the whole plan, the bytes that were not sent have two parts.  The
 * tail is the data of the last read, at the end of the plan.  The tail is not copied: its range
 * is added to the unsent range of the read again, and the disk lends the same range again later.
 * So a client that reads large blocks slowly causes no copying.  The part before the tail is
 * copied to connection->unsent.
 *
 * A header announces a number of bytes of data, so these data have to follow the header at once.
 * The announced bytes are called promised.  Later the bytes that were not sent are sent in this
 * order: first connection->unsent, then the promised data (read_job.promised) of the first
 * waiting read, then everything else.
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
    size_t tail;           /* number of bytes at the end of the plan that are data of `last` */
    struct read_job *last; /* the last read in the plan; NULL: none */
};

/* Begin a plan.  Its first bytes are the replies in scratch->out. */
struct plan plan_begin(struct connection *connection);

/* Add the replies to the reads in scratch->reads to the plan, until it is full.  The first read
 * to add has the number `from`.  Returns 0 or -errno.  After an error the connection has to be
 * closed, because a header has possibly announced data that cannot be sent. */
int plan_reads(struct plan *plan, unsigned from);

/* Keep the bytes of the plan that the socket did not take.  They are stored in connection->unsent
 * and plan->last.  `sent` is the number of bytes that the socket took.  Returns 0 or -ENOMEM. */
int plan_keep_rest(struct plan *plan, size_t sent);

#endif
