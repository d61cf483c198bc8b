/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_credentials - the certificates or the pre-shared keys of the server
 *
 * Credentials are read-only once they are loaded, so all threads share them without a lock.  Each
 * holder counts: the store of the server (tls_store.h), and each session that was made with the
 * credentials.  The last holder to release them frees them.
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
    const char *certificates; /* folder of the certificates; NULL: search the usual folders */
    const char *psk_file; /* file of pre-shared keys, used instead of certificates; NULL: none */
    bool verify_peer;     /* whether clients, too, must show a certificate */
};

/* Read the credentials that options name, and hold them once, for the caller.  options->mode is
 * ignored.  Only the main thread calls this function.
 *
 * If there is a psk_file, the credentials are pre-shared keys.  The file consists of lines
 * USER:KEY, where KEY is hexadecimal, as psktool writes them.  If a user has several lines, the
 * first one counts.
 *
 * Otherwise the credentials are X.509 certificates from a folder.  The folder must have the files
 * ca-cert.pem, server-cert.pem and server-key.pem, and may have the file ca-crl.pem.  If options
 * name no folder, the first of nbdkit's usual folders that has the three required files is used.
 * For root, the usual folder is /etc/pki/nbdkit.  For other users, the usual folders are
 * .pki/nbdkit and .config/pki/nbdkit in $HOME.
 *
 * With verify_peer, a client must show a certificate that meets three conditions:
 *
 *   - ca-cert.pem has signed it
 *   - ca-crl.pem does not revoke it
 *   - it does not restrict its use, or it allows use by clients
 *
 * Pre-shared keys always prove the identity of both ends, so verify_peer has no effect on them.
 *
 * Returns 0, or -errno with a reason that names the file:
 *
 *   -ENOENT   the file does not exist, or none of the usual folders has the files
 *   -EINVAL   the content of the file is wrong
 *   other     another -errno, for instance because the file cannot be read
 *
 * The function does not wait for a FIFO in a folder of certificates, but it does wait if psk_file
 * is one. */
int tls_credentials_load(const struct tls_options *options, struct tls_credentials **credentials,
                         struct reason *reason);

/* Hold credentials once more.  The caller already holds them, or has the lock of the store, which
 * does.  Any thread may call this function. */
void tls_credentials_hold(struct tls_credentials *credentials);

/* Give up one hold.  The last one frees the credentials.  Any thread may call this function.
 * NULL is accepted. */
void tls_credentials_release(struct tls_credentials *credentials);

/* The path of the file of keys, or of the folder of certificates, from which the credentials were
 * read.  It is as options gave it, or one of the usual folders. */
const char *tls_credentials_path(const struct tls_credentials *credentials);

#endif
