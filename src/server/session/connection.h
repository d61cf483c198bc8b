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
 *     |   TRANSMISSION <-> HELD  |         from every state: after an error, at the end of the
 *     |        |                 |         stream, or if it is idle when the server stops
 *     | ABORT  | DISC, bad magic |                          |
 *     v        v                 v                          |
 *      DRAINING ----------> CLOSED <------------------------'
 *            all was answered  ^
 *                              '-- LINGERING <-- from every state: if a request or option was
 *                   end of stream                answered while the server was stopping
 *
 *     STATE         FUNCTION             WHAT IS TRUE
 *     HANDSHAKE     inbox_receive        `handshake` exists; the handshake has a deadline
 *     TLS           negotiation_secure   `handshake` exists; nothing is unread; the deadline is
 *                                        that of HANDSHAKE
 *     TRANSMISSION  inbox_receive        `session` is constant, except for shutting_down
 *     HELD          -                    nothing is received until parked requests have returned
 *                                        (park.h): as many are parked as may be, or a part of the
 *                                        active payload job or zero job is
 *     DRAINING      answer_parked        nothing more is received; replies go out, also those to
 *                                        parked requests
 *     LINGERING     discard_input        nothing more is sent.  Bytes that arrive are received
 *                                        and thrown away: unread bytes would make the system
 *                                        reset the connection before the client has read our
 *                                        answers
 *     CLOSED        connection_destroy   the loop destroys the connection after the current
 *                                        round of events
 *
 * While the connection has replies that are not sent yet (`unsent`, `waiting`), the server does
 * not receive from it.  So if a client never reads, the server stores only the requests from one
 * call of transport_receive, and the replies to them.  The sizes of the arrays in struct scratch
 * limit both.
 *
 * At the end of the stream the client may still wait for answers to its parked requests, so the
 * connection is DRAINING until they are answered.  A connection that ends before that abandons
 * them.
 *
 * The files of a connection form layers.  Each file includes only files to its right:
 *
 *     connection - inbox - negotiation, requests - commands - replies - plan - state, worker -
 *     park
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

/* Create a connection over two descriptors.  For a socket, `in` and `out` are the same
 * descriptor.  The first call of connection_step sends the greeting.  Returns 0 or -errno.  After
 * 0 the connection owns the descriptors.  After an error the caller still owns them. */
int connection_create(const struct service *service, int in, int out,
                      struct connection **connection);

/* Close the descriptors of the connection, and free all of its memory. */
void connection_destroy(struct connection *connection);

/* Give the connection the worker of its loop.  From then on the connection belongs to the thread
 * of that loop. */
void connection_attach(struct connection *connection, struct worker *worker);

/* Serve the connection until its turn is over, or until it would have to wait for the client.
 * The caller must have begun the turn (turn.h).  If the turn ended before all work was done,
 * connection_wants_turn returns true. */
void connection_step(struct connection *connection);

/* Called instead of connection_step while the server is stopping.  Requests in flight are
 * continued, and new requests are refused with ESHUTDOWN.  Once nothing is in flight, the
 * connection is closed. */
void connection_stop(struct connection *connection);

/* Whether the connection needs another turn, even if none of its descriptors becomes ready. */
bool connection_wants_turn(const struct connection *connection);

/* Whether the next call of connection_step will continue a TLS handshake.  Such a call takes a
 * millisecond or more, and cannot be interrupted. */
bool connection_is_securing(const struct connection *connection);

/* Returns the epoll events for which the connection has to wait: EPOLLIN on transport.in, or
 * EPOLLOUT on transport.out.  The result is valid only if connection_wants_turn returns false. */
uint32_t connection_events(const struct connection *connection);

/* Whether the handshake of the connection is not complete yet. */
bool connection_is_handshaking(const struct connection *connection);

/* Whether requests of the connection are parked (park.h). */
bool connection_is_parked(const struct connection *connection);

/* Called when a parked request has returned.  The next step will answer it, before it receives
 * anything.  Does nothing if the connection has ended. */
void connection_hold(struct connection *connection);

/* Whether the connection has ended.  If it has, the caller has to destroy it. */
bool connection_is_closed(const struct connection *connection);

/* End the connection.  The caller then has to call connection_destroy. */
void connection_close(struct connection *connection);

/* Close a connection whose deadline has passed.  Logs the reason: the handshake took too long, or
 * the client was idle for too long. */
void connection_expire(struct connection *connection);

/* Verify the invariants of a connection, which are listed in state.h.  Returns 0, or -EUCLEAN
 * with a reason that names the broken invariant. */
int connection_check(const struct connection *connection, struct reason *reason);

/* Returns an estimate of the memory of a connection, in bytes.  The estimate always includes the
 * memory for a handshake. */
size_t connection_memory(const struct connection *connection);

#endif
