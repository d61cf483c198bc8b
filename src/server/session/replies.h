/* SPDX-License-Identifier: BSD-3-Clause */

/* replies - what goes out to a client
 *
 * Replies gather in the loop's scratch while requests are worked on, and go out in as few pieces
 * as can be, reads straight from the disk's own memory (loans, disk.h).  NBD leaves their order
 * to the server: those without data come first.
 *
 * A call of replies_flush leaves the scratch empty, whatever comes of it: what could not be sent
 * is kept by the connection.
 */

#ifndef NBDRAM_SERVER_SESSION_REPLIES_H
#define NBDRAM_SERVER_SESSION_REPLIES_H

#include "server/session/state.h"

/* No room for the reply to one more request, whichever: flush first. */
bool replies_are_full(const struct connection *connection);

/* To be called with room. */
void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error);
/* Where a request is to be parsed: replies_add_read then adds it, if it is a read. */
struct nbd_request *replies_next(struct connection *connection);
void replies_add_read(struct connection *connection);
/* Carries out a block status.  Errors become its answer. */
void replies_add_status(struct connection *connection, const struct nbd_request *request);

/* Send: 0 when all is gone, -EAGAIN when something waits for the client (or for others to have
 * their turn), another -errno when the connection is to be closed. */
int replies_flush(struct connection *connection);

/* Go on with what was kept.  As replies_flush. */
int replies_resume(struct connection *connection);

/* Whether something is kept. */
bool replies_wait(const struct connection *connection);

#endif
