/* SPDX-License-Identifier: BSD-3-Clause */

/* transport - bytes to and from one client
 *
 * The only part of the server that sees a connection's descriptors: whoever read them behind its
 * back would be out of step under TLS.  Used by one thread at a time.
 *
 * Nothing blocks.  Sends and receives answer with a number of bytes, which may be fewer than
 * asked for, or
 *   -EAGAIN   nothing can be done now; wait until the descriptor is readable (receive) or
 *             writable (send)
 *   -EPIPE    the peer is gone: reset, closed for what we send, or (TLS) cut off without a
 *             goodbye
 *   -EPROTO   TLS: what came is not for us (a forged record, an alert, a renegotiation)
 *   other     -errno
 * after any but -EAGAIN there is nothing left but to close.  A receive of 0 is the end of the
 * stream.  The vectors that are passed stay as they are.  SIGPIPE must be ignored by the process.
 */

#ifndef NBDRAM_SERVER_NET_TRANSPORT_H
#define NBDRAM_SERVER_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct reason; /* text/reason.h */

struct tls_credentials; /* tls.h */
struct tls_session;

struct transport {
    int in, out;             /* the same descriptor, but with -s; owned */
    struct tls_session *tls; /* NULL: plain */
};

/* Takes the descriptors over and makes them non-blocking.  A TCP socket gets TCP_NODELAY and, if
 * asked for, keep-alive; a Unix socket a larger send buffer, so that a request of 256 KiB goes
 * out in one piece.  On an error (-errno) they stay the caller's. */
int transport_init(struct transport *transport, int in, int out, bool keepalive);

/* Close; under TLS, try to say goodbye first.  What waits to be flushed is tried once more, and
 * then lost. */
void transport_close(struct transport *transport);

/* Tell the peer that nothing more will be sent.  False if the descriptor has no such end, or it
 * failed: then there is nothing but to close. */
bool transport_shut(struct transport *transport);

/* From here on everything goes through TLS, the handshake first.  The caller forgets whatever he
 * has received and not yet looked at, and has sent all that was to go in the clear.  On an error
 * (-ENOMEM) the transport is as it was. */
int transport_start_tls(struct transport *transport, const struct tls_credentials *credentials);

/* Go on with the handshake: 0 when it is complete (peer verified, if that was asked for), -EAGAIN
 * (wait for transport_events), or another -errno with one line in why: -EPIPE if the peer went,
 * else -EPROTO.  Neither receive nor send before it is complete. */
int transport_handshake(struct transport *transport, struct reason *reason);

/* EPOLLIN or EPOLLOUT: what the last -EAGAIN of a handshake waits for, on transport->in or
 * transport->out respectively. */
uint32_t transport_events(const struct transport *transport);

/* At most IOV_MAX vectors, at least one byte. */
ssize_t transport_receive(struct transport *transport, const struct iovec *iov, int count);

/* Under TLS the last of the bytes taken (one record, at most 16 KiB) may still wait in the
 * session for the descriptor to become writable: see transport_wants_flush.  count may be 0: then
 * only that is gone on with, and the answer is 0 or an error. */
ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count);

/* Bytes that were taken still wait to go out: send, maybe nothing, once the descriptor is
 * writable. */
bool transport_wants_flush(const struct transport *transport);

/* Bytes that were received from the peer wait inside the transport, where epoll cannot see them:
 * receive before waiting. */
bool transport_has_pending(const struct transport *transport);

/* The address of the peer for log lines: "127.0.0.1:4711", "[::1]:4711", "unix:PID",
 * "vsock:CID:PORT" or "stdio"; always terminated. */
void transport_peer(const struct transport *transport, char *name, size_t size);

#endif
