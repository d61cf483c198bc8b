/* SPDX-License-Identifier: BSD-3-Clause */

/* inbox - receiving: how bytes get from the socket to the function that parses them
 *
 *     inbox_receive
 *       |
 *       |-- a large payload is arriving: the disk lends its memory, and the payload is received
 *       |   straight into it (disk_fill), together with the header of the next request
 *       |
 *       '-- else: unread bytes are copied to the front of scratch->in, and more are received
 *             |
 *             '-- negotiation_take or requests_take processes many options or requests at a time.
 *                 The bytes that are left are kept as unread bytes
 *
 * After a large payload only a header is received, because the next payload may be large, too.
 * So the payloads in a stream of large writes are not copied from one buffer to another.
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_INBOX_H
#define NBDRAM_SERVER_SESSION_INBOX_H

#include "server/session/state.h"

/* Receive once and process the bytes that are there.  If inbox_is_ready, nothing is received.  To
 * be called in the states CONNECTION_HANDSHAKE and CONNECTION_TRANSMISSION.  The answers gather
 * in the scratch (replies.h).  The caller has to flush the answers, even after an error.
 *
 * Returns
 *
 *     1          probably more bytes have arrived
 *     0          probably no more bytes have arrived
 *     -EAGAIN    nothing has arrived, replies wait for the client, or the turn is over
 *     -ENOTCONN  the stream has ended
 *     -errno     (any other) the connection has to be closed */
int inbox_receive(struct connection *connection);

/* Whether there is work to do before more bytes are received. */
static inline bool inbox_is_ready(const struct connection *connection)
{
    return connection->unread_ready || connection->zeroing.active;
}

#endif
