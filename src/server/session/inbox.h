/* SPDX-License-Identifier: BSD-3-Clause */

/* inbox - receive bytes from a client, and pass them to the functions that parse them
 *
 *     inbox_receive
 *       |
 *       |-- a large payload is arriving: the disk lends its memory, and the payload is received
 *       |   straight into it (disk_fill), together with the header of the next request
 *       |
 *       '-- else: the bytes of connection->unread are copied to the beginning of scratch->in, and
 *           more bytes are received after them
 *             |
 *             '-- negotiation_take or requests_take processes many options or requests at a time.
 *                 The bytes that are left are stored in connection->unread
 *
 * After a large payload, only the next header is received.  The next payload is probably large,
 * too, and can then be received straight into the disk.  So in a stream of large writes, no
 * payload is copied from a buffer to the disk.
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_INBOX_H
#define NBDRAM_SERVER_SESSION_INBOX_H

#include "server/session/state.h"

/* Receive once, and process the bytes that have arrived.  If inbox_is_ready, process the bytes of
 * connection->unread, and receive nothing.  The state must be CONNECTION_HANDSHAKE or
 * CONNECTION_TRANSMISSION.  The replies are collected in the scratch (replies.h).  Even after an
 * error the caller has to send them with replies_flush.
 *
 * Returns
 *
 *     1          probably more bytes have arrived
 *     0          probably no more bytes have arrived
 *     -EAGAIN    nothing has arrived, replies wait for the client, or the turn is over
 *     -ENOTCONN  the stream has ended
 *     -errno     (any other) the connection has to be closed */
int inbox_receive(struct connection *connection);

/* Whether the connection has work to do that needs no more bytes from the client. */
static inline bool inbox_is_ready(const struct connection *connection)
{
    return connection->unread_ready || connection->zeroing.active;
}

#endif
