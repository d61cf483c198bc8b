/* SPDX-License-Identifier: BSD-3-Clause */

/* replies - collect the replies to a batch of requests, and send them
 *
 * A batch is the requests that one receive takes in.  While a batch is processed, reads are
 * collected in scratch->reads, and the replies to all other requests in scratch->out.  Then all
 * replies are sent in as few calls as possible.  The data of reads are sent straight from the
 * disk's memory (plan.h).  NBD allows the server to send replies in any order.  We send the
 * replies to reads last.
 *
 * After replies_flush the scratch is always empty.  Replies that could not be sent are stored in
 * the connection (`unsent`, `waiting`).
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REPLIES_H
#define NBDRAM_SERVER_SESSION_REPLIES_H

#include "server/session/state.h"

/* Whether the scratch is possibly too full for one more reply.  If it is, the caller has to call
 * replies_flush before it adds a reply. */
bool replies_are_full(const struct connection *connection);

/* Add a reply without data to the scratch.  `error` is 0 or -errno. */
void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error);

/* Returns the place into which the caller has to parse the next request.  If the request is a
 * read, replies_add_read uses it at that place, without a copy. */
struct nbd_request *replies_request_slot(struct connection *connection);

/* Add the read that was parsed into replies_request_slot.  Later, replies_flush makes and sends
 * the reply. */
void replies_add_read(struct connection *connection);

/* Carry out a block status, and add the reply to the scratch.  If the command fails, the reply
 * holds the error. */
void replies_add_status(struct connection *connection, const struct nbd_request *request);

/* Send the replies in the scratch.  Returns
 *
 *     0        all replies were sent
 *     -EAGAIN  the connection keeps replies, because the client takes no more now, or because the
 *              turn is over
 *     -errno   (any other) the connection has to be closed */
int replies_flush(struct connection *connection);

/* Send the replies that are stored in the connection.  The scratch must be empty.  The results
 * are the same as for replies_flush. */
int replies_resume(struct connection *connection);

/* Whether the connection or its transport holds bytes that have yet to be sent. */
bool replies_are_waiting(const struct connection *connection);

#endif
