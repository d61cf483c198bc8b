/* SPDX-License-Identifier: BSD-3-Clause */

/* transport - bytes to and from one client
 *
 * Only transports read and write the descriptors of connections: under TLS, a read or write by
 * any other code would break the encrypted stream.  Only one thread uses a transport at a time.
 *
 * Nothing blocks.  Send and receive return a number of bytes, which may be fewer than asked for,
 * or one of these errors:
 *
 *   -EAGAIN   nothing can be done now: wait until the descriptor is readable (receive) or
 *             writable (send)
 *   -EPIPE    the client is gone: it has reset the connection, or has closed the end to which we
 *             send, or (TLS) has ended its stream without close_notify
 *   -EPROTO   TLS: the client has sent something unacceptable, which is a forged record, a
 *             renegotiation, or an alert during the handshake
 *   other     another -errno
 *
 * After any error but -EAGAIN, the caller can only close the transport.  If a receive returns 0,
 * the stream has ended.  The caller's vectors are not changed.  The process must ignore SIGPIPE.
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
    int in, out; /* descriptors that the transport owns; both are equal, except with -s */
    struct tls_session *tls; /* the session of TLS; NULL: no TLS */
};

/* Take over the descriptors, and make them non-blocking.  A TCP socket gets TCP_NODELAY, and
 * keep-alive if `keepalive` is true.  A Unix socket gets a larger send buffer, so that a reply of
 * 256 KiB goes out in one piece.  Returns 0 or -errno.  On an error the caller still owns the
 * descriptors. */
int transport_init(struct transport *transport, int in, int out, bool keepalive);

/* Close the descriptors.  Under TLS, this function first tries to send close_notify and all bytes
 * that still wait inside the transport.  Bytes that cannot be written at once are lost. */
void transport_close(struct transport *transport);

/* End the stream that we send.  Under TLS, first sends close_notify.  Returns true if we can
 * still receive from the client.  Returns false if shutdown(2) fails, which it always does for a
 * pipe.  The caller then has to close the transport. */
bool transport_shut(struct transport *transport);

/* Start TLS.  From this call on, all bytes go through TLS, and the handshake comes first.  Before
 * the call, the caller must have sent all plaintext, and must throw away all bytes that it has
 * received but not yet processed.  The transport holds the credentials until it is closed.
 * Returns 0 or -ENOMEM.  On an error the transport is unchanged. */
int transport_start_tls(struct transport *transport, struct tls_credentials *credentials);

/* Continue the handshake.  Returns
 *
 *   0         the handshake is complete; the client is verified, if the credentials ask for that
 *   -EAGAIN   the handshake waits for the event that transport_events returns
 *   -EPIPE    the client is gone
 *   other     another -errno, usually -EPROTO
 *
 * Each error but -EAGAIN comes with a reason.  Nothing may be sent or received before the
 * handshake is complete. */
int transport_handshake(struct transport *transport, struct reason *reason);

/* Return the event for which a handshake waits after it has returned -EAGAIN: EPOLLIN on
 * transport->in, or EPOLLOUT on transport->out. */
uint32_t transport_events(const struct transport *transport);

/* Receive into at most IOV_MAX vectors, whose total size must be at least one byte. */
ssize_t transport_receive(struct transport *transport, const struct iovec *iov, int count);

/* Send at most IOV_MAX vectors.  Under TLS, the last record that was sent (at most 16 KiB) may
 * still wait inside the transport: see transport_wants_flush.  If count is 0, only the rest of
 * that record is sent, and the result is 0 or an error. */
ssize_t transport_send(struct transport *transport, const struct iovec *iov, int count);

/* Do bytes that count as sent still wait inside the transport?  If so, the caller has to call
 * transport_send as soon as the descriptor is writable.  A count of 0 is enough. */
bool transport_wants_flush(const struct transport *transport);

/* Do bytes from the client wait inside the transport, where epoll cannot see them?  If so, the
 * caller has to receive before it waits. */
bool transport_has_pending(const struct transport *transport);

/* Write the name of the client into `name`, for log lines: "127.0.0.1:4711", "[::1]:4711",
 * "unix:PID", "vsock:CID:PORT", "stdio" or "unknown".  `name` is always terminated. */
void transport_peer(const struct transport *transport, char *name, size_t size);

#endif
