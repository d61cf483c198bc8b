/* SPDX-License-Identifier: BSD-3-Clause */

/* transport - bytes to and from one client
 *
 * The only part of the server that uses a connection's descriptors.  Under TLS, any other read or
 * write would break the encrypted stream.  A transport is used by one thread at a time.
 *
 * Nothing blocks.  Send and receive return a number of bytes, which may be fewer than asked for,
 * or one of
 *
 *   -EAGAIN   nothing can be done now: wait until the descriptor is readable (receive) or
 *             writable (send)
 *   -EPIPE    the client is gone: it has reset the connection, or has closed the end to which we
 *             send, or (TLS) was cut off without a goodbye
 *   -EPROTO   TLS: what was received is not acceptable (a forged record, an alert, a
 *             renegotiation)
 *   other     -errno
 *
 * After any of these but -EAGAIN the only thing left to do is to close.  A receive of 0 bytes is
 * the end of the stream.  The vectors that are passed are not changed.  The process must ignore
 * SIGPIPE.
 */

#ifndef NBDRAM_SERVER_NET_TRANSPORT_H
#define NBDRAM_SERVER_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct reason;          /* text/reason.h */
struct tls_credentials; /* server/net/tls_credentials.h */
struct tls_session;     /* server/net/tls.h */

struct transport {
    int in, out;             /* owned; the same descriptor, except with -s */
    struct tls_session *tls; /* NULL: plain */
};

/* Take over the descriptors, and make them non-blocking.  A TCP socket gets TCP_NODELAY and, if
 * asked for, keep-alive; a Unix socket gets a larger send buffer, so that a reply of 256 KiB goes
 * out in one piece.  Returns 0, or -errno; then the descriptors stay the caller's. */
int transport_init(struct transport *transport, int in, int out, bool keepalive);

/* Close.  Under TLS, bytes that wait to be flushed are tried once more, and so is a goodbye.
 * What cannot be written at once is lost. */
void transport_close(struct transport *transport);

/* Tell the client that nothing more will be sent.  Returns false if the descriptor has no
 * separate end for that (a pipe), or if it fails: then the only thing left to do is to close. */
bool transport_shut(struct transport *transport);

/* Start TLS: from here on all bytes go through it, and the handshake comes first.  The caller
 * must have sent everything that was to go in the clear, and must discard what it has received
 * but not yet handled.  Returns 0 or -ENOMEM; then the transport is as it was. */
int transport_start_tls(struct transport *transport, const struct tls_credentials *credentials);

/* Continue the handshake.  Returns 0 when it is complete (and the client verified, if the
 * credentials ask for that), -EAGAIN (wait for transport_events), or another -errno with a
 * reason: -EPIPE if the client is gone, usually -EPROTO if not.  Nothing may be sent or received
 * before it is complete. */
int transport_handshake(struct transport *transport, struct reason *reason);

/* What the last -EAGAIN of a handshake waits for: EPOLLIN, on transport->in, or EPOLLOUT, on
 * transport->out. */
uint32_t transport_events(const struct transport *transport);

/* Receive into at most IOV_MAX vectors, which have room for at least one byte. */
ssize_t transport_receive(struct transport *transport, const struct iovec *iov, int count);

/* Send at most IOV_MAX vectors.  Under TLS the last bytes that were sent (one record, of at most
 * 16 KiB) may still wait inside the transport: see transport_wants_flush.  If count is 0, only
 * those are sent, and the result is 0 or an error. */
ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count);

/* Do bytes that were sent still wait inside the transport?  Then call send, be it with count 0,
 * once the descriptor is writable. */
bool transport_wants_flush(const struct transport *transport);

/* Do bytes that came from the client wait inside the transport, where epoll cannot see them?
 * Then receive before waiting. */
bool transport_has_pending(const struct transport *transport);

/* Name the client for log lines: "127.0.0.1:4711", "[::1]:4711", "unix:PID", "vsock:CID:PORT",
 * "stdio" or "unknown".  name is always terminated. */
void transport_peer(const struct transport *transport, char *name, size_t size);

#endif
