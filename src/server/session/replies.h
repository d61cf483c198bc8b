/* SPDX-License-Identifier: BSD-3-Clause */

/* replies - sending: from the answers of a batch of requests to the socket
 *
 * While requests are processed, their replies gather in the loop's scratch: reads in
 * scratch->reads, all others in scratch->out.  Then everything goes out in as few calls as
 * possible, the data of reads straight from the disk's memory (plan.h).  NBD leaves the order of
 * replies to the server: those without data go first.
 *
 * replies_flush leaves the scratch empty, whatever its result is: the connection keeps what could
 * not be sent (unsent, waiting).
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REPLIES_H
#define NBDRAM_SERVER_SESSION_REPLIES_H

#include "server/session/state.h"

/* Whether the scratch may have no room for one more reply, of any kind.  Then flush before adding
 * one. */
bool replies_are_full(const struct connection *connection);

/* Add an answer without data: 0 or -errno. */
void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error);

/* The place where the next request is to be parsed, so that a read need not be copied. */
struct nbd_request *replies_request_slot(struct connection *connection);

/* Add the read that is at replies_request_slot: its reply is planned when the replies are
 * flushed. */
void replies_add_read(struct connection *connection);

/* Carry out a block status, and add its reply, which may be an error. */
void replies_add_status(struct connection *connection, const struct nbd_request *request);

/* Send the replies.  0 if everything was sent; -EAGAIN if the connection keeps something, because
 * the client takes no more now or TURN_SENT bytes were sent; another -errno if the connection has
 * to be closed. */
int replies_flush(struct connection *connection);

/* Go on with what the connection keeps; the scratch has to be empty.  Returns what replies_flush
 * does. */
int replies_resume(struct connection *connection);

/* Whether the connection keeps something, or the transport does. */
bool replies_are_waiting(const struct connection *connection);

#endif
