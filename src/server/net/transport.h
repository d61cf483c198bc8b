/* SPDX-License-Identifier: BSD-3-Clause */

/* transport - bytes to and from one client
 *
 * Only transports read and write the descriptors of connections: under TLS, a read or write by
 * any other code would break the encrypted stream.  A transport is used by one thread at a time.
 *
 * Nothing blocks.  Send and receive return a number of bytes, which may be fewer than asked for,
 * or one of
 *
 *   -EAGAIN   nothing can be done now: wait until the descriptor is readable (receive) or
 *             writable (send)
 *   -EPIPE    the client is gone: it has reset the connection, or has closed the end to which we
 *             send, or (TLS) its stream has ended without a goodbye
 *   -EPROTO   TLS: what was received is not acceptable (a forged record, an alert, a
 *             renegotiation)
 *   other     -errno
 *
 * After any error but -EAGAIN the only thing left to do is to close.  A receive that returns 0
 * has reached the end of the stream.  The caller's vectors are not changed.  The process must
 * ignore SIGPIPE.
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
    int in, out;             /* descriptors, owned; in == out, except with -s */
    struct tls_session *tls; /* NULL: no TLS */
};

/* Take over the descriptors, and make them non-blocking.  A TCP socket gets TCP_NODELAY and, if
 * asked for, keep-alive; a Unix socket gets a larger send buffer, so that a reply of 256 KiB goes
 * out in one piece.  Returns 0; or -errno, and the descriptors stay the caller's. */
int transport_init(struct transport *transport, int in, int out, bool keepalive);

/* Close the descriptors.  Under TLS, first tries to send the bytes that wait to be flushed, and a
 * goodbye.  Bytes that cannot be written at once are lost. */
void transport_close(struct transport *transport);

/* Send the client a goodbye (TLS) and the end of the stream.  Returns true if we can still
 * receive from the client.  Returns false if the descriptor is a pipe, which has no separate end
 * to shut, or if shutting fails: then the only thing left to do is to close. */
bool transport_shut(struct transport *transport);

/* Start TLS.  From here on all bytes go through TLS, and the handshake comes first.  Before the
 * call, the caller must have sent all plaintext, and must throw away all bytes that it has
 * received but not yet processed.  Returns 0; or -ENOMEM, and the transport is unchanged. */
int transport_start_tls(struct transport *transport, const struct tls_credentials *credentials);

/* Continue the handshake.  Returns 0 when the handshake is complete (and the client verified, if
 * the credentials ask for that); -EAGAIN if it has to wait for transport_events; or another
 * -errno with a reason: -EPIPE if the client is gone, otherwise usually -EPROTO.  Nothing may be
 * sent or received before the handshake is complete. */
int transport_handshake(struct transport *transport, struct reason *reason);

/* The event for which a handshake waits after an -EAGAIN: EPOLLIN on transport->in, or EPOLLOUT
 * on transport->out. */
uint32_t transport_events(const struct transport *transport);

/* Receive into at most IOV_MAX vectors, which together have room for at least one byte. */
ssize_t transport_receive(struct transport *transport, const struct iovec *iov, int count);

/* Send at most IOV_MAX vectors.  Under TLS the last bytes that were sent (one record, of at most
 * 16 KiB) may still wait inside the transport: see transport_wants_flush.  If count is 0, only
 * those waiting bytes are sent, and the result is 0 or an error. */
ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count);

/* Do bytes that count as sent still wait inside the transport?  If so, the caller has to call
 * transport_send, with a count of 0 or more, once the descriptor is writable. */
bool transport_wants_flush(const struct transport *transport);

/* Do bytes from the client wait inside the transport, where epoll cannot see them?  If so, the
 * caller has to receive before it waits. */
bool transport_has_pending(const struct transport *transport);

/* Name the client for log lines: "127.0.0.1:4711", "[::1]:4711", "unix:PID", "vsock:CID:PORT",
 * "stdio" or "unknown".  name is always terminated. */
void transport_peer(const struct transport *transport, char *name, size_t size);

#endif
