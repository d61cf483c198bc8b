/* SPDX-License-Identifier: BSD-3-Clause */

/* tls - one TLS session, over GnuTLS, as transport.c uses it
 *
 * TLS 1.2 and later.  A session belongs to one connection, and is used by one thread at a time.
 * Results are those of transport.h: -EAGAIN, -EPIPE, -EPROTO, or another -errno.
 */

#ifndef NBDRAM_SERVER_NET_TLS_H
#define NBDRAM_SERVER_NET_TLS_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct reason;          /* text/reason.h */
struct tls_credentials; /* server/net/tls_credentials.h */
struct tls_session;

/* Make a session over two descriptors.  The caller still owns the descriptors and the
 * credentials. Bytes that the caller has already received must be thrown away, and not become
 * input of the session: plaintext that was sent ahead of the handshake may be an attacker's.
 * Returns 0; or -ENOMEM, and *session is unchanged. */
int tls_session_create(const struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session);
void tls_session_free(struct tls_session *session); /* NULL is accepted */

/* Continue the handshake.  Returns 0 when the handshake is complete (and the client's certificate
 * verified, if the credentials ask for that); -EAGAIN; or another -errno with a reason: -EPIPE if
 * the client is gone, -EPROTO if one end refuses the other (version, certificate, key...).  A
 * client that we refuse is sent an alert, if that is possible. */
int tls_session_handshake(struct tls_session *session, struct reason *reason);

/* After an -EAGAIN of the handshake: returns true if the handshake waits for `out` to become
 * writable, or false if it waits for `in` to become readable. */
bool tls_session_wants_write(const struct tls_session *session);

/* Receive into the vectors.  Returns the number of bytes.  It is less than asked for if no more
 * bytes have arrived, if the stream has ended, or after 16 records: a client that sends tiny
 * records cannot occupy the thread.  In this last case tls_session_has_pending is true.  Returns
 * 0 at the client's goodbye, and -EPIPE if the stream was cut off without a goodbye. */
ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count);

/* Send the vectors' bytes, in records of up to 16 KiB whatever the sizes of the vectors are,
 * until a record cannot be written at once.  The session keeps that record, encrypted, and counts
 * its bytes as sent.  The next send, even one of no bytes (count 0), first writes the rest of the
 * record.  Returns the number of bytes sent, or -EAGAIN if no bytes were sent.  Needs 16 KiB of
 * stack. */
ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count);

/* Is a record, or a part of one, still waiting to be written? */
bool tls_session_wants_flush(const struct tls_session *session);

/* Have bytes been read from the descriptor that no receive has returned yet? */
bool tls_session_has_pending(const struct tls_session *session);

/* Send the client a goodbye, if that is possible without waiting.  No more bytes may be sent
 * afterwards. */
void tls_session_bye(struct tls_session *session);

#endif
