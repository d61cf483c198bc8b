/* SPDX-License-Identifier: BSD-3-Clause */

/* negotiation - what happens to a connection before transmission: options, and TLS
 *
 * nbd/handshake.h knows the options and their answers.  Here the bytes that have arrived are
 * handed to it, and its results become the state of the connection.
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_NEGOTIATION_H
#define NBDRAM_SERVER_SESSION_NEGOTIATION_H

#include "server/session/input.h"
#include "server/session/state.h"

/* In CONNECTION_HANDSHAKE: process and consume options.  The state afterwards says what is left:
 *
 *     CONNECTION_HANDSHAKE       options for which there is no room now, or a part of one
 *     CONNECTION_TRANSMISSION    requests
 *     CONNECTION_TLS, _DRAINING  bytes that the caller has to throw away
 *
 * Returns 0; -EAGAIN if replies wait for the client (replies.h); another -errno if the connection
 * has to be closed. */
int negotiation_take(struct connection *connection, struct input *input);

/* In CONNECTION_TLS, after everything in the clear has been sent: go on with the handshake of
 * TLS. Returns 1 when it is complete, and the state is CONNECTION_HANDSHAKE again, now inside
 * TLS;
 * -EAGAIN if it has to wait for transport_events; another -errno if the connection has to be
 * closed.  A refusal is logged here. */
int negotiation_secure(struct connection *connection);

#endif
