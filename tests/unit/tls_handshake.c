/* SPDX-License-Identifier: BSD-3-Clause */

/* The handshake of TLS: which clients the server lets in, what it says of the others, and that it
 * goes on through descriptors that take little at a time. */

#include "support/support.h"
#include "support/tls_pair.h"
#include "support/tls_parties.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Which clients get in. */

static void certificates_are_enough_for_both(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_pair pair;
    tls_pair_connect(&pair, tls_load("pki", NULL, false),
                     &(struct tls_client){.priority = TLS_NORMAL, .trusts = &all->ca});
    tls_pair_assert_talking(&pair);
    assert_int_equal(gnutls_protocol_get_version(pair.client), GNUTLS_TLS1_3);
    tls_pair_close(&pair);
}

static void the_server_has_a_certificate_of_its_ca(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_pair pair;
    tls_pair_connect(&pair, tls_load("pki", NULL, false),
                     &(struct tls_client){.priority = TLS_NORMAL, .trusts = &all->other_ca});
    assert_int_equal(pair.client_err, GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR);
    tls_pair_assert_refused(&pair, "the client gave up: ");
    tls_pair_close(&pair);
}

static void version_1_2_is_served_and_1_1_is_not(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_pair pair;
    tls_pair_connect(&pair, tls_load("pki", NULL, true),
                     &(struct tls_client){
                         .priority = TLS_ONLY_1_2, .identity = &all->client, .trusts = &all->ca});
    tls_pair_assert_talking(&pair);
    assert_int_equal(gnutls_protocol_get_version(pair.client), GNUTLS_TLS1_2);
    tls_pair_close(&pair);

    const char *only_11 =
        "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0:%VERIFY_ALLOW_SIGN_WITH_SHA1";
    tls_pair_connect_default(&pair, only_11);
    assert_int_not_equal(pair.client_err, 0);
    tls_pair_assert_refused(&pair, "");
    tls_pair_close(&pair);
}

static void verify_peer_wants_the_right_certificate(void **state)
{
    const struct tls_parties *all = *state;
    const struct {
        const struct tls_party *identity;
        const char *refusal; /* words of the reason; NULL: the client gets in */
    } cases[] = {
        {&all->client, NULL},
        {NULL, "ertificate"},
        {&all->stranger, "issuer is unknown"},
        {&all->expired, "expired"},
        {&all->revoked, "revoked"},
        {&all->not_a_client, "purpose"},
    };
    static const char *const priorities[] = {TLS_NORMAL, TLS_ONLY_1_2};
    for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
        struct tls_pair pair;
        const struct tls_client client = {
            .priority = priorities[i % 2], .identity = cases[i / 2].identity, .trusts = &all->ca};
        tls_pair_connect(&pair, tls_load("pki", NULL, true), &client);
        if (cases[i / 2].refusal == NULL)
            tls_pair_assert_talking(&pair);
        else
            tls_pair_assert_refused(&pair, cases[i / 2].refusal);
        char byte;
        if (cases[i / 2].refusal != NULL) /* the client learns of it */
            assert_true(pair.client_err == GNUTLS_E_FATAL_ALERT_RECEIVED ||
                        gnutls_record_recv(pair.client, &byte, 1) ==
                            GNUTLS_E_FATAL_ALERT_RECEIVED);
        tls_pair_close(&pair);
    }
}

static void without_verify_peer_no_certificate_is_looked_at(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_pair pair;
    tls_pair_connect(&pair, tls_load("pki", NULL, false),
                     &(struct tls_client){
                         .priority = TLS_NORMAL, .identity = &all->stranger, .trusts = &all->ca});
    tls_pair_assert_talking(&pair);
    tls_pair_close(&pair);
}

static void a_key_opens(void **state)
{
    (void)state;
    static const char *const keys[][2] = {
        {"alice", "0123456789abcdef0123456789abcdef"}, {"bob", "00ff00fe"}, {"ev", "01020304"}};
    static const char *const priorities[] = {TLS_KEYS,
                                             TLS_ONLY_1_2 ":-KX-ALL:+PSK:+DHE-PSK:+ECDHE-PSK"};
    for (int i = 0; i < 6; i++) {
        struct tls_pair pair;
        const struct tls_client client = {
            .priority = priorities[i % 2], .user = keys[i / 2][0], .key = keys[i / 2][1]};
        tls_pair_connect(&pair, tls_load(NULL, "keys", false), &client);
        tls_pair_assert_talking(&pair);
        tls_pair_close(&pair);
    }
}

static void a_wrong_key_does_not_open(void **state)
{
    (void)state;
    static const char *const users[][2] = {{"alice", "probably the wrong key for user \"alice\""},
                                           {"eve\n", "there is no key for user \"eve?\""}};
    static const char *const priorities[] = {TLS_KEYS, TLS_ONLY_1_2 ":-KX-ALL:+PSK"};
    for (int i = 0; i < 4; i++) {
        struct tls_pair pair;
        const struct tls_client client = {
            .priority = priorities[i % 2], .user = users[i / 2][0], .key = "01234567"};
        tls_pair_connect(&pair, tls_load(NULL, "keys", false), &client);
        tls_pair_assert_refused(&pair, users[i / 2][1]);
        assert_int_not_equal(pair.client_err, 0);
        tls_pair_close(&pair);
    }
}

static void a_certificate_is_no_key(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_pair pair;
    tls_pair_connect(&pair, tls_load(NULL, "keys", false),
                     &(struct tls_client){.priority = TLS_NORMAL, .identity = &all->client});
    tls_pair_assert_refused(&pair, "");
    tls_pair_close(&pair);
}

static void garbage_is_no_hello(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_open_sockets(&pair, tls_load("pki", NULL, false),
                          &(struct tls_client){.priority = TLS_NORMAL});
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EAGAIN);
    const char garbage[] = "IHAVEOPT\0\0\0\5\0\0\0\0IHAVEOPT\0\0\0\7\0\0\0\0";
    assert_int_equal(write(pair.client_out, garbage, sizeof garbage), sizeof garbage);
    pair.server_err = transport_handshake(&pair.server, &pair.reason);
    tls_pair_assert_refused(&pair, "packet");
    /* It stays refused. */
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EPROTO);
    tls_pair_close(&pair);
}

static void a_client_may_leave_in_the_middle_of_the_handshake(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_open_sockets(&pair, tls_load("pki", NULL, false),
                          &(struct tls_client){.priority = TLS_NORMAL});
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EAGAIN);
    tls_pair_close_client(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EPIPE);
    assert_string_not_equal(pair.reason.text, "");
    tls_pair_close(&pair);
}

static void a_hello_may_be_cut(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_open_sockets(&pair, tls_load("pki", NULL, false),
                          &(struct tls_client){.priority = TLS_NORMAL});
    assert_int_equal(write(pair.client_out,
                           "\x16\3\1\1\0"
                           "\1\0",
                           7),
                     7);
    tls_pair_close_client(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EPIPE);
    assert_non_null(strstr(pair.reason.text, "terminated"));
    tls_pair_close(&pair);
}

/* The handshake and the descriptors. */

static void a_handshake_goes_through_the_smallest_pipe(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_pair pair;
    tls_pair_open_pipes(&pair, tls_load("big", NULL, true),
                        &(struct tls_client){.priority = TLS_NORMAL,
                                             .identity = &all->client,
                                             .trusts = &all->ca});
    assert_true(fcntl(pair.server.out, F_SETPIPE_SZ, 4096) <
                12000); /* less than the certificate */
    tls_pair_shake_hands(&pair);
    tls_pair_assert_talking(&pair);
    tls_pair_close(&pair);
}

/* Fill the way to the client with zeroes, and empty it again. */
static void fill_way_back(const struct tls_pair *pair)
{
    const char zeroes[4096] = {0};
    while (write(pair->server.out, zeroes, sizeof zeroes) > 0)
        continue;
}

static void empty_way_back(const struct tls_pair *pair)
{
    char zeroes[4096];
    while (read(pair->client_in, zeroes, sizeof zeroes) > 0)
        continue;
}

static void assert_waits_to_write(struct tls_pair *pair)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(transport_handshake(&pair->server, &pair->reason), -EAGAIN);
        assert_int_equal(transport_events(&pair->server), EPOLLOUT);
    }
}

static void a_handshake_waits_until_it_can_write(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_open_pipes(&pair, tls_load("pki", NULL, false),
                        &(struct tls_client){.priority = TLS_ONLY_1_2});
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    fill_way_back(&pair);
    assert_waits_to_write(&pair);
    empty_way_back(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), -EAGAIN);
    assert_int_equal(transport_events(&pair.server), EPOLLIN);
    /* With 1.2 the server sends the last message: the handshake is complete once that is sent. */
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    fill_way_back(&pair);
    assert_waits_to_write(&pair);
    empty_way_back(&pair);
    assert_int_equal(transport_handshake(&pair.server, &pair.reason), 0);
    assert_int_equal(gnutls_handshake(pair.client), 0);
    tls_pair_assert_talking(&pair);
    tls_pair_close(&pair);
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
    };
    return cmocka_run_group_tests(tests, tls_parties_make, tls_parties_free);
}
