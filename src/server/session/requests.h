/* SPDX-License-Identifier: BSD-3-Clause */

/* requests - the bytes of a client in transmission, parsed into requests
 *
 * The functions of nbd/command.h parse and check requests, one after the other; those of
 * commands.h carry them out.  Requests are carried out in the order in which they arrived, except
 * that the reads of a batch are carried out last (replies.h): NBD leaves the order of requests in
 * flight to the server.
 *
 * Where a payload goes:
 *
 *     all of it has arrived       commands_carry_out, from the input
 *     small, a part is missing    left in the input, with its header, until all of it has arrived
 *     large, a part is missing    commands_begin_payload takes the part that has arrived, and
 *                                 inbox.h receives the rest
 *     of a refused request        thrown away as it arrives (commands_begin_payload)
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REQUESTS_H
#define NBDRAM_SERVER_SESSION_REQUESTS_H

#include "server/session/input.h"
#include "server/session/state.h"

/* To be called in the state CONNECTION_TRANSMISSION.  Processes and consumes requests.  Bytes
 * that are left in input are a part of a request, or requests for which there is no room or no
 * time now.  After a DISC the state is CONNECTION_DRAINING, and the caller has to throw away the
 * bytes that are left.
 *
 * Returns 0; -EAGAIN if replies wait for the client (replies.h) or the turn is over; another
 * -errno if the connection has to be closed, such as -EPROTO after a wrong magic number or a
 * payload that is too long to be skipped. */
int requests_take(struct connection *connection, struct input *input);

#endif
