/* SPDX-License-Identifier: BSD-3-Clause */

/* connection - one client, from its first byte to its last
 *
 *                accept
 *                  |
 *                  v
 *     .------ HANDSHAKE <-----------------.
 *     |        |     |  STARTTLS          | complete
 *     |        |     '--------> TLS ------'
 *     |  GO,   |                 |
 *     |  EXPORT_NAME             | refused
 *     |        v                 |
 *     |   TRANSMISSION           |         end of stream, error, idle when the server stops:
 *     |        |                 |         from every state
 *     | ABORT  | DISC, bad magic |                          |
 *     v        v                 v                          |
 *      DRAINING ----------> CLOSED <------------------------'
 *            all was sent      ^
 *                              '-- LINGERING <-- from wherever something was answered while
 *                   end of stream                the server stops
 *
 *     STATE         FUNCTION             WHAT IS TRUE
 *     HANDSHAKE     inbox_receive        `handshake` exists; the loop knows a deadline
 *     TLS           negotiation_secure   `handshake` exists; nothing is unread; the deadline of
 *                                        HANDSHAKE stays in force
 *     TRANSMISSION  inbox_receive        `session` is constant, except for shutting_down
 *     DRAINING      replies_resume       nothing more is received; replies go out
 *     LINGERING     discard_input        our side is shut.  Bytes that arrive are received and
 *                                        thrown away: if they stayed unread, the system would
 *                                        reset the connection before the client has read our
 *                                        answers
 *     CLOSED        connection_destroy   the loop calls it after the current round of events
 *
 * While replies wait for the client to take them (`unsent`, `waiting`), nothing is received.  So
 * a client that never reads takes memory for the requests of one receive and for the replies to
 * them.  The sizes in struct scratch limit both.
 *
 * Files, each of which includes only those to its right:
 *
 *     connection - inbox - negotiation, requests - commands - replies - plan - state, worker
 *
 * Threads: the main thread creates a connection.  After connection_attach it belongs to the
 * thread of its loop.
 */

#ifndef NBDRAM_SERVER_SESSION_CONNECTION_H
#define NBDRAM_SERVER_SESSION_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/session/state.h"

struct reason; /* text/reason.h */

/* Create a connection over two descriptors.  For a socket, in and out are the same descriptor.
 * The first step sends the greeting.  Returns 0, and the connection owns the descriptors; or
 * -errno, and the descriptors stay the caller's. */
int connection_create(const struct service *service, int in, int out,
                      struct connection **connection);

/* Close the descriptors and free everything. */
void connection_destroy(struct connection *connection);

/* Lend the connection a loop's worker.  From now on the connection belongs to that loop's
 * thread. */
void connection_attach(struct connection *connection, struct worker *worker);

/* Do as much work as is possible without waiting, until the turn is over.  The caller must have
 * begun the turn (turn.h).  If work is left at the end of the turn, connection_wants_turn returns
 * true. */
void connection_step(struct connection *connection);

/* Called instead of connection_step while the server is stopping: answer the requests that have
 * arrived already, complete those in flight, and close. */
void connection_stop(struct connection *connection);

/* Whether the connection needs another turn even if no descriptor becomes ready. */
bool connection_wants_turn(const struct connection *connection);

/* Whether the next step is a step of a TLS handshake.  Such a step takes a millisecond or more,
 * and cannot be interrupted. */
bool connection_is_securing(const struct connection *connection);

/* The events to wait for before the next step, unless the connection wants a turn: EPOLLIN on
 * transport.in, EPOLLOUT on transport.out. */
uint32_t connection_events(const struct connection *connection);

/* Whether the connection is still in its handshake.  The handshake of TLS is a part of it. */
bool connection_is_handshaking(const struct connection *connection);

/* Whether the connection has ended, and has to be destroyed. */
bool connection_is_closed(const struct connection *connection);

/* End the connection.  The caller then has to destroy it. */
void connection_close(struct connection *connection);

/* Log that the handshake took longer than the service allows, or the client's idleness, and
 * close. */
void connection_expire(struct connection *connection);

/* Verify the invariants that state.h lists.  Returns 0, or -EUCLEAN with a reason that names the
 * broken invariant. */
int connection_check(const struct connection *connection, struct reason *reason);

/* The memory of the connection, including that of its handshake even if that is over.  The number
 * of bytes is an estimate. */
size_t connection_memory(const struct connection *connection);

#endif
