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
 *     |   TRANSMISSION           |         from every state: after an error, at the end of the
 *     |        |                 |         stream, or if it is idle when the server stops
 *     | ABORT  | DISC, bad magic |                          |
 *     v        v                 v                          |
 *      DRAINING ----------> CLOSED <------------------------'
 *            all was sent      ^
 *                              '-- LINGERING <-- from every state: if a request or option was
 *                   end of stream                answered while the server was stopping
 *
 *     STATE         FUNCTION             WHAT IS TRUE
 *     HANDSHAKE     inbox_receive        `handshake` exists; the handshake has a deadline
 *     TLS           negotiation_secure   `handshake` exists; nothing is unread; the deadline is
 *                                        that of HANDSHAKE
 *     TRANSMISSION  inbox_receive        `session` is constant, except for shutting_down
 *     DRAINING      replies_resume       nothing more is received; replies go out
 *     LINGERING     discard_input        nothing more is sent.  Bytes that arrive are received
 *                                        and thrown away: unread bytes would make the system
 *                                        reset the connection before the client has read our
 *                                        answers
 *     CLOSED        connection_destroy   the loop destroys the connection after the current
 *                                        round of events
 *
 * While replies wait for the client to take them (`unsent`, `waiting`), nothing is received.  So
 * a client that never reads takes memory only for the requests of one receive, and for their
 * replies.  The sizes in struct scratch limit both.
 *
 * Each of these files includes only files to its right:
 *
 *     connection - inbox - negotiation, requests - commands - replies - plan - state, worker
 *
 * Threads: the main thread creates a connection.  After connection_attach the connection belongs
 * to the thread of its loop.
 */

#ifndef NBDRAM_SERVER_SESSION_CONNECTION_H
#define NBDRAM_SERVER_SESSION_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/session/state.h"

struct reason; /* text/reason.h */

/* Create a connection over two descriptors.  For a socket, in and out are the same descriptor.
 * The first step will send the greeting.  Returns 0 or -errno.  If the result is 0, the
 * connection owns the descriptors.  On an error the caller keeps them. */
int connection_create(const struct service *service, int in, int out,
                      struct connection **connection);

/* Close the descriptors and free everything. */
void connection_destroy(struct connection *connection);

/* Lend the connection the worker of a loop.  From now on the connection belongs to the thread of
 * that loop. */
void connection_attach(struct connection *connection, struct worker *worker);

/* Work until the turn is over, or until the connection would have to wait.  The caller must have
 * begun the turn (turn.h).  If work is left at the end of the turn, connection_wants_turn returns
 * true. */
void connection_step(struct connection *connection);

/* Make a step while the server is stopping.  Called instead of connection_step.  New requests are
 * refused with ESHUTDOWN, and requests in flight are continued.  Closes the connection once
 * nothing is in flight. */
void connection_stop(struct connection *connection);

/* Whether the connection needs another turn even if no descriptor becomes ready. */
bool connection_wants_turn(const struct connection *connection);

/* Whether the next step is a step of a TLS handshake.  Such a step takes a millisecond or more,
 * and cannot be interrupted. */
bool connection_is_securing(const struct connection *connection);

/* The events to wait for before the next step: EPOLLIN on transport.in, or EPOLLOUT on
 * transport.out.  Only valid if the connection wants no turn. */
uint32_t connection_events(const struct connection *connection);

/* Whether the connection has not reached transmission yet. */
bool connection_is_handshaking(const struct connection *connection);

/* Whether the connection has ended, and has to be destroyed. */
bool connection_is_closed(const struct connection *connection);

/* End the connection.  The caller then has to call connection_destroy. */
void connection_close(struct connection *connection);

/* Close a connection whose deadline has passed.  Logs the reason: the handshake took too long, or
 * the client was idle for too long. */
void connection_expire(struct connection *connection);

/* Verify the invariants that state.h lists.  Returns 0, or -EUCLEAN with a reason that names the
 * broken invariant. */
int connection_check(const struct connection *connection, struct reason *reason);

/* Estimate the memory that the connection takes, in bytes.  Memory for a handshake is included
 * even if the handshake is over. */
size_t connection_memory(const struct connection *connection);

#endif
