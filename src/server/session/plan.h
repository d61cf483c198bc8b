/* SPDX-License-Identifier: BSD-3-Clause */

/* plan - what one send is going to take, as a list of vectors
 *
 * First the bytes that gathered in scratch->out, then reads, each a header (put into scratch->out
 * as well) and pieces lent by the disk.  A plan is made and sent inside one read section of the
 * disk (disk_lend_begin), which must not wait.
 *
 *     vectors | answers + header | piece | piece | header | piece | ......... piece |
 *                                                         '------- tail -----------'
 *
 * If the socket does not take all of it, the data at the end, as far as they belong to the last
 * read (the tail), are simply asked for again later: a slow reader of large blocks costs no copy.
 * What lies between the cut and the tail is copied to connection->unsent.
 *
 * A header promises a number of bytes, so data of a read that was cut off must follow first of
 * all: unsent, then the read in the middle (promised > 0), then the others.
 */

#ifndef NBDRAM_SERVER_SESSION_PLAN_H
#define NBDRAM_SERVER_SESSION_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "server/session/state.h"

struct plan {
    struct connection *connection;
    struct scratch *scratch;
    unsigned count;        /* of vectors */
    size_t bytes;          /* of vectors, all together */
    size_t tail;           /* of these, data at the end that belong to `last` */
    struct read_job *last; /* the read that was planned last */
};

/* An empty plan, but for what is in scratch->out. */
struct plan plan_begin(struct connection *connection);

/* Add reads of scratch->reads from `from` on, as far as there is room.  An error (-errno) is the
 * end of the connection: bytes were promised that cannot be had. */
int plan_reads(struct plan *plan, unsigned from);

/* The socket took `sent` of the plan's bytes: keep the rest.  -ENOMEM. */
int plan_keep(struct plan *plan, size_t sent);

#endif
