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

/* Make a session over two descriptors.  They and the credentials stay the caller's.  Bytes that
 * were received before must not be given to it: plaintext that was sent ahead of the handshake
 * may be an attacker's.  Returns 0 or -ENOMEM; then *session is as it was. */
int tls_session_create(const struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session);
void tls_session_free(struct tls_session *session); /* NULL is accepted */

/* Continue the handshake.  Returns 0 when it is complete (and the client's certificate verified,
 * if the credentials ask for that), -EAGAIN, or another -errno with a reason: -EPIPE if the
 * client is gone, -EPROTO if one end refuses the other (version, certificate, key...).  A client
 * that we refuse has been sent an alert, if possible. */
int tls_session_handshake(struct tls_session *session, struct reason *reason);

/* Does the last -EAGAIN of the handshake wait for the descriptor to become writable?  Otherwise
 * it waits for it to become readable. */
bool tls_session_wants_write(const struct tls_session *session);

/* Receive into the vectors.  Returns fewer bytes than asked for if there are no more now, or
 * ever, or after 16 records, so that a client that sends tiny ones cannot occupy the thread
 * (then tls_session_has_pending).  Returns 0 at the client's goodbye; a stream that ends without one was cut off
 * (-EPIPE). */
ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count);

/* Send the vectors' bytes, in records of up to 16 KiB whatever the sizes of the vectors are,
 * until a record cannot be written at once.  That one is kept here, encrypted, and its bytes
 * count as sent.  The next send, be it of nothing (count 0), continues with it.  Returns the
 * number of bytes, or -EAGAIN: none were taken.  Needs 16 KiB of stack. */
ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count);

/* Is a record, or a part of one, still waiting to be written? */
bool tls_session_wants_flush(const struct tls_session *session);

/* Have bytes been read from the descriptor that no receive has returned yet? */
bool tls_session_has_pending(const struct tls_session *session);

/* Tell the client that nothing more will be sent, if that can be done without waiting. */
void tls_session_bye(struct tls_session *session);

#endif
