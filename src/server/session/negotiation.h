/* SPDX-License-Identifier: BSD-3-Clause */

/* negotiation - what happens to a connection before transmission: options, and TLS
 *
 * nbd/handshake.h parses and answers the options.  The functions here hand it the bytes that have
 * arrived, and turn its results into the state of the connection.
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_NEGOTIATION_H
#define NBDRAM_SERVER_SESSION_NEGOTIATION_H

#include "server/session/input.h"
#include "server/session/state.h"

/* To be called in the state CONNECTION_HANDSHAKE.  Processes and consumes options.  The new state
 * of the connection says which bytes are left in input:
 *
 *     CONNECTION_HANDSHAKE       options to whose replies there is no room now, or a part of an
 *                                option
 *     CONNECTION_TRANSMISSION    requests
 *     CONNECTION_TLS, _DRAINING  bytes that the caller has to throw away
 *
 * Returns 0; -EAGAIN if replies wait for the client (replies.h); another -errno if the connection
 * has to be closed. */
int negotiation_take(struct connection *connection, struct input *input);

/* To be called in the state CONNECTION_TLS, after all plaintext has been sent.  Continues the
 * handshake of TLS, and logs it if one side refuses the other.  Returns
 *
 *     1        the handshake is complete; the state is CONNECTION_HANDSHAKE again, inside TLS
 *     -EAGAIN  the handshake has to wait for transport_events
 *     -errno   (any other) the connection has to be closed */
int negotiation_secure(struct connection *connection);

#endif
