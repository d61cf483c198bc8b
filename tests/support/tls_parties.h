/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_parties - the parties of a test of TLS, and the server's files of certificates and keys
 *
 * tls_parties_make and tls_parties_free are the setup and the teardown of a group of tests: each
 * test gets a struct tls_parties in *state.  Certificates and keys are made once for the group.
 * The current folder is a temporary one (folder.h), and holds:
 *
 *     pki    ca-cert.pem, ca-crl.pem, and server-cert.pem and server-key.pem of `server`
 *     big    the same of `big_server`, without ca-crl.pem
 *     keys   the pre-shared keys of the users alice, bob and ev
 */

#ifndef NBDRAM_TESTS_TLS_PARTIES_H
#define NBDRAM_TESTS_TLS_PARTIES_H

#include <gnutls/x509.h>
#include <stdbool.h>

struct folder;          /* support/folder.h */
struct reason;          /* text/reason.h */
struct tls_credentials; /* server/net/tls_credentials.h */

struct tls_party {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
};

struct tls_parties {
    struct folder *folder;
    struct tls_party ca;
    struct tls_party other_ca; /* that the server does not trust */

    /* Certified by ca. */
    struct tls_party server;
    struct tls_party big_server; /* has a certificate of about 12 KB */
    struct tls_party client;
    struct tls_party expired;      /* its certificate was valid until two days ago */
    struct tls_party revoked;      /* its certificate is in ca-crl.pem */
    struct tls_party not_a_client; /* its certificate is for servers */

    /* Certified by other_ca, for clients. */
    struct tls_party stranger;
};

int tls_parties_make(void **state);
int tls_parties_free(void **state);

/* Write as PEM. */
void tls_write_certificate(const char *path, const struct tls_party *party);
void tls_write_key(const char *path, const struct tls_party *party);
void tls_make_folder(const char *path);

/* Load the server's credentials, from a folder of certificates or a file of keys; NULL: that
 * option is not given.  tls_load fails the test if they cannot be loaded. */
int tls_try_load(const char *certificates, const char *keys, bool verify_peer,
                 struct tls_credentials **credentials, struct reason *reason);
struct tls_credentials *tls_load(const char *certificates, const char *keys, bool verify_peer);

#endif
