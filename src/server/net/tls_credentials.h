/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_credentials - the certificates or the pre-shared keys of the server
 *
 * The main thread reads them once, before privileges are dropped.  From then on they are
 * read-only, and all threads share them.
 */

#ifndef NBDRAM_SERVER_NET_TLS_CREDENTIALS_H
#define NBDRAM_SERVER_NET_TLS_CREDENTIALS_H

#include <stdbool.h>

struct reason; /* text/reason.h */

struct tls_credentials;

enum tls_mode {
    TLS_OFF,     /* TLS is not offered */
    TLS_ON,      /* a client that asks for TLS gets it */
    TLS_REQUIRE, /* a client that does not ask for TLS is refused */
};

struct tls_options {
    enum tls_mode mode;
    const char *certificates; /* a folder; NULL: one of the usual ones */
    const char *psk_file;     /* a file of pre-shared keys to use instead, or NULL */
    bool verify_peer;         /* a client must show a certificate, too */
};

/* Read the credentials that options name, whatever the mode.
 *
 * With a psk_file, that is a file of lines USER:KEY, where KEY is hexadecimal, as psktool writes
 * them.  If a user has several lines the first one counts.
 *
 * Otherwise it is X.509 certificates from a folder with the files ca-cert.pem, server-cert.pem
 * and server-key.pem, and also ca-crl.pem if there is one.  If options name no folder, it is the
 * first of nbdkit's usual folders that has the three: /etc/pki/nbdkit for root, and .pki/nbdkit
 * and .config/pki/nbdkit in $HOME for anybody else.
 *
 * With verify_peer a client must show a certificate that ca-cert.pem vouches for, that ca-crl.pem
 * does not revoke, and that allows its use by clients, if it restricts its use.  Keys prove the
 * identity of both ends anyway, so verify_peer does not change anything for them.
 *
 * Returns 0, or -errno with a reason that names the file: -ENOENT if it does not exist (or if
 * none of the usual folders has any), -EINVAL if its content is wrong, or the error of reading
 * it. */
int tls_credentials_load(const struct tls_options *options, struct tls_credentials **credentials,
                         struct reason *reason);

/* No session may use them any more.  NULL is accepted. */
void tls_credentials_free(struct tls_credentials *credentials);

#endif
