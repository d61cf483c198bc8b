/* SPDX-License-Identifier: BSD-3-Clause */

/* replies - sending: how the replies to a batch of requests get to the socket
 *
 * While a batch of requests is processed, reads gather in scratch->reads, and the replies to all
 * other requests gather in scratch->out.  Then all replies are sent in as few calls as possible.
 * The data of reads are sent straight from the disk's memory (plan.h).  NBD leaves the order of
 * replies to the server.  We send the replies to reads last.
 *
 * replies_flush always leaves the scratch empty.  Replies that could not be sent are kept in the
 * connection (unsent, waiting).
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REPLIES_H
#define NBDRAM_SERVER_SESSION_REPLIES_H

#include "server/session/state.h"

/* Whether the scratch may be too full for one more reply.  If so, the caller has to flush before
 * it adds a reply. */
bool replies_are_full(const struct connection *connection);

/* Add a reply that carries no data.  error is 0 or -errno. */
void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error);

/* The place into which the caller has to parse the next request.  If the request is a read, it
 * stays there, and is not copied (replies_add_read). */
struct nbd_request *replies_request_slot(struct connection *connection);

/* Add the read that is at replies_request_slot.  The reply to it is made by replies_flush. */
void replies_add_read(struct connection *connection);

/* Carry out a block status, and add the reply, which may be an error. */
void replies_add_status(struct connection *connection, const struct nbd_request *request);

/* Send the replies.  Returns
 *
 *     0        all replies were sent
 *     -EAGAIN  the connection keeps replies, because the client takes no more now, or because the
 *              turn is over
 *     -errno   (any other) the connection has to be closed */
int replies_flush(struct connection *connection);

/* Send the replies that the connection keeps.  The scratch has to be empty.  Returns the same as
 * replies_flush. */
int replies_resume(struct connection *connection);

/* Whether the connection or its transport keeps bytes that have to be sent. */
bool replies_are_waiting(const struct connection *connection);

#endif
