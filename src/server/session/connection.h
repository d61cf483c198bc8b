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
 *     TLS           negotiation_secure   `handshake` exists; nothing is unread; same deadline
 *     TRANSMISSION  inbox_receive        `session` is constant, except for shutting_down
 *     DRAINING      replies_resume       nothing more is received; replies go out
 *     LINGERING     discard_input        our side is shut.  What arrives is thrown away: if it
 *                                        stayed unread, the system would reset the connection
 *                                        before the client has read our answers
 *     CLOSED        connection_destroy   the loop calls it after the current round of events
 *
 * While replies wait for the client to take them (`unsent`, `waiting`), nothing is received.  So
 * a client that never reads costs what it sent in one piece, and the replies to that; struct
 * scratch bounds both.
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

/* Create a connection over two descriptors, which are the same one twice for a socket.  Its
 * greeting goes out with the first step.  The connection owns the descriptors afterwards; on an
 * error (-errno) they stay the caller's. */
int connection_create(const struct service *service, int in, int out,
                      struct connection **connection);

/* Close the descriptors and free everything. */
void connection_destroy(struct connection *connection);

/* Lend it the worker of the loop whose thread it belongs to from now on. */
void connection_attach(struct connection *connection, struct worker *worker);

/* Go as far as possible without waiting, until the turn is over, which the caller has begun
 * (turn.h).  If there is more to do then, connection_wants_turn is true afterwards. */
void connection_step(struct connection *connection);

/* Called instead of connection_step while the server is stopping: answer what has arrived
 * already, complete what is in flight, and close. */
void connection_stop(struct connection *connection);

/* Whether it needs another turn even if no descriptor becomes ready. */
bool connection_wants_turn(const struct connection *connection);

/* Whether the next step is one of a TLS handshake.  That takes a millisecond or more, and cannot
 * be interrupted. */
bool connection_is_securing(const struct connection *connection);

/* What to wait for until the next step, unless it wants a turn: EPOLLIN on transport.in, EPOLLOUT
 * on transport.out. */
uint32_t connection_events(const struct connection *connection);

/* Whether the connection is still in its handshake, which includes that of TLS. */
bool connection_is_handshaking(const struct connection *connection);

/* Whether the connection has ended, and has to be destroyed. */
bool connection_is_closed(const struct connection *connection);

/* End the connection, which then has to be destroyed. */
void connection_close(struct connection *connection);

/* Log that the handshake took longer than the service allows, or the client's idleness, and
 * close. */
void connection_expire(struct connection *connection);

/* Verify the invariants that state.h lists.  0, or -EUCLEAN and the broken one in reason. */
int connection_check(const struct connection *connection, struct reason *reason);

/* The memory that it takes, and that its handshake took: about so many bytes. */
size_t connection_memory(const struct connection *connection);

#endif
