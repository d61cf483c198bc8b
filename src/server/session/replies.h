/* SPDX-License-Identifier: BSD-3-Clause */

/* replies - sending: how the replies to a batch of requests get to the socket
 *
 * While requests are processed, their replies gather in the loop's scratch: reads in
 * scratch->reads, all others in scratch->out.  Then all replies are sent in as few calls as
 * possible, and the data of reads are sent straight from the disk's memory (plan.h).  NBD leaves
 * the order of replies to the server: we send the replies without data first.
 *
 * replies_flush leaves the scratch empty, whatever its result is: the connection keeps the
 * replies that could not be sent (unsent, waiting).
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REPLIES_H
#define NBDRAM_SERVER_SESSION_REPLIES_H

#include "server/session/state.h"

/* Whether the scratch may have no room for one more reply, of any kind.  If so, the caller has to
 * flush before it adds a reply. */
bool replies_are_full(const struct connection *connection);

/* Add an answer without data.  error is 0 or -errno. */
void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error);

/* The place into which the caller parses the next request.  A read that is parsed there need not
 * be copied by replies_add_read. */
struct nbd_request *replies_request_slot(struct connection *connection);

/* Add the read that is at replies_request_slot.  Its reply is made when the replies are
 * flushed. */
void replies_add_read(struct connection *connection);

/* Carry out a block status, and add its reply, which may be an error. */
void replies_add_status(struct connection *connection, const struct nbd_request *request);

/* Send the replies.  Returns 0 if all of them were sent; -EAGAIN if the connection keeps replies,
 * because the client takes no more now or the turn is over; another -errno if the connection has
 * to be closed. */
int replies_flush(struct connection *connection);

/* Send the replies that the connection keeps.  The scratch has to be empty.  The results are
 * those of replies_flush. */
int replies_resume(struct connection *connection);

/* Whether the connection or its transport keeps bytes that have to be sent. */
bool replies_are_waiting(const struct connection *connection);

#endif
