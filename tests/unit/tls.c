/* SPDX-License-Identifier: BSD-3-Clause */

/* transport.h and tls.h against a client made of GnuTLS alone.  Both ends live in one thread, and
 * take turns on non-blocking descriptors: nothing depends on time.  Certificates and keys are
 * made as the program starts, and live in a folder of its own. */

#include "support/support.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/net/tls.h"
#include "server/net/transport.h"
#include "text/reason.h"

#define TURNS_MAX 1000000 /* of both ends: more is a hang */
#define DAY (24 * 60 * 60)

#define NORMAL "NORMAL"
#define KEYS "NORMAL:-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"
#define ONLY_12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"

static char folder[] = "/tmp/nbdram-tls-XXXXXX";

/* Who is who */

struct identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
};

static struct identity ca, other_ca, server_id, big_server_id, client_id, stranger_id, expired_id,
    revoked_id, not_a_client_id;

struct terms {
    const struct identity *issuer; /* NULL: itself */
    const char *purpose;
    int names;               /* more of them, to make it large */
    int first_day, last_day; /* from now */
};

static void make_identity(struct identity *made, const char *name, struct terms terms)
{
    static unsigned char serial;
    serial++;
    time_t now = time(NULL);
    const struct identity *issuer = terms.issuer != NULL ? terms.issuer : made;
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
    char more[60];
    for (int i = 0; i < terms.names; i++) {
        int length = snprintf(more, sizeof more, "%050d.example", i);
        gnutls_x509_crt_set_subject_alt_name(to, GNUTLS_SAN_DNSNAME, more, (unsigned)length,
                                             GNUTLS_FSAN_APPEND);
    }
    assert_int_equal(
        gnutls_x509_crt_sign2(to, issuer->certificate, issuer->key, GNUTLS_DIG_SHA256, 0), 0);
}

static void write_file(const char *name, const void *data, size_t size)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

static void write_certificate(const char *name, const struct identity *identity)
{
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_crt_export2(identity->certificate, GNUTLS_X509_FMT_PEM, &pem),
                     0);
    write_file(name, pem.data, pem.size);
    gnutls_free(pem.data);
}

static void write_key(const char *name, const struct identity *identity)
{
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_privkey_export2(identity->key, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_file(name, pem.data, pem.size);
    gnutls_free(pem.data);
}

static void write_revocations(const char *name)
{
    gnutls_x509_crl_t crl;
    gnutls_datum_t pem;
    time_t now = time(NULL);
    assert_int_equal(gnutls_x509_crl_init(&crl), 0);
    gnutls_x509_crl_set_version(crl, 2);
    gnutls_x509_crl_set_this_update(crl, now - DAY);
    gnutls_x509_crl_set_next_update(crl, now + DAY);
    gnutls_x509_crl_set_crt(crl, revoked_id.certificate, now - DAY);
    gnutls_x509_crl_set_number(crl, "\1", 1);
    assert_int_equal(gnutls_x509_crl_sign2(crl, ca.certificate, ca.key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_file(name, pem.data, pem.size);
    gnutls_free(pem.data);
    gnutls_x509_crl_deinit(crl);
}

static void make_folder(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static int make_everybody(void **state)
{
    (void)state;
    const struct terms of_ca = {.first_day = -9, .last_day = 9};
    const struct terms server = {&ca, GNUTLS_KP_TLS_WWW_SERVER, 0, -9, 9};
    const struct terms big = {&ca, GNUTLS_KP_TLS_WWW_SERVER, 200, -9, 9};
    const struct terms client = {&ca, GNUTLS_KP_TLS_WWW_CLIENT, 0, -9, 9};
    const struct terms stranger = {&other_ca, GNUTLS_KP_TLS_WWW_CLIENT, 0, -9, 9};
    const struct terms expired = {&ca, GNUTLS_KP_TLS_WWW_CLIENT, 0, -9, -2};
    signal(SIGPIPE, SIG_IGN);
    umask(022); /* a test reads them as somebody else */
    assert_non_null(mkdtemp(folder));
    make_identity(&ca, "us", of_ca);
    make_identity(&other_ca, "them", of_ca);
    make_identity(&server_id, "server", server);
    make_identity(&big_server_id, "big server", big);
    make_identity(&client_id, "client", client);
    make_identity(&revoked_id, "revoked", client);
    make_identity(&not_a_client_id, "no client", server);
    make_identity(&stranger_id, "stranger", stranger);
    make_identity(&expired_id, "expired", expired);
    make_folder("pki");
    write_certificate("pki/ca-cert.pem", &ca);
    write_certificate("pki/server-cert.pem", &server_id);
    write_key("pki/server-key.pem", &server_id);
    write_revocations("pki/ca-crl.pem");
    make_folder("big");
    write_certificate("big/ca-cert.pem", &ca);
    write_certificate("big/server-cert.pem", &big_server_id);
    write_key("big/server-key.pem", &big_server_id);
    write_text("keys",
               "alice:0123456789abcdef0123456789abcdef\n\nbob:00ff00fe\r\n#6576:01020304\n");
    return 0;
}

static void free_identity(struct identity *identity)
{
    gnutls_x509_crt_deinit(identity->certificate);
    gnutls_x509_privkey_deinit(identity->key);
}

static int forget_everybody(void **state)
{
    (void)state;
    struct identity *all[] = {&ca,          &other_ca,   &server_id,  &big_server_id,  &client_id,
                              &stranger_id, &expired_id, &revoked_id, &not_a_client_id};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free_identity(all[i]);
    char command[200];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Credentials of the server */

static int try_load(const char *certificates, const char *keys, bool verify_peer,
                    struct tls_credentials **credentials, struct reason *reason)
{
    char certificates_path[200], keys_path[200];
    snprintf(certificates_path, sizeof certificates_path, "%s/%s", folder,
             certificates != NULL ? certificates : "");
    snprintf(keys_path, sizeof keys_path, "%s/%s", folder, keys != NULL ? keys : "");
    struct options options = {
        .tls_certificates = certificates != NULL ? certificates_path : NULL,
        .tls_psk = keys != NULL ? keys_path : NULL,
        .tls_verify_peer = verify_peer,
    };
    return tls_credentials_load(&options, credentials, reason);
}

static struct tls_credentials *load(const char *certificates, const char *keys, bool verify_peer)
{
    struct tls_credentials *credentials = NULL;
    struct reason reason = {0};
    if (try_load(certificates, keys, verify_peer, &credentials, &reason) != 0)
        fail_msg("%s", reason.text);
    return credentials;
}

/* Two ends */

struct pair {
    struct transport server;
    struct tls_credentials *server_credentials;
    gnutls_session_t client;
    gnutls_certificate_credentials_t client_certificates;
    gnutls_psk_client_credentials_t client_keys;
    int client_in, client_out;
    int server_err;       /* of the handshake */
    int client_err;       /* GnuTLS's */
    struct reason reason; /* the server's */
};

/* What an end of a pair is like. */
struct client {
    const char *priority;
    const struct identity *identity; /* NULL: shows no certificate */
    const struct identity *trusts;   /* NULL: does not look at the server's certificate */
    const char *user, *key;          /* in hexadecimal; NULL: uses certificates */
    size_t record_size;              /* the most it wants to receive; 0: any */
};

/* GnuTLS's own functions want sockets. */
static ssize_t client_push(gnutls_transport_ptr_t opaque, const void *data, size_t size)
{
    const struct pair *pair = opaque;
    return write(pair->client_out, data, size);
}

static ssize_t client_pull(gnutls_transport_ptr_t opaque, void *data, size_t size)
{
    const struct pair *pair = opaque;
    return read(pair->client_in, data, size);
}

static void set_nonblocking(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void open_sockets(struct pair *pair)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pair->client_in = pair->client_out = fds[1];
    set_nonblocking(fds[1]);
    assert_int_equal(transport_init(&pair->server, fds[0], fds[0], false), 0);
}

static void open_pipes(struct pair *pair)
{
    int there[2], back[2];
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    pair->client_in = back[0];
    pair->client_out = there[1];
    set_nonblocking(back[0]);
    set_nonblocking(there[1]);
    assert_int_equal(transport_init(&pair->server, there[0], back[1], true), 0);
}

static void compressor_sockets(struct pair *pair)
{
    int size = 1; /* the least there is */
    assert_int_equal(setsockopt(pair->server.out, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    assert_int_equal(setsockopt(pair->client_out, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
}

static void create_client(struct pair *pair, const struct client *client)
{
    gnutls_certificate_allocate_credentials(&pair->client_certificates);
    gnutls_psk_allocate_client_credentials(&pair->client_keys);
    if (client->identity != NULL) {
        gnutls_x509_crt_t certificate = client->identity->certificate;
        assert_int_equal(gnutls_certificate_set_x509_key(pair->client_certificates, &certificate,
                                                         1, client->identity->key),
                         0);
    }
    assert_int_equal(gnutls_init(&pair->client, GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT), 0);
    if (client->user != NULL) {
        gnutls_datum_t user = {(unsigned char *)strdup(client->user),
                               (unsigned)strlen(client->user)};
        gnutls_datum_t key = {(unsigned char *)strdup(client->key),
                              (unsigned)strlen(client->key)};
        assert_int_equal(gnutls_psk_set_client_credentials2(pair->client_keys, &user, &key,
                                                            GNUTLS_PSK_KEY_HEX),
                         0);
        gnutls_credentials_set(pair->client, GNUTLS_CRD_PSK, pair->client_keys);
        free(user.data);
        free(key.data);
    } else {
        gnutls_credentials_set(pair->client, GNUTLS_CRD_CERTIFICATE, pair->client_certificates);
    }
    if (client->trusts != NULL) {
        gnutls_x509_crt_t trusted = client->trusts->certificate;
        gnutls_certificate_set_x509_trust(pair->client_certificates, &trusted, 1);
        gnutls_session_set_verify_cert(pair->client, NULL, 0);
    }
    assert_int_equal(gnutls_priority_set_direct(pair->client, client->priority, NULL), 0);
    if (client->record_size != 0)
        assert_int_equal(gnutls_record_set_max_recv_size(pair->client, client->record_size), 0);
    gnutls_transport_set_ptr(pair->client, pair);
    gnutls_transport_set_push_function(pair->client, client_push);
    gnutls_transport_set_pull_function(pair->client, client_pull);
}

static void start(struct pair *pair, struct tls_credentials *credentials)
{
    pair->server_credentials = credentials;
    assert_int_equal(transport_start_tls(&pair->server, credentials), 0);
    assert_int_equal(transport_events(&pair->server), EPOLLIN);
}

/* Take turns until neither end has anything to say.  After an error of one the other still gets
 * what was sent to it. */
static void shake_hands(struct pair *pair)
{
    pair->server_err = -EAGAIN;
    pair->client_err = GNUTLS_E_AGAIN;
    int after = 0; /* turns since the server was done */
    for (int turn = 0; after < 10; turn++) {
        assert_true(turn < TURNS_MAX);
        if (pair->client_err == GNUTLS_E_AGAIN || pair->client_err == GNUTLS_E_INTERRUPTED)
            pair->client_err = gnutls_handshake(pair->client);
        else if (pair->client_err < 0)
            gnutls_alert_send_appropriate(pair->client, pair->client_err);
        if (pair->server_err == -EAGAIN)
            pair->server_err = transport_handshake(&pair->server, &pair->reason);
        else
            after++;
    }
}

static void connect_pair(struct pair *pair, struct tls_credentials *credentials,
                         const struct client *client)
{
    *pair = (struct pair){.client_in = -1};
    open_sockets(pair);
    create_client(pair, client);
    start(pair, credentials);
    shake_hands(pair);
}

static void close_client(struct pair *pair)
{
    if (pair->client_in >= 0)
        close(pair->client_in);
    if (pair->client_out != pair->client_in)
        close(pair->client_out);
    pair->client_in = pair->client_out = -1;
}

static void close_pair(struct pair *pair)
{
    if (pair->server.in >= 0)
        transport_close(&pair->server);
    close_client(pair);
    gnutls_deinit(pair->client);
    gnutls_certificate_free_credentials(pair->client_certificates);
    gnutls_psk_free_client_credentials(pair->client_keys);
    tls_credentials_free(pair->server_credentials);
}

static ssize_t receive(struct pair *pair, void *buf, size_t size)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    return transport_receive(&pair->server, &iov, 1);
}

static ssize_t send_bytes(struct pair *pair, const void *buf, size_t size)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = size};
    return transport_send(&pair->server, &iov, 1);
}

/* A word there, and a word back. */
static void assert_talking(struct pair *pair)
{
    char buf[20] = "";
    if (pair->server_err != 0)
        fail_msg("%s", pair->reason.text);
    assert_int_equal(pair->client_err, 0);
    assert_int_equal(receive(pair, buf, sizeof buf), -EAGAIN);
    assert_int_equal(gnutls_record_send(pair->client, "there", 5), 5);
    assert_int_equal(receive(pair, buf, sizeof buf), 5);
    assert_string_equal(buf, "there");
    assert_int_equal(send_bytes(pair, "and back", 8), 8);
    assert_false(transport_wants_flush(&pair->server));
    assert_int_equal(gnutls_record_recv(pair->client, buf, sizeof buf), 8);
    assert_memory_equal(buf, "and back", 8);
}

/* One line, that has these words. */
static void assert_why(const struct pair *pair, const char *words)
{
    assert_int_equal(pair->server_err, -EPROTO);
    if (strstr(pair->reason.text, words) == NULL || strchr(pair->reason.text, '\n') != NULL)
        fail_msg("\"%s\" in \"%s\"", words, pair->reason.text);
}

/* Who gets in */

static void certificates_are_enough_for_both(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false),
                 &(struct client){.priority = NORMAL, .trusts = &ca});
    assert_talking(&pair);
    assert_int_equal(gnutls_protocol_get_version(pair.client), GNUTLS_TLS1_3);
    close_pair(&pair);
}

static void the_server_has_a_certificate_of_its_ca(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false),
                 &(struct client){.priority = NORMAL, .trusts = &other_ca});
    assert_int_equal(pair.client_err, GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR);
    assert_why(&pair, "the client gave up: ");
    close_pair(&pair);
}

static void version_1_2_is_served_and_1_1_is_not(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, true),
                 &(struct client){.priority = ONLY_12, .identity = &client_id, .trusts = &ca});
    assert_talking(&pair);
    assert_int_equal(gnutls_protocol_get_version(pair.client), GNUTLS_TLS1_2);
    close_pair(&pair);

    const char *only_11 =
        "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0:%VERIFY_ALLOW_SIGN_WITH_SHA1";
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = only_11});
    assert_int_not_equal(pair.client_err, 0);
    assert_why(&pair, "");
    close_pair(&pair);
}

static void verify_peer_wants_the_right_certificate(void **state)
{
    (void)state;
    static const struct {
        const struct identity *identity;
        const char *why; /* NULL: lets him in */
    } cases[] = {
        {&client_id, NULL},       {NULL, "ertificate"},     {&stranger_id, "issuer is unknown"},
        {&expired_id, "expired"}, {&revoked_id, "revoked"}, {&not_a_client_id, "purpose"},
    };
    static const char *const priorities[] = {NORMAL, ONLY_12};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        struct pair pair;
        const struct client client = {
            .priority = priorities[i % 2], .identity = cases[i / 2].identity, .trusts = &ca};
        connect_pair(&pair, load("pki", NULL, true), &client);
        if (cases[i / 2].why == NULL)
            assert_talking(&pair);
        else
            assert_why(&pair, cases[i / 2].why);
        char byte;
        if (cases[i / 2].why != NULL) /* he is told */
            assert_true(pair.client_err == GNUTLS_E_FATAL_ALERT_RECEIVED ||
                        gnutls_record_recv(pair.client, &byte, 1) ==
                            GNUTLS_E_FATAL_ALERT_RECEIVED);
        close_pair(&pair);
    }
}

static void without_verify_peer_no_certificate_is_looked_at(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false),
                 &(struct client){.priority = NORMAL, .identity = &stranger_id, .trusts = &ca});
    assert_talking(&pair);
    close_pair(&pair);
}

static void a_key_opens(void **state)
{
    (void)state;
    static const char *const keys[][2] = {
        {"alice", "0123456789abcdef0123456789abcdef"}, {"bob", "00ff00fe"}, {"ev", "01020304"}};
    static const char *const priorities[] = {KEYS, ONLY_12 ":-KX-ALL:+PSK:+DHE-PSK:+ECDHE-PSK"};
    for (int i = 0; i < 6; i++) {
        struct pair pair;
        const struct client client = {
            .priority = priorities[i % 2], .user = keys[i / 2][0], .key = keys[i / 2][1]};
        connect_pair(&pair, load(NULL, "keys", false), &client);
        assert_talking(&pair);
        close_pair(&pair);
    }
}

static void a_wrong_key_does_not_open(void **state)
{
    (void)state;
    static const char *const users[][2] = {{"alice", "probably not the key of user \"alice\""},
                                           {"eve\n", "there is no key of user \"eve?\""}};
    static const char *const priorities[] = {KEYS, ONLY_12 ":-KX-ALL:+PSK"};
    for (int i = 0; i < 4; i++) {
        struct pair pair;
        const struct client client = {
            .priority = priorities[i % 2], .user = users[i / 2][0], .key = "01234567"};
        connect_pair(&pair, load(NULL, "keys", false), &client);
        assert_why(&pair, users[i / 2][1]);
        assert_int_not_equal(pair.client_err, 0);
        close_pair(&pair);
    }
}

static void a_certificate_is_no_key(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load(NULL, "keys", false),
                 &(struct client){.priority = NORMAL, .identity = &client_id});
    assert_why(&pair, "");
    close_pair(&pair);
}

static void garbage_is_no_hello(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    close_pair(&pair);

    pair = (struct pair){.client_in = -1};
    open_sockets(&pair);
    create_client(&pair, &(struct client){.priority = NORMAL});
    start(&pair, load("pki", NULL, false));
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EAGAIN);
    const char garbage[] = "IHAVEOPT\0\0\0\5\0\0\0\0IHAVEOPT\0\0\0\7\0\0\0\0";
    assert_int_equal(write(pair.client_out, garbage, sizeof garbage), sizeof garbage);
    pair.server_err = transport_handshake(&pair.server, &pair.reason);
    assert_why(&pair, "packet");
    /* and it stays like that */
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EPROTO);
    close_pair(&pair);
}

static void a_client_may_leave_in_the_middle_of_the_handshake(void **state)
{
    (void)state;
    struct pair pair = {.client_in = -1};
    open_sockets(&pair);
    create_client(&pair, &(struct client){.priority = NORMAL});
    start(&pair, load("pki", NULL, false));
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EAGAIN);
    close_client(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EPIPE);
    assert_string_not_equal(pair.reason.text, "");
    close_pair(&pair);
}

static void a_hello_may_be_cut(void **state)
{
    (void)state;
    struct pair pair = {.client_in = -1};
    open_sockets(&pair);
    create_client(&pair, &(struct client){.priority = NORMAL});
    start(&pair, load("pki", NULL, false));
    assert_int_equal(write(pair.client_out,
                           "\x16\3\1\1\0"
                           "\1\0",
                           7),
                     7);
    close_client(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EPIPE);
    assert_non_null(strstr(pair.reason.text, "terminated"));
    close_pair(&pair);
}

static void a_handshake_goes_through_the_smallest_pipe(void **state)
{
    (void)state;
    struct pair pair = {.client_in = -1};
    open_pipes(&pair);
    create_client(&pair,
                  &(struct client){.priority = NORMAL, .identity = &client_id, .trusts = &ca});
    start(&pair, load("big", NULL, true));
    assert_true(fcntl(pair.server.out, F_SETPIPE_SZ, 4096) < 12000); /* the certificate */
    shake_hands(&pair);
    assert_talking(&pair);
    close_pair(&pair);
}

/* The way to the client, full of zeroes, and empty again. */
static void fill_way_back(const struct pair *pair)
{
    const char zeroes[4096] = {0};
    while (write(pair->server.out, zeroes, sizeof zeroes) > 0)
        continue;
}

static void empty_way_back(const struct pair *pair)
{
    char zeroes[4096];
    while (read(pair->client_in, zeroes, sizeof zeroes) > 0)
        continue;
}

static void assert_waits_to_write(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(transport_handshake(&pair->server, &pair->reason), -EAGAIN);
        assert_int_equal(transport_events(&pair->server), EPOLLOUT);
    }
}

static void a_handshake_waits_until_it_can_write(void **state)
{
    (void)state;
    struct pair pair = {.client_in = -1};
    open_pipes(&pair);
    create_client(&pair, &(struct client){.priority = ONLY_12});
    start(&pair, load("pki", NULL, false));
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    fill_way_back(&pair);
    assert_waits_to_write(&pair);
    empty_way_back(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EAGAIN);
    assert_int_equal(transport_events(&pair.server), EPOLLIN);
    /* With 1.2 the last word is the server's: it is not done before that is gone. */
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    fill_way_back(&pair);
    assert_waits_to_write(&pair);
    empty_way_back(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), 0);
    assert_int_equal(gnutls_handshake(pair.client), 0);
    assert_talking(&pair);
    close_pair(&pair);
}

/* What is read at the start */

static void assert_not_loaded(const char *certificates, const char *keys, int err,
                              const char *words)
{
    struct tls_credentials *credentials = NULL;
    struct reason reason = {0};
    assert_int_equal(try_load(certificates, keys, false, &credentials, &reason), err);
    assert_null(credentials);
    if (strstr(reason.text, words) == NULL || strchr(reason.text, '\n') != NULL)
        fail_msg("\"%s\" in \"%s\"", words, reason.text);
}

static void what_cannot_be_loaded_is_named(void **state)
{
    (void)state;
    assert_not_loaded("nowhere", NULL, -ENOENT, "nowhere/ca-cert.pem");
    make_folder("bad");
    write_text("bad/ca-cert.pem", "nothing\n");
    assert_not_loaded("bad", NULL, -ENOENT, "bad/server-cert.pem");
    write_certificate("bad/server-cert.pem", &server_id);
    assert_not_loaded("bad", NULL, -ENOENT, "bad/server-key.pem");
    write_key("bad/server-key.pem", &client_id);
    assert_not_loaded("bad", NULL, -EINVAL, "bad/ca-cert.pem");
    write_certificate("bad/ca-cert.pem", &ca);
    assert_not_loaded("bad", NULL, -EINVAL, "server-key.pem");
    write_key("bad/server-key.pem", &server_id);
    write_text("bad/ca-crl.pem", "nothing\n");
    assert_not_loaded("bad", NULL, -EINVAL, "bad/ca-crl.pem");

    assert_not_loaded(NULL, "no-keys", -ENOENT, "no-keys");
    write_text("empty", "\n");
    assert_not_loaded(NULL, "empty", -EINVAL, "empty");
    static const char *const wrong[] = {"a:00\nb\n", "a:00\nb:\n", "a:00\n:00\n", "a:00\nb:0z\n",
                                        "a:00\n#0z:00\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        write_text("wrong", wrong[i]);
        assert_not_loaded(NULL, "wrong", -EINVAL, "wrong:2: ");
    }
}

static void the_usual_folders_are_looked_into(void **state)
{
    (void)state;
    const bool is_root = geteuid() == 0; /* whose folder is the machine's */
    assert_int_equal(setenv("HOME", folder, 1), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    assert_not_loaded(NULL, NULL, -ENOENT, "--tls-certificates");
    assert_true(!is_root || seteuid(0) == 0);
    make_folder(".config");
    make_folder(".config/pki");
    make_folder(".config/pki/nbdkit");
    write_certificate(".config/pki/nbdkit/ca-cert.pem", &ca);
    write_certificate(".config/pki/nbdkit/server-cert.pem", &server_id);
    write_key(".config/pki/nbdkit/server-key.pem", &server_id);
    assert_true(!is_root || seteuid(65534) == 0);
    tls_credentials_free(load(NULL, NULL, false));
    assert_true(!is_root || seteuid(0) == 0);
}

/* What goes through */

#define TRANSFER_SIZE (3 * MiB + 12345)

/* Send in up to four vectors of any size, some empty. */
static ssize_t send_in_pieces(struct pair *pair, struct prng *prng, const uint8_t *from,
                              size_t size)
{
    struct iovec iov[4];
    int count = 1 + (int)prng_below(prng, 4);
    for (int i = 0; i < count; i++) {
        size_t most = prng_one_in(prng, 2) ? 100 : 60000;
        size_t piece = prng_below(prng, most);
        piece = piece < size ? piece : size;
        iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)from, .iov_len = piece};
        from += piece;
        size -= piece;
    }
    return transport_send(&pair->server, iov, count);
}

static ssize_t receive_in_pieces(struct pair *pair, struct prng *prng, uint8_t *to, size_t size)
{
    size_t first = 1 + prng_below(prng, size < 40000 ? size : 40000);
    struct iovec iov[3] = {
        {.iov_base = to, .iov_len = first},
        {.iov_base = to + first, .iov_len = 0},
        {.iov_base = to + first, .iov_len = size - first},
    };
    return transport_receive(&pair->server, iov, 3);
}

/* One direction's bytes. */
struct flow {
    uint8_t *from, *to;
    size_t sent, received;
};

static void open_flow(struct flow *flow, struct prng *prng)
{
    *flow = (struct flow){.from = malloc(TRANSFER_SIZE), .to = calloc(1, TRANSFER_SIZE)};
    assert_true(flow->from != NULL && flow->to != NULL);
    for (size_t i = 0; i < TRANSFER_SIZE; i++)
        flow->from[i] = (uint8_t)(prng_next(prng) >> 11);
}

static void close_flow(struct flow *flow)
{
    assert_int_equal(flow->received, TRANSFER_SIZE);
    assert_memory_equal(flow->from, flow->to, TRANSFER_SIZE);
    free(flow->from);
    free(flow->to);
}

/* The number that was moved, of what is 0 or more, or -EAGAIN. */
static size_t moved(ssize_t result)
{
    if (result != -EAGAIN && result < 0)
        fail_msg("%s", strerror((int)-result));
    return result > 0 ? (size_t)result : 0;
}

static size_t moved_by_client(ssize_t result)
{
    if (result != GNUTLS_E_AGAIN && result < 0)
        fail_msg("%s", gnutls_strerror((int)result));
    return result > 0 ? (size_t)result : 0;
}

/* What the client does has to be gone on with, if it could not be done at once, before it does
 * anything else. */
struct unfinished {
    size_t record;
    bool key_change;
};

static void client_sends(struct pair *pair, struct prng *prng, struct flow *flow,
                         struct unfinished *unfinished)
{
    if (unfinished->key_change) {
        unfinished->key_change =
            gnutls_session_key_update(pair->client, GNUTLS_KU_PEER) == GNUTLS_E_AGAIN;
        return;
    }
    size_t size = unfinished->record != 0 ? unfinished->record : 1 + prng_below(prng, 20000);
    if (size > TRANSFER_SIZE - flow->sent)
        size = TRANSFER_SIZE - flow->sent;
    if (size == 0)
        return;
    ssize_t sent = gnutls_record_send(pair->client, flow->from + flow->sent, size);
    unfinished->record = sent == GNUTLS_E_AGAIN ? size : 0;
    flow->sent += moved_by_client(sent);
}

static void server_sends(struct pair *pair, struct prng *prng, struct flow *flow)
{
    if (flow->sent < TRANSFER_SIZE)
        flow->sent += moved(
            send_in_pieces(pair, prng, flow->from + flow->sent, TRANSFER_SIZE - flow->sent));
    else if (transport_wants_flush(&pair->server))
        moved(transport_send(&pair->server, NULL, 0));
}

/* Both directions at once.  From time to time the client asks for new keys. */
static void exchange(struct pair *pair, unsigned key_changes)
{
    struct prng prng;
    struct flow in, out;
    struct unfinished unfinished = {.record = 0};
    prng_init(&prng, test_seed(), 1);
    open_flow(&in, &prng);
    open_flow(&out, &prng);
    for (int turn = 0; in.received < TRANSFER_SIZE || out.received < TRANSFER_SIZE; turn++) {
        assert_true(turn < TURNS_MAX);
        unsigned who = (unsigned)prng_below(&prng, 4);
        if (who == 0)
            client_sends(pair, &prng, &in, &unfinished);
        if (who == 1)
            server_sends(pair, &prng, &out);
        if (who == 2 && in.received < TRANSFER_SIZE)
            in.received += moved(
                receive_in_pieces(pair, &prng, in.to + in.received, TRANSFER_SIZE - in.received));
        if (who == 3 && out.received < TRANSFER_SIZE)
            out.received += moved_by_client(gnutls_record_recv(
                pair->client, out.to + out.received, TRANSFER_SIZE - out.received));
        if (key_changes > 0 && transport_wants_flush(&pair->server) && unfinished.record == 0 &&
            !unfinished.key_change && prng_one_in(&prng, 10)) {
            unfinished.key_change = true;
            key_changes--;
        }
    }
    assert_int_equal(key_changes, 0);
    close_flow(&in);
    close_flow(&out);
}

static void big_transfers_are_exact(void **state)
{
    (void)state;
    static const struct client clients[] = {
        {.priority = NORMAL},
        {.priority = ONLY_12},
        {.priority = NORMAL, .record_size = 512},
        {.priority = ONLY_12, .record_size = 700},
        {.priority = KEYS, .user = "bob", .key = "00ff00fe"},
    };
    for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++) {
        struct pair pair = {.client_in = -1};
        open_sockets(&pair);
        compressor_sockets(&pair);
        create_client(&pair, &clients[i]);
        start(&pair,
              clients[i].user != NULL ? load(NULL, "keys", false) : load("pki", NULL, false));
        shake_hands(&pair);
        exchange(&pair, 0);
        close_pair(&pair);
    }
}

static void keys_change_while_a_record_waits(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    compressor_sockets(&pair);
    exchange(&pair, 4);
    close_pair(&pair);
}

static void pipes_do_as_well(void **state)
{
    (void)state;
    struct pair pair = {.client_in = -1};
    open_pipes(&pair);
    create_client(&pair, &(struct client){.priority = NORMAL});
    start(&pair, load("pki", NULL, false));
    shake_hands(&pair);
    exchange(&pair, 0);
    close_pair(&pair);
}

static void small_vectors_share_a_record(void **state)
{
    (void)state;
    static uint8_t header[16], data[40000], got[20000];
    struct iovec iov[] = {{header, sizeof header},
                          {NULL, 0},
                          {data, 4096},
                          {header, sizeof header},
                          {data, sizeof data}};
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    const size_t total = 2 * sizeof header + 4096 + sizeof data;
    assert_int_equal(transport_send(&pair.server, iov, 5), total);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), 16384);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), 16384);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), total - 2 * 16384);
    close_pair(&pair);
}

static void what_waits_is_flushed_before_more_is_taken(void **state)
{
    (void)state;
    static uint8_t data[1 << 20], got[16384];
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    compressor_sockets(&pair);
    ssize_t taken = send_bytes(&pair, data, sizeof data);
    assert_true(taken > 0 && (size_t)taken < sizeof data);
    assert_true(transport_wants_flush(&pair.server));
    assert_int_equal(send_bytes(&pair, data, 1), -EAGAIN);
    assert_int_equal(transport_send(&pair.server, NULL, 0), -EAGAIN);
    size_t received = 0;
    for (int turn = 0; transport_wants_flush(&pair.server); turn++) {
        assert_true(turn < TURNS_MAX);
        received += moved_by_client(gnutls_record_recv(pair.client, got, sizeof got));
        transport_send(&pair.server, NULL, 0);
    }
    while (received < (size_t)taken)
        received += moved_by_client(gnutls_record_recv(pair.client, got, sizeof got));
    assert_int_equal(received, taken);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), GNUTLS_E_AGAIN);
    close_pair(&pair);
}

static void half_a_record_is_nothing_yet(void **state)
{
    (void)state;
    struct pair pair, copy;
    char record[200], buf[20];
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    /* The client's record goes another way first. */
    int way[2], out = pair.client_out;
    assert_int_equal(pipe2(way, O_CLOEXEC), 0);
    copy = pair;
    copy.client_out = way[1];
    gnutls_transport_set_ptr(pair.client, &copy);
    assert_int_equal(gnutls_record_send(pair.client, "word", 4), 4);
    ssize_t size = read(way[0], record, sizeof record);
    assert_true(size > 10);
    for (ssize_t i = 0; i < size; i++) {
        assert_int_equal(receive(&pair, buf, sizeof buf), -EAGAIN);
        assert_false(transport_has_pending(&pair.server));
        assert_int_equal(write(out, record + i, 1), 1);
    }
    assert_int_equal(receive(&pair, buf, sizeof buf), 4);
    assert_memory_equal(buf, "word", 4);
    gnutls_transport_set_ptr(pair.client, &pair);
    close(way[0]);
    close(way[1]);
    close_pair(&pair);
}

static void what_is_left_of_a_record_is_pending(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20];
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    assert_false(transport_has_pending(&pair.server));
    assert_int_equal(gnutls_record_send(pair.client, "request", 7), 7);
    assert_int_equal(receive(&pair, buf, 3), 3);
    assert_true(transport_has_pending(&pair.server));
    assert_int_equal(receive(&pair, buf + 3, 4), 4);
    assert_false(transport_has_pending(&pair.server));
    assert_memory_equal(buf, "request", 7);
    close_pair(&pair);
}

/* How it ends */

static void a_goodbye_ends_the_stream(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20];
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    assert_int_equal(gnutls_record_send(pair.client, "last", 4), 4);
    assert_int_equal(gnutls_bye(pair.client, GNUTLS_SHUT_WR), 0);
    assert_int_equal(receive(&pair, buf, sizeof buf), 4);
    assert_int_equal(receive(&pair, buf, sizeof buf), 0);
    assert_int_equal(receive(&pair, buf, sizeof buf), 0);
    /* He can still be sent something, and be told goodbye. */
    assert_int_equal(send_bytes(&pair, "yes", 3), 3);
    transport_close(&pair.server);
    assert_int_equal(gnutls_record_recv(pair.client, buf, sizeof buf), 3);
    assert_int_equal(gnutls_record_recv(pair.client, buf, sizeof buf), 0);
    close_pair(&pair);
}

static void a_goodbye_comes_after_what_waits(void **state)
{
    (void)state;
    static uint8_t data[1 << 20], got[16384];
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    compressor_sockets(&pair);
    ssize_t taken = send_bytes(&pair, data, sizeof data);
    assert_true(taken > 0 && transport_wants_flush(&pair.server));
    ssize_t received = 0, more;
    while ((more = gnutls_record_recv(pair.client, got, sizeof got)) > 0)
        received += more;
    assert_int_equal(more, GNUTLS_E_AGAIN);
    assert_true(received < taken);
    int size = 1 << 16; /* room for both */
    assert_int_equal(setsockopt(pair.server.out, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    transport_close(&pair.server);
    while ((more = gnutls_record_recv(pair.client, got, sizeof got)) > 0)
        received += more;
    assert_int_equal(more, 0);
    assert_int_equal(received, taken);
    close_pair(&pair);
}

static void without_a_goodbye_it_was_cut(void **state)
{
    (void)state;
    static const char *const priorities[] = {NORMAL, ONLY_12};
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        char buf[20];
        connect_pair(&pair, load("pki", NULL, false),
                     &(struct client){.priority = priorities[i]});
        assert_int_equal(gnutls_record_send(pair.client, "last", 4), 4);
        close_client(&pair);
        assert_int_equal(receive(&pair, buf, sizeof buf), 4);
        assert_int_equal(receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(send_bytes(&pair, "x", 1), -EPIPE);
        close_pair(&pair);
    }
}

static void a_record_may_be_cut(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20];
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    assert_int_equal(write(pair.client_out,
                           "\x17\3\3\0\x20"
                           "0123",
                           9),
                     9);
    close_client(&pair);
    assert_int_equal(receive(&pair, buf, sizeof buf), -EPIPE);
    assert_false(transport_has_pending(&pair.server));
    close_pair(&pair);
}

static void nobody_there_to_send_to(void **state)
{
    (void)state;
    struct pair pair;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    close_client(&pair);
    assert_int_equal(send_bytes(&pair, "x", 1), -EPIPE);
    assert_int_equal(send_bytes(&pair, "x", 1), -EPIPE);
    close_pair(&pair);
}

static void a_forged_record_ends_it(void **state)
{
    (void)state;
    static const char forged[] = "\x17\3\3\0\x20"
                                 "0123456789abcdef0123456789abcdef";
    struct pair pair;
    char buf[20];
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    assert_int_equal(gnutls_record_send(pair.client, "true", 4), 4);
    assert_int_equal(write(pair.client_out, forged, sizeof forged - 1), sizeof forged - 1);
    assert_int_equal(receive(&pair, buf, sizeof buf), 4);
    assert_int_equal(receive(&pair, buf, sizeof buf), -EPROTO);
    assert_int_equal(send_bytes(&pair, "x", 1), -EPROTO);
    assert_int_equal(gnutls_record_recv(pair.client, buf, sizeof buf),
                     GNUTLS_E_FATAL_ALERT_RECEIVED);
    close_pair(&pair);
}

static void a_second_handshake_is_refused(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20];
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = ONLY_12});
    assert_talking(&pair);
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    assert_int_equal(receive(&pair, buf, sizeof buf), -EPROTO);
    close_pair(&pair);
}

/* What a peer may send that is not data. */

static const char *const both_versions[] = {NORMAL, ONLY_12};

/* GnuTLS makes such records only as padding. */
static void a_record_of_nothing_is_no_end(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20] = "";
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    for (int n = 0; n < 50; n++)
        assert_int_equal(gnutls_record_send2(pair.client, buf, 0, 16, 0), 0);
    int there = 0;
    assert_int_equal(ioctl(pair.server.in, FIONREAD, &there), 0);
    assert_true(there > 50 * 16);
    assert_int_equal(receive(&pair, buf, sizeof buf), -EAGAIN);
    while (transport_has_pending(&pair.server))
        assert_int_equal(receive(&pair, buf, sizeof buf), -EAGAIN);
    assert_talking(&pair);
    close_pair(&pair);
}

/* By hand: an AES-GCM record of TLS 1.2 (RFC 5288) with nothing in it. */
static void send_nothing(const struct pair *pair)
{
    gnutls_datum_t mac, iv, key;
    gnutls_aead_cipher_hd_t cipher;
    unsigned char seq[8], nonce[12], about[13] = {0}, record[29] = {0x17, 3, 3, 0, 24};
    size_t tag = 16;
    assert_int_equal(gnutls_record_get_state(pair->client, 0, &mac, &iv, &key, seq), 0);
    memcpy(nonce, iv.data, 4);
    memcpy(nonce + 4, seq, sizeof seq);
    memcpy(record + 5, seq, sizeof seq);
    memcpy(about, seq, sizeof seq);
    memcpy(about + sizeof seq, record, 3);
    assert_int_equal(gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_AES_128_GCM, &key), 0);
    assert_int_equal(gnutls_aead_cipher_encrypt(cipher, nonce, sizeof nonce, about, sizeof about,
                                                tag, NULL, 0, record + 13, &tag),
                     0);
    gnutls_aead_cipher_deinit(cipher);
    assert_int_equal(write(pair->client_out, record, sizeof record), sizeof record);
    seq[7]++; /* there are few */
    assert_int_equal(gnutls_record_set_state(pair->client, 0, seq), 0);
}

static void a_record_of_nothing_is_no_end_in_1_2(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20] = "";
    connect_pair(&pair, load("pki", NULL, false),
                 &(struct client){.priority = ONLY_12 ":-CIPHER-ALL:+AES-128-GCM"});
    assert_talking(&pair);
    for (int n = 0; n < 3; n++)
        send_nothing(&pair);
    assert_int_equal(receive(&pair, buf, sizeof buf), -EAGAIN);
    while (transport_has_pending(&pair.server))
        assert_int_equal(receive(&pair, buf, sizeof buf), -EAGAIN);
    assert_talking(&pair);
    close_pair(&pair);
}

/* In the middle of what somebody waits for: it is over, and says so from then on. */
static void an_alert_ends_it(void **state)
{
    (void)state;
    static const struct {
        gnutls_alert_level_t level;
        gnutls_alert_description_t alert;
    } alerts[] = {{GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR},
                  {GNUTLS_AL_FATAL, GNUTLS_A_BAD_RECORD_MAC},
                  {GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED}};
    for (size_t i = 0; i < 2 * sizeof alerts / sizeof *alerts; i++) {
        struct pair pair;
        char buf[20];
        connect_pair(&pair, load("pki", NULL, false),
                     &(struct client){.priority = both_versions[i % 2]});
        assert_int_equal(gnutls_record_send(pair.client, "half", 4), 4);
        assert_int_equal(gnutls_alert_send(pair.client, alerts[i / 2].level, alerts[i / 2].alert),
                         0);
        assert_int_equal(gnutls_record_send(pair.client, "the other", 9), 9);
        assert_int_equal(receive(&pair, buf, sizeof buf), 4);
        assert_int_equal(receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(send_bytes(&pair, "x", 1), -EPIPE);
        close_pair(&pair);
    }
}

/* Each wants an answer.  Whoever asks for many and does not read ours gets no more than GnuTLS
 * finds decent, and what waits for him stays small. */
static void a_flood_of_key_changes_is_dammed(void **state)
{
    (void)state;
    struct pair pair;
    char buf[20];
    ssize_t got = -EAGAIN;
    connect_pair(&pair, load("pki", NULL, false), &(struct client){.priority = NORMAL});
    compressor_sockets(&pair);
    unsigned sent = 0;
    for (; sent < 10000 && got == -EAGAIN; sent++) {
        gnutls_session_key_update(pair.client, GNUTLS_KU_PEER);
        got = receive(&pair, buf, sizeof buf);
    }
    printf("# %u key changes: %s\n", sent, strerror((int)-got));
    assert_int_equal(got, -EPROTO);
    assert_in_range(sent, 2, 1000);
    close_pair(&pair);
}

/* There is nothing to resume a session with, and so no early data, which could be replayed. */
static void nobody_gets_a_ticket(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        connect_pair(&pair, load("pki", NULL, false),
                     &(struct client){.priority = both_versions[i]});
        assert_talking(&pair);
        assert_int_equal(gnutls_session_get_flags(pair.client) & GNUTLS_SFLAGS_SESSION_TICKET, 0);
        close_pair(&pair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_are_enough_for_both),
        cmocka_unit_test(the_server_has_a_certificate_of_its_ca),
        cmocka_unit_test(version_1_2_is_served_and_1_1_is_not),
        cmocka_unit_test(verify_peer_wants_the_right_certificate),
        cmocka_unit_test(without_verify_peer_no_certificate_is_looked_at),
        cmocka_unit_test(a_key_opens),
        cmocka_unit_test(a_wrong_key_does_not_open),
        cmocka_unit_test(a_certificate_is_no_key),
        cmocka_unit_test(garbage_is_no_hello),
        cmocka_unit_test(a_client_may_leave_in_the_middle_of_the_handshake),
        cmocka_unit_test(a_hello_may_be_cut),
        cmocka_unit_test(a_handshake_goes_through_the_smallest_pipe),
        cmocka_unit_test(a_handshake_waits_until_it_can_write),
        cmocka_unit_test(what_cannot_be_loaded_is_named),
        cmocka_unit_test(the_usual_folders_are_looked_into),
        cmocka_unit_test(big_transfers_are_exact),
        cmocka_unit_test(keys_change_while_a_record_waits),
        cmocka_unit_test(pipes_do_as_well),
        cmocka_unit_test(small_vectors_share_a_record),
        cmocka_unit_test(what_waits_is_flushed_before_more_is_taken),
        cmocka_unit_test(half_a_record_is_nothing_yet),
        cmocka_unit_test(what_is_left_of_a_record_is_pending),
        cmocka_unit_test(a_goodbye_ends_the_stream),
        cmocka_unit_test(a_goodbye_comes_after_what_waits),
        cmocka_unit_test(without_a_goodbye_it_was_cut),
        cmocka_unit_test(a_record_may_be_cut),
        cmocka_unit_test(nobody_there_to_send_to),
        cmocka_unit_test(a_forged_record_ends_it),
        cmocka_unit_test(a_second_handshake_is_refused),
        cmocka_unit_test(a_record_of_nothing_is_no_end),
        cmocka_unit_test(a_record_of_nothing_is_no_end_in_1_2),
        cmocka_unit_test(an_alert_ends_it),
        cmocka_unit_test(a_flood_of_key_changes_is_dammed),
        cmocka_unit_test(nobody_gets_a_ticket),
    };
    return cmocka_run_group_tests(tests, make_everybody, forget_everybody);
}
