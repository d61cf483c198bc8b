/* SPDX-License-Identifier: BSD-3-Clause */

/* tls - GnuTLS, as transport.c uses it
 *
 * TLS 1.2 and later, with certificates or with pre-shared keys.  Credentials are read once, by
 * the main thread, before privileges are dropped, and then shared, read-only, by all threads.  A
 * session belongs to one connection.  Answers are those of transport.h.
 */

#ifndef NBDRAM_SERVER_NET_TLS_H
#define NBDRAM_SERVER_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct reason; /* text/reason.h */

struct tls_credentials;
struct tls_session;

enum tls_mode {
    TLS_OFF,     /* TLS is not offered */
    TLS_ON,      /* a client that asks for TLS gets it */
    TLS_REQUIRE, /* a client that does not ask for TLS is refused */
};

struct tls_options {
    enum tls_mode mode;
    const char *certificates; /* folder; NULL: one of the usual ones */
    const char *psk_file;     /* pre-shared keys to use instead of certificates, or NULL */
    bool verify_peer;         /* a client must show a certificate, too */
};

/* Read what options name: if options->psk_file, a file of lines USER:KEY (key in hexadecimal, as
 * psktool writes them; the first line of a user counts).  Else X.509 from the folder
 * options->certificates: ca-cert.pem, server-cert.pem, server-key.pem, and ca-crl.pem if it
 * is there; else from the first of nbdkit's folders that has the three: root's is
 * /etc/pki/nbdkit, anybody else's are .pki/nbdkit and .config/pki/nbdkit in $HOME.
 *
 * With options->verify_peer a client must show a certificate that ca-cert.pem vouches for,
 * that ca-crl.pem does not revoke, and that is for clients, if it says what it is for.  It says
 * nothing about keys, which prove both ends anyway.
 *
 * On an error -errno, and one line in why that names the file: -ENOENT if it is not there (or if
 * none of the usual folders has any), -EINVAL if it does not hold what it should, or why it
 * cannot be read. */
int tls_credentials_load(const struct tls_options *options, struct tls_credentials **credentials,
                         struct reason *reason);

/* No session may be left.  NULL is accepted. */
void tls_credentials_free(struct tls_credentials *credentials);

/* A session over descriptors that stay the caller's, as do the credentials.  Nothing that was
 * received before is given to it: plaintext sent ahead of the handshake must not be honoured.
 * -ENOMEM, with *session as it was. */
int tls_session_create(const struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session);
void tls_session_free(struct tls_session *session); /* NULL is accepted */

/* Go on with the handshake: 0 when it is complete (and the peer's certificate verified, if that
 * was asked for), -EAGAIN, or another -errno with one line in why: -EPIPE if the peer went away,
 * -EPROTO if either end refuses the other (version, certificate, key...).  A peer that is refused
 * has been told, if it could be. */
int tls_session_handshake(struct tls_session *session, struct reason *reason);

/* Whether the last -EAGAIN of the handshake waits for the descriptor to become writable, not
 * readable. */
bool tls_session_wants_write(const struct tls_session *session);

/* Fewer bytes than asked for: there were no more, for now or for good.  The stream ends (0) with
 * the peer's goodbye; without one it was cut (-EPIPE). */
ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count);

/* Takes bytes in records of up to 16 KiB, whatever the vectors' sizes are, until one is not sent
 * at once.  That one is kept here, encrypted: its bytes count as taken, and a later send, or a
 * send of nothing (count 0), goes on with it.  -EAGAIN: none were taken.  Needs 16 KiB of stack.
 */
ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count);

/* A record is still waiting to go out. */
bool tls_session_wants_flush(const struct tls_session *session);
bool tls_session_has_pending(const struct tls_session *session);

/* Tell the peer that no more comes, if that can be done without waiting. */
void tls_session_bye(struct tls_session *session);

#endif
