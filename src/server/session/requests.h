/* SPDX-License-Identifier: BSD-3-Clause */

/* requests - the bytes of a client in transmission, parsed into requests
 *
 * Requests are parsed and checked by nbd/command.h, one after the other, and handed to
 * commands.h.  They are carried out in the order in which they arrived, except that reads are
 * last (replies.h): NBD leaves the order of requests in flight to the server.
 *
 * Where a payload goes:
 *
 *     all of it has arrived       commands_carry_out, from the input
 *     small, a part is missing    left in the input, with its header, until all of it has arrived
 *     large, a part is missing    what has arrived: commands_begin_payload; the rest: inbox.h
 *     refused                     thrown away as it arrives (commands_begin_payload)
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REQUESTS_H
#define NBDRAM_SERVER_SESSION_REQUESTS_H

#include "server/session/input.h"
#include "server/session/state.h"

/* In CONNECTION_TRANSMISSION: process and consume requests.  What is left is a part of one, or
 * requests for which there is no room or no time now.  After a DISC the state is
 * CONNECTION_DRAINING, and the caller has to throw away what is left.
 *
 * Returns 0; -EAGAIN if replies wait for the client (replies.h) or the turn is over; another
 * -errno if the connection has to be closed, such as -EPROTO after a wrong magic number or a
 * payload that is too long to be skipped. */
int requests_take(struct connection *connection, struct input *input);

#endif
