/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_credentials - certificates and keys, between tls.c and tls_credentials.c
 *
 * What everybody may call is in tls.h.
 */

#ifndef NBDRAM_SERVER_NET_TLS_CREDENTIALS_H
#define NBDRAM_SERVER_NET_TLS_CREDENTIALS_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/net/tls.h"

struct reason; /* text/reason.h */

/* Who somebody says he is, and what is thought of it: filled in during the handshake. */
struct tls_peer {
    const struct tls_credentials *credentials;
    bool is_unknown_user; /* no key has that name */
    unsigned distrust;    /* GNUTLS_CERT_...: why the certificate is refused; 0: it is not */
    char user[32];        /* with keys: who, cut and made printable; else empty */
};

/* Make a session use credentials.  peer must live as long as the session.  0 or -ENOMEM. */
int tls_credentials_use(const struct tls_credentials *credentials, gnutls_session_t session,
                        struct tls_peer *peer);

/* One line about an error of the handshake. */
void tls_peer_explain(const struct tls_peer *peer, int error, struct reason *reason);

#endif
