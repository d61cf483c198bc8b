/* SPDX-License-Identifier: BSD-3-Clause */

/* inbox - the way of arriving bytes, from the socket to the function that understands them
 *
 *     inbox_receive
 *       |
 *       |-- a large payload is arriving: the disk lends its memory, and the payload is received
 *       |   straight into it (disk_fill), together with the header of the next request
 *       |
 *       '-- else: the unread bytes go to the front of scratch->in, and the socket fills the rest
 *             |
 *             '-- negotiation_take, requests_take: many options or requests at a time.  What they
 *                 leave is kept as unread bytes for the next call
 *
 * After a large payload only a header is received, because another large payload may follow it:
 * so no byte of a stream of large writes is copied from one buffer to another.
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_INBOX_H
#define NBDRAM_SERVER_SESSION_INBOX_H

#include "server/session/state.h"

/* Receive once, in CONNECTION_HANDSHAKE or CONNECTION_TRANSMISSION, and process what came; or
 * only process, if inbox_is_ready.  The answers are gathered in the scratch (replies.h), and are
 * still to be flushed.
 *
 * Returns 1 if there is likely to be more, else 0; -EAGAIN when nothing came, replies wait for
 * the client, or the turn is over; -ENOTCONN at the end of the stream; another -errno when the
 * connection is to be closed.  What was answered before may be flushed all the same. */
int inbox_receive(struct connection *connection);

/* Whether something can be processed that need not be received first. */
static inline bool inbox_is_ready(const struct connection *connection)
{
    return connection->unread_ready || connection->zeroing.active;
}

#endif
