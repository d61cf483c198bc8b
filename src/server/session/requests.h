/* SPDX-License-Identifier: BSD-3-Clause */

/* requests - parse and process the requests of a client
 *
 * nbd/command.h parses and checks the requests, one after the other.  commands.h carries them
 * out.  NBD allows the server to carry out requests in any order.  We carry out requests in the
 * order in which they arrived, with one exception: the reads of a batch come last (replies.h).
 *
 *     PAYLOAD                    WHAT IS DONE WITH IT
 *     complete                   commands_carry_out takes it from the input
 *     small, but incomplete      it stays in the input, with its header, until the rest arrives
 *     large, but incomplete      commands_begin_payload takes the part that has arrived, and
 *                                inbox.h receives the rest
 *     of a refused request       commands_begin_payload throws it away as it arrives
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_REQUESTS_H
#define NBDRAM_SERVER_SESSION_REQUESTS_H

#include "server/session/input.h"
#include "server/session/state.h"

/* Process and consume requests.  The state of the connection must be CONNECTION_TRANSMISSION.
 * After a DISC the state is CONNECTION_DRAINING, and the caller has to throw away the bytes that
 * are left in `input`.
 *
 * Returns
 *
 *     0        all complete requests were processed, or a DISC has arrived
 *     -EAGAIN  replies wait for the client (replies.h), or the turn is over; requests may be left
 *              in `input`
 *     -EPROTO  the connection has to be closed: a magic number is wrong, or a payload is too long
 *              to be skipped
 *     -errno   (any other) the connection has to be closed */
int requests_take(struct connection *connection, struct input *input);

#endif
