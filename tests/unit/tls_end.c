/* SPDX-License-Identifier: BSD-3-Clause */

/* How a stream under TLS ends: with a goodbye, without one, or because of what the peer sent. */

#include "support/support.h"
#include "support/tls_pair.h"
#include "support/tls_parties.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void a_goodbye_ends_the_stream(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20];
    tls_pair_connect_default(&pair, TLS_NORMAL);
    assert_int_equal(gnutls_record_send(pair.client, "last", 4), 4);
    assert_int_equal(gnutls_bye(pair.client, GNUTLS_SHUT_WR), 0);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 4);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 0);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 0);
    /* The client can still receive data, and a goodbye. */
    assert_int_equal(tls_pair_send(&pair, "yes", 3), 3);
    transport_close(&pair.server);
    assert_int_equal(gnutls_record_recv(pair.client, buf, sizeof buf), 3);
    assert_int_equal(gnutls_record_recv(pair.client, buf, sizeof buf), 0);
    tls_pair_close(&pair);
}

static void a_goodbye_comes_after_what_waits(void **state)
{
    (void)state;
    static uint8_t data[1 << 20], got[16384];
    struct tls_pair pair;
    tls_pair_connect_default(&pair, TLS_NORMAL);
    tls_pair_shrink_buffers(&pair);
    ssize_t taken = tls_pair_send(&pair, data, sizeof data);
    assert_true(taken > 0 && transport_wants_flush(&pair.server));
    ssize_t received = 0, more;
    while ((more = gnutls_record_recv(pair.client, got, sizeof got)) > 0)
        received += more;
    assert_int_equal(more, GNUTLS_E_AGAIN);
    assert_true(received < taken);
    int size = 1 << 16; /* room for what waits and for the goodbye */
    assert_int_equal(setsockopt(pair.server.out, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    transport_close(&pair.server);
    while ((more = gnutls_record_recv(pair.client, got, sizeof got)) > 0)
        received += more;
    assert_int_equal(more, 0);
    assert_int_equal(received, taken);
    tls_pair_close(&pair);
}

static void without_a_goodbye_it_was_cut(void **state)
{
    (void)state;
    static const char *const priorities[] = {TLS_NORMAL, TLS_ONLY_1_2};
    for (int i = 0; i < 2; i++) {
        struct tls_pair pair;
        char buf[20];
        tls_pair_connect_default(&pair, priorities[i]);
        assert_int_equal(gnutls_record_send(pair.client, "last", 4), 4);
        tls_pair_close_client(&pair);
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 4);
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPIPE);
        assert_int_equal(tls_pair_send(&pair, "x", 1), -EPIPE);
        tls_pair_close(&pair);
    }
}

static void a_record_may_be_cut(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20];
    tls_pair_connect_default(&pair, TLS_NORMAL);
    assert_int_equal(write(pair.client_out,
                           "\x17\3\3\0\x20"
                           "0123",
                           9),
                     9);
    tls_pair_close_client(&pair);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPIPE);
    assert_false(transport_has_pending(&pair.server));
    tls_pair_close(&pair);
}

static void nobody_there_to_send_to(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_connect_default(&pair, TLS_NORMAL);
    tls_pair_close_client(&pair);
    assert_int_equal(tls_pair_send(&pair, "x", 1), -EPIPE);
    assert_int_equal(tls_pair_send(&pair, "x", 1), -EPIPE);
    tls_pair_close(&pair);
}

static void a_forged_record_ends_it(void **state)
{
    (void)state;
    static const char forged[] = "\x17\3\3\0\x20"
                                 "0123456789abcdef0123456789abcdef";
    struct tls_pair pair;
    char buf[20];
    tls_pair_connect_default(&pair, TLS_NORMAL);
    assert_int_equal(gnutls_record_send(pair.client, "true", 4), 4);
    assert_int_equal(write(pair.client_out, forged, sizeof forged - 1), sizeof forged - 1);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 4);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPROTO);
    assert_int_equal(tls_pair_send(&pair, "x", 1), -EPROTO);
    assert_int_equal(gnutls_record_recv(pair.client, buf, sizeof buf),
                     GNUTLS_E_FATAL_ALERT_RECEIVED);
    tls_pair_close(&pair);
}

static void a_second_handshake_is_refused(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20];
    tls_pair_connect_default(&pair, TLS_ONLY_1_2);
    tls_pair_assert_talking(&pair);
    assert_int_equal(gnutls_handshake(pair.client), GNUTLS_E_AGAIN);
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EPROTO);
    tls_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_goodbye_ends_the_stream),
        cmocka_unit_test(a_goodbye_comes_after_what_waits),
        cmocka_unit_test(without_a_goodbye_it_was_cut),
        cmocka_unit_test(a_record_may_be_cut),
        cmocka_unit_test(nobody_there_to_send_to),
        cmocka_unit_test(a_forged_record_ends_it),
        cmocka_unit_test(a_second_handshake_is_refused),
    };
    return cmocka_run_group_tests(tests, tls_parties_make, tls_parties_free);
}
