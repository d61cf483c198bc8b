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
    const char *psk_file;     /* pre-shared keys to use instead of certificates; NULL: none */
    bool verify_peer;         /* the client must show a certificate, as the server does */
};

/* Read the credentials that options name.  The mode is ignored.
 *
 * If there is a psk_file, the credentials are pre-shared keys.  The file consists of lines
 * USER:KEY, where KEY is hexadecimal, as psktool writes them.  If a user has several lines, the
 * first one counts.
 *
 * Otherwise the credentials are X.509 certificates from a folder with the files ca-cert.pem,
 * server-cert.pem, server-key.pem and, if there is one, ca-crl.pem.  If options name no folder,
 * nbdkit's usual folders are searched for the first that has the three required files:
 * /etc/pki/nbdkit for root, and .pki/nbdkit and .config/pki/nbdkit in $HOME for anybody else.
 *
 * With verify_peer, a client must show a certificate that is signed by ca-cert.pem, is not
 * revoked by ca-crl.pem, and, if it restricts its use, allows use by clients.  Pre-shared keys
 * always prove the identity of both ends, so verify_peer has no effect on them.
 *
 * Returns 0, or -errno with a reason that names the file: -ENOENT if the file does not exist (or
 * if none of the usual folders has the files), -EINVAL if its content is wrong, or another error
 * if it cannot be read. */
int tls_credentials_load(const struct tls_options *options, struct tls_credentials **credentials,
                         struct reason *reason);

/* Free credentials that no session uses any more.  NULL is accepted. */
void tls_credentials_free(struct tls_credentials *credentials);

#endif
