/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_peer - apply credentials to a handshake, and record what it shows about the client
 *
 * Only tls.c and tls_credentials.c include this file.  Credentials are read-only here, except for
 * their count of holders.  A struct tls_peer belongs to one session, and to the thread that uses
 * the session.
 */

#ifndef NBDRAM_SERVER_NET_TLS_PEER_H
#define NBDRAM_SERVER_NET_TLS_PEER_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct reason; /* text/reason.h */

struct tls_key {
    struct tls_key *next;
    gnutls_datum_t user, key;
};

/* The credentials are either certificates or pre-shared keys (psk).  The field of the other kind
 * is NULL. */
struct tls_credentials {
    atomic_uint holders; /* see tls_credentials_hold and tls_credentials_release */
    char *path;          /* see tls_credentials_path */
    gnutls_priority_t priority;
    gnutls_certificate_credentials_t certificates;
    gnutls_psk_server_credentials_t psk;
    struct tls_key *keys; /* the list of users and their pre-shared keys */
    bool verify_peer;
};

/* What a handshake has shown about the client. */
struct tls_peer {
    const struct tls_credentials *credentials;
    bool is_unknown_user; /* the credentials have no key for the user that the client named */
    unsigned distrust; /* GNUTLS_CERT_... flags: why the certificate is refused; 0: it is not */
    char user[32];     /* the user that the client named, made printable; "": none */
};

/* Make a session use credentials.  Both `credentials` and `peer` must live as long as the
 * session.  Returns 0 or -ENOMEM. */
int tls_peer_init(struct tls_peer *peer, const struct tls_credentials *credentials,
                  gnutls_session_t session);

/* Describe in `reason` the error that ended a handshake.  `error` is the number that GnuTLS has
 * for the error, and r is the -errno that we return for it.  Returns r. */
int tls_peer_explain(const struct tls_peer *peer, int error, int r, struct reason *reason);

/* GnuTLS calls these functions for a session that tls_peer_init has prepared. */

/* Find the key of a user.  Returns 0; 1 if there is no such user; or -1 if there is no memory.
 * After a 1, GnuTLS makes up a key, so that the client cannot distinguish an unknown user from
 * a wrong key. */
int tls_peer_find_key(gnutls_session_t session, const gnutls_datum_t *user, gnutls_datum_t *key);

/* Verify the certificate that the client has shown. */
int tls_peer_verify(gnutls_session_t session);

/* Copy bytes to memory that GnuTLS can free.  Returns 0 or GNUTLS_E_MEMORY_ERROR. */
int tls_copy_datum(gnutls_datum_t *to, const void *data, size_t size);

#endif
