/* SPDX-License-Identifier: BSD-3-Clause */

/* Records that carry no data: what a client may send of them (empty records, alerts, changes of
 * keys), and what the server sends. */

#include "support/support.h"
#include "support/tls_pair.h"
#include "support/tls_parties.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *const both_versions[] = {TLS_NORMAL, TLS_ONLY_1_2};

/* GnuTLS makes empty records only as padding. */
static void a_record_of_nothing_is_no_end(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20] = "";
    tls_pair_connect_default(&pair, TLS_NORMAL);
    for (int n = 0; n < 50; n++)
        assert_int_equal(gnutls_record_send2(pair.client, buf, 0, 16, 0), 0);
    int there = 0;
    assert_int_equal(ioctl(pair.server.in, FIONREAD, &there), 0);
    assert_true(there > 50 * 16);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EAGAIN);
    while (transport_has_pending(&pair.server))
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EAGAIN);
    tls_pair_assert_talking(&pair);
    tls_pair_close(&pair);
}

/* Send an empty AES-GCM record of TLS 1.2 (RFC 5288), which is made by hand. */
static void send_nothing(const struct tls_pair *pair)
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
    seq[7]++; /* no carry: there are few records */
    assert_int_equal(gnutls_record_set_state(pair->client, 0, seq), 0);
}

static void a_record_of_nothing_is_no_end_in_1_2(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20] = "";
    tls_pair_connect_default(&pair, TLS_ONLY_1_2 ":-CIPHER-ALL:+AES-128-GCM");
    tls_pair_assert_talking(&pair);
    for (int n = 0; n < 3; n++)
        send_nothing(&pair);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EAGAIN);
    while (transport_has_pending(&pair.server))
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EAGAIN);
    tls_pair_assert_talking(&pair);
    tls_pair_close(&pair);
}

/* An alert in the middle of data ends the stream, and each later receive returns an error. */
static void an_alert_ends_it(void **state)
{
    (void)state;
    static const struct {
        gnutls_alert_level_t level;
        gnutls_alert_description_t alert;
    } alerts[] = {{GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR},
                  {GNUTLS_AL_FATAL, GNUTLS_A_BAD_RECORD_MAC},
                  {GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED}};
    for (size_t i = 0; i < 2 * COUNT_OF(alerts); i++) {
        struct tls_pair pair;
        char buf[20];
        tls_pair_connect_default(&pair, both_versions[i % 2]);
        assert_int_equal(gnutls_record_send(pair.client, "half", 4), 4);
        assert_int_equal(gnutls_alert_send(pair.client, alerts[i / 2].level, alerts[i / 2].alert),
                         0);
        assert_int_equal(gnutls_record_send(pair.client, "the other", 9), 9);
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 4);
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(tls_pair_send(&pair, "x", 1), -EPIPE);
        tls_pair_close(&pair);
    }
}

/* Each change of keys wants an answer.  A client that asks for many and does not read the answers
 * is cut off at GnuTLS's limit, so that what waits to go out stays small. */
static void a_flood_of_key_changes_is_dammed(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20];
    ssize_t got = -EAGAIN;
    tls_pair_connect_default(&pair, TLS_NORMAL);
    tls_pair_shrink_buffers(&pair);
    unsigned sent = 0;
    for (; sent < 10000 && got == -EAGAIN; sent++) {
        gnutls_session_key_update(pair.client, GNUTLS_KU_PEER);
        got = tls_pair_receive(&pair, buf, sizeof buf);
    }
    printf("# %u key changes: %s\n", sent, strerror((int)-got));
    assert_int_equal(got, -EPROTO);
    assert_in_range(sent, 2, 1000);
    tls_pair_close(&pair);
}

/* A client gets nothing to resume a session with, so there is no early data, which could be
 * replayed. */
static void nobody_gets_a_ticket(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct tls_pair pair;
        tls_pair_connect_default(&pair, both_versions[i]);
        tls_pair_assert_talking(&pair);
        assert_int_equal(gnutls_session_get_flags(pair.client) & GNUTLS_SFLAGS_SESSION_TICKET, 0);
        tls_pair_close(&pair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_of_nothing_is_no_end),
        cmocka_unit_test(a_record_of_nothing_is_no_end_in_1_2),
        cmocka_unit_test(an_alert_ends_it),
        cmocka_unit_test(a_flood_of_key_changes_is_dammed),
        cmocka_unit_test(nobody_gets_a_ticket),
    };
    return cmocka_run_group_tests(tests, tls_parties_make, tls_parties_free);
}
