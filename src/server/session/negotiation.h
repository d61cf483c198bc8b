/* SPDX-License-Identifier: BSD-3-Clause */

/* negotiation - process the handshake of a connection: options, and TLS
 *
 * nbd/handshake.h parses and answers the options.  The functions here pass the received bytes to
 * nbd/handshake.h, and set the state of the connection according to the results.
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_NEGOTIATION_H
#define NBDRAM_SERVER_SESSION_NEGOTIATION_H

#include "server/session/input.h"
#include "server/session/state.h"

/* Process and consume options.  The state of the connection must be CONNECTION_HANDSHAKE.  The
 * function can change the state.  The new state says which bytes are left in `input`:
 *
 *     CONNECTION_HANDSHAKE       a part of an option, or options that cannot be answered now
 *     CONNECTION_TRANSMISSION    requests
 *     CONNECTION_TLS, _DRAINING  bytes that the caller has to throw away
 *
 * Returns
 *
 *     0        all complete options were answered, or the state has changed
 *     -EAGAIN  replies wait for the client (replies.h), or the turn is over
 *     -errno   (any other) the connection has to be closed */
int negotiation_take(struct connection *connection, struct input *input);

/* Continue the TLS handshake.  The state of the connection must be CONNECTION_TLS, and all
 * plaintext must have been sent.  If the server or the client refuses, the reason is logged.
 * Returns
 *
 *     1        the TLS handshake is complete; the state is CONNECTION_HANDSHAKE again
 *     -EAGAIN  the TLS handshake has to wait for transport_events
 *     -errno   (any other) the connection has to be closed */
int negotiation_secure(struct connection *connection);

#endif
