/* SPDX-License-Identifier: BSD-3-Clause */

/* requests - what comes in from a client in transmission
 *
 * Many small requests are received in one piece, and worked off in the order they came, reads
 * last (replies.h).  A payload that is not there as a whole, if it is large, is received straight
 * into the disk's memory (disk_fill); what else is missing is waited for.
 */

#ifndef NBDRAM_SERVER_SESSION_REQUESTS_H
#define NBDRAM_SERVER_SESSION_REQUESTS_H

#include "server/session/connection.h"

/* Receive once, and work off what came.  Returns whether there is likely to be more (1) or not
 * (0); -EAGAIN when replies wait for the client (replies.h), or others for their turn; -ENOTCONN
 * at the end of the stream; another -errno when the connection is to be closed.  After a DISC the
 * state is CONNECTION_DRAINING. */
int requests_receive(struct connection *connection);

/* Work off bytes that came in with the end of the handshake.  As requests_receive. */
int requests_take(struct connection *connection, const uint8_t *bytes, size_t size);

/* Whether there is something to be worked off that need not be received first. */
static inline bool requests_are_ready(const struct connection *connection)
{
    return connection->unread_ready || connection->zero.active;
}

#endif
