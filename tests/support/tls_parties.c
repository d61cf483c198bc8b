/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/tls_parties.h"

#include <gnutls/gnutls.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "server/net/tls_credentials.h"
#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"
#include "text/reason.h"

#define DAY (24 * 60 * 60)

/* What a certificate says. */
struct terms {
    const struct tls_party *issuer; /* NULL: itself, as a CA */
    const char *purpose;
    int extra_names;         /* each makes the certificate some 60 bytes larger */
    int first_day, last_day; /* from now */
};

static void make_party(struct tls_party *made, const char *name, unsigned char serial,
                       struct terms terms)
{
    time_t now = time(NULL);
    const struct tls_party *issuer = terms.issuer != NULL ? terms.issuer : made;
    assert_int_equal(gnutls_x509_privkey_init(&made->key), 0);
    assert_int_equal(
        gnutls_x509_privkey_generate(made->key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
        0);
    assert_int_equal(gnutls_x509_crt_init(&made->certificate), 0);
    gnutls_x509_crt_t to = made->certificate;
    gnutls_x509_crt_set_version(to, 3);
    gnutls_x509_crt_set_serial(to, &serial, 1);
    gnutls_x509_crt_set_key(to, made->key);
    gnutls_x509_crt_set_activation_time(to, now + terms.first_day * DAY);
    gnutls_x509_crt_set_expiration_time(to, now + terms.last_day * DAY);
    gnutls_x509_crt_set_dn_by_oid(to, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                  (unsigned)strlen(name));
    gnutls_x509_crt_set_ca_status(to, terms.issuer == NULL);
    gnutls_x509_crt_set_key_usage(to, terms.issuer == NULL
                                          ? GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN
                                          : GNUTLS_KEY_DIGITAL_SIGNATURE);
    if (terms.purpose != NULL)
        gnutls_x509_crt_set_key_purpose_oid(to, terms.purpose, 0);
    char extra[60];
    for (int i = 0; i < terms.extra_names; i++) {
        int length = snprintf(extra, sizeof extra, "%050d.example", i);
        gnutls_x509_crt_set_subject_alt_name(to, GNUTLS_SAN_DNSNAME, extra, (unsigned)length,
                                             GNUTLS_FSAN_APPEND);
    }
    assert_int_equal(
        gnutls_x509_crt_sign2(to, issuer->certificate, issuer->key, GNUTLS_DIG_SHA256, 0), 0);
}

static void free_party(struct tls_party *party)
{
    gnutls_x509_crt_deinit(party->certificate);
    gnutls_x509_privkey_deinit(party->key);
}

static void write_datum(const char *path, gnutls_datum_t pem)
{
    file_write(path, pem.data, pem.size);
    gnutls_free(pem.data);
}

void tls_write_certificate(const char *path, const struct tls_party *party)
{
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_crt_export2(party->certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_datum(path, pem);
}

void tls_write_key(const char *path, const struct tls_party *party)
{
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_privkey_export2(party->key, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_datum(path, pem);
}

static void write_revocation(const char *path, const struct tls_party *ca,
                             const struct tls_party *revoked)
{
    gnutls_x509_crl_t crl;
    gnutls_datum_t pem;
    time_t now = time(NULL);
    assert_int_equal(gnutls_x509_crl_init(&crl), 0);
    gnutls_x509_crl_set_version(crl, 2);
    gnutls_x509_crl_set_this_update(crl, now - DAY);
    gnutls_x509_crl_set_next_update(crl, now + DAY);
    gnutls_x509_crl_set_crt(crl, revoked->certificate, now - DAY);
    gnutls_x509_crl_set_number(crl, "\1", 1);
    assert_int_equal(gnutls_x509_crl_sign2(crl, ca->certificate, ca->key, GNUTLS_DIG_SHA256, 0),
                     0);
    assert_int_equal(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_datum(path, pem);
    gnutls_x509_crl_deinit(crl);
}

void tls_make_folder(const char *path)
{
    assert_int_equal(mkdir(path, 0755), 0);
}

static void make_all(struct tls_parties *all)
{
    const struct terms of_ca = {.first_day = -9, .last_day = 9};
    const struct terms server = {&all->ca, GNUTLS_KP_TLS_WWW_SERVER, 0, -9, 9};
    const struct terms big = {&all->ca, GNUTLS_KP_TLS_WWW_SERVER, 200, -9, 9};
    const struct terms client = {&all->ca, GNUTLS_KP_TLS_WWW_CLIENT, 0, -9, 9};
    const struct terms expired = {&all->ca, GNUTLS_KP_TLS_WWW_CLIENT, 0, -9, -2};
    const struct terms stranger = {&all->other_ca, GNUTLS_KP_TLS_WWW_CLIENT, 0, -9, 9};
    make_party(&all->ca, "us", 1, of_ca);
    make_party(&all->other_ca, "them", 2, of_ca);
    make_party(&all->server, "server", 3, server);
    make_party(&all->big_server, "big server", 4, big);
    make_party(&all->client, "client", 5, client);
    make_party(&all->revoked, "revoked", 6, client);
    make_party(&all->not_a_client, "no client", 7, server);
    make_party(&all->stranger, "stranger", 8, stranger);
    make_party(&all->expired, "expired", 9, expired);
}

static void write_all(const struct tls_parties *all)
{
    tls_make_folder("pki");
    tls_write_certificate("pki/ca-cert.pem", &all->ca);
    tls_write_certificate("pki/server-cert.pem", &all->server);
    tls_write_key("pki/server-key.pem", &all->server);
    write_revocation("pki/ca-crl.pem", &all->ca, &all->revoked);
    tls_make_folder("big");
    tls_write_certificate("big/ca-cert.pem", &all->ca);
    tls_write_certificate("big/server-cert.pem", &all->big_server);
    tls_write_key("big/server-key.pem", &all->big_server);
    /* The third user's name is "ev", in hexadecimal. */
    file_write_text("keys",
                    "alice:0123456789abcdef0123456789abcdef\n\nbob:00ff00fe\r\n#6576:01020304\n");
}

int tls_parties_make(void **state)
{
    void *folder;
    struct tls_parties *all = calloc(1, sizeof *all);
    if (all == NULL || folder_enter(&folder) != 0)
        return -1;
    all->folder = folder;
    *state = all;
    signal(SIGPIPE, SIG_IGN);
    umask(022); /* one test reads the files as another user */
    make_all(all);
    write_all(all);
    return 0;
}

int tls_parties_free(void **state)
{
    struct tls_parties *all = *state;
    struct tls_party *parties[] = {
        &all->ca,      &all->other_ca, &all->server,       &all->big_server, &all->client,
        &all->expired, &all->revoked,  &all->not_a_client, &all->stranger,   NULL};
    for (size_t i = 0; parties[i] != NULL; i++)
        free_party(parties[i]);
    void *folder = all->folder;
    free(all);
    return folder_leave_full(&folder);
}

int tls_try_load(const char *certificates, const char *keys, bool verify_peer,
                 struct tls_credentials **credentials, struct reason *reason)
{
    struct tls_options options = {
        .certificates = certificates, .psk_file = keys, .verify_peer = verify_peer};
    return tls_credentials_load(&options, credentials, reason);
}

struct tls_credentials *tls_load(const char *certificates, const char *keys, bool verify_peer)
{
    struct tls_credentials *credentials = NULL;
    struct reason reason = {0};
    if (tls_try_load(certificates, keys, verify_peer, &credentials, &reason) != 0)
        fail_msg("%s", reason.text);
    return credentials;
}
