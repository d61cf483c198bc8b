/* SPDX-License-Identifier: BSD-3-Clause */

/* inbox - receiving: the way of bytes from the socket to the function that understands them
 *
 *     inbox_receive
 *       |
 *       |-- a large payload is arriving: the disk lends its memory, and the payload is received
 *       |   straight into it (disk_fill), together with the header of the next request
 *       |
 *       '-- else: unread bytes are copied to the front of scratch->in, and more are received
 *             |
 *             '-- negotiation_take, requests_take: many options or requests at a time.  What they
 *                 leave is kept as unread bytes
 *
 * After a large payload only a header is received, because another large payload may follow it.
 * So the payloads in a stream of large writes are not copied from one buffer to another.
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_INBOX_H
#define NBDRAM_SERVER_SESSION_INBOX_H

#include "server/session/state.h"

/* In CONNECTION_HANDSHAKE or CONNECTION_TRANSMISSION: receive once, unless inbox_is_ready, and
 * process what there is.  The answers gather in the scratch (replies.h), for the caller to flush,
 * also after an error.
 *
 * Returns 1 if more has probably arrived, else 0; -EAGAIN if nothing has arrived, replies wait
 * for the client, or the turn is over; -ENOTCONN at the end of the stream; another -errno if the
 * connection has to be closed. */
int inbox_receive(struct connection *connection);

/* Whether there is something to process without receiving more. */
static inline bool inbox_is_ready(const struct connection *connection)
{
    return connection->unread_ready || connection->zeroing.active;
}

#endif
