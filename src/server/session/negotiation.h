/* SPDX-License-Identifier: BSD-3-Clause */

/* negotiation - what happens to a connection before transmission: options, and TLS
 *
 * nbd/handshake.h knows the options and their answers.  Here its steps are made with the bytes
 * that have arrived, and the state of the connection follows.
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_NEGOTIATION_H
#define NBDRAM_SERVER_SESSION_NEGOTIATION_H

#include "server/session/input.h"
#include "server/session/state.h"

/* In CONNECTION_HANDSHAKE: process input, option by option, and consume what was processed; what
 * is left is the beginning of an option, or, once the state is CONNECTION_TRANSMISSION, requests.
 * In the other states it may change to (TLS, DRAINING) nobody may look at what is left.
 *
 * Returns 0; -EAGAIN when replies wait for the client (replies.h); another -errno when the
 * connection is to be closed. */
int negotiation_take(struct connection *connection, struct input *input);

/* In CONNECTION_TLS, once everything in the clear has been sent: go on with the TLS handshake.
 * Returns 1 when it is complete: the state is CONNECTION_HANDSHAKE again, now inside TLS.
 * -EAGAIN: wait for transport_events.  Another -errno: the connection is to be closed; a refusal
 * has been logged. */
int negotiation_secure(struct connection *connection);

#endif
