/* SPDX-License-Identifier: BSD-3-Clause */

/* tls - one TLS session, made with GnuTLS and used by transport.c
 *
 * Accepts TLS 1.2 and later.  A session belongs to one connection, and only one thread uses it at
 * a time.  Functions return the errors of transport.h: -EAGAIN, -EPIPE, -EPROTO, or another
 * -errno.
 */

#ifndef NBDRAM_SERVER_NET_TLS_H
#define NBDRAM_SERVER_NET_TLS_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct reason;          /* text/reason.h */
struct tls_credentials; /* server/net/tls_credentials.h */
struct tls_session;

/* Make a session over two descriptors.  The caller still owns the descriptors.  The session holds
 * the credentials until it is freed.
 *
 * The caller must throw away all bytes that it has received before this call.  They were not
 * encrypted, so an attacker may have sent them.
 *
 * Returns 0 or -ENOMEM.  On an error *session is unchanged. */
int tls_session_create(struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session);
void tls_session_free(struct tls_session *session); /* NULL is accepted */

/* Continue the handshake.  Returns
 *
 *   0         the handshake is complete; the client's certificate is verified, if the credentials
 *             ask for that
 *   -EAGAIN   the handshake waits for a descriptor: see tls_session_wants_write
 *   -EPIPE    the client is gone
 *   -EPROTO   one end refuses the other (version, certificate, key...)
 *   other     another -errno
 *
 * Each error but -EAGAIN comes with a reason.  If we refuse the client, we try to send it an
 * alert. */
int tls_session_handshake(struct tls_session *session, struct reason *reason);

/* To be called after the handshake has returned -EAGAIN.  Returns true if the handshake waits for
 * `out` to become writable, or false if it waits for `in` to become readable. */
bool tls_session_wants_write(const struct tls_session *session);

/* Receive into the vectors.  Returns the number of bytes, which can be fewer than asked for:
 *
 *   - if no more bytes have arrived
 *   - if the stream has ended
 *   - if 16 records have been received; tls_session_has_pending is then true, and the limit
 *     keeps the thread free for other clients, even if a client sends tiny records
 *
 * Returns 0 if the client has ended the stream with close_notify, or -EPIPE if the stream has
 * ended without close_notify. */
ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count);

/* Send the bytes of the vectors, until a record cannot be written at once.  Each record has up to
 * 16 KiB, whatever the sizes of the vectors are.
 *
 * If a record cannot be written at once, the session keeps it, encrypted, and its bytes count as
 * sent.  The next send first writes the rest of that record, even if count is 0.
 *
 * Returns the number of bytes sent, or -EAGAIN if no bytes were sent.  Needs 16 KiB of stack. */
ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count);

/* Does a record, or a part of a record, still wait to be written? */
bool tls_session_wants_flush(const struct tls_session *session);

/* Does the session hold bytes from the descriptor that no receive has returned yet? */
bool tls_session_has_pending(const struct tls_session *session);

/* Send close_notify to the client, if that is possible without waiting.  After this call, the
 * caller must not send any more bytes. */
void tls_session_bye(struct tls_session *session);

#endif
