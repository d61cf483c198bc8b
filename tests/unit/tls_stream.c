/* SPDX-License-Identifier: BSD-3-Clause */

/* Data under TLS: what one end sends arrives at the other, whatever the sizes of records, vectors
 * and socket buffers are. */

#include "support/support.h"
#include "support/tls_pair.h"
#include "support/tls_parties.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRANSFER_SIZE (3 * MiB + 12345)

/* Send in up to four vectors of any size, some empty. */
static ssize_t send_in_pieces(struct tls_pair *pair, struct prng *prng, const uint8_t *from,
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

static ssize_t receive_in_pieces(struct tls_pair *pair, struct prng *prng, uint8_t *to,
                                 size_t size)
{
    size_t first = 1 + prng_below(prng, size < 40000 ? size : 40000);
    struct iovec iov[3] = {
        {.iov_base = to, .iov_len = first},
        {.iov_base = to + first, .iov_len = 0},
        {.iov_base = to + first, .iov_len = size - first},
    };
    return transport_receive(&pair->server, iov, 3);
}

/* The bytes of one direction. */
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

/* What the client began and could not do at once, and has to do before anything else. */
struct unfinished {
    size_t record; /* bytes; 0: none */
    bool key_change;
};

static void client_sends(struct tls_pair *pair, struct prng *prng, struct flow *flow,
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
    flow->sent += tls_moved_by_client(sent);
}

static void server_sends(struct tls_pair *pair, struct prng *prng, struct flow *flow)
{
    if (flow->sent < TRANSFER_SIZE)
        flow->sent += tls_moved_by_server(
            send_in_pieces(pair, prng, flow->from + flow->sent, TRANSFER_SIZE - flow->sent));
    else if (transport_wants_flush(&pair->server))
        tls_moved_by_server(transport_send(&pair->server, NULL, 0));
}

/* Transfer in both directions at once.  From time to time, while a record of the server waits to
 * go out, the client asks for new keys. */
static void exchange(struct tls_pair *pair, unsigned key_changes)
{
    struct prng prng;
    struct flow in, out;
    struct unfinished unfinished = {.record = 0};
    prng_init(&prng, test_seed(), 1);
    open_flow(&in, &prng);
    open_flow(&out, &prng);
    for (int turn = 0; in.received < TRANSFER_SIZE || out.received < TRANSFER_SIZE; turn++) {
        assert_true(turn < TLS_TURNS_MAX);
        unsigned action = (unsigned)prng_below(&prng, 4);
        if (action == 0)
            client_sends(pair, &prng, &in, &unfinished);
        if (action == 1)
            server_sends(pair, &prng, &out);
        if (action == 2 && in.received < TRANSFER_SIZE)
            in.received += tls_moved_by_server(
                receive_in_pieces(pair, &prng, in.to + in.received, TRANSFER_SIZE - in.received));
        if (action == 3 && out.received < TRANSFER_SIZE)
            out.received += tls_moved_by_client(gnutls_record_recv(
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
    static const struct tls_client clients[] = {
        {.priority = TLS_NORMAL},
        {.priority = TLS_ONLY_1_2},
        {.priority = TLS_NORMAL, .record_size = 512},
        {.priority = TLS_ONLY_1_2, .record_size = 700},
        {.priority = TLS_KEYS, .user = "bob", .key = "00ff00fe"},
    };
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        struct tls_pair pair;
        tls_pair_open_sockets(&pair,
                              clients[i].user != NULL ? tls_load(NULL, "keys", false)
                                                      : tls_load("pki", NULL, false),
                              &clients[i]);
        tls_pair_shrink_buffers(&pair);
        tls_pair_shake_hands(&pair);
        exchange(&pair, 0);
        tls_pair_close(&pair);
    }
}

static void keys_change_while_a_record_waits(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_connect_default(&pair, TLS_NORMAL);
    tls_pair_shrink_buffers(&pair);
    exchange(&pair, 4);
    tls_pair_close(&pair);
}

static void pipes_do_as_well(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_open_pipes(&pair, tls_load("pki", NULL, false),
                        &(struct tls_client){.priority = TLS_NORMAL});
    tls_pair_shake_hands(&pair);
    exchange(&pair, 0);
    tls_pair_close(&pair);
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
    struct tls_pair pair;
    tls_pair_connect_default(&pair, TLS_NORMAL);
    const size_t total = 2 * sizeof header + 4096 + sizeof data;
    assert_int_equal(transport_send(&pair.server, iov, 5), total);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), 16384);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), 16384);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), total - 2 * 16384);
    tls_pair_close(&pair);
}

static void what_waits_is_flushed_before_more_is_taken(void **state)
{
    (void)state;
    static uint8_t data[1 << 20], got[16384];
    struct tls_pair pair;
    tls_pair_connect_default(&pair, TLS_NORMAL);
    tls_pair_shrink_buffers(&pair);
    ssize_t taken = tls_pair_send(&pair, data, sizeof data);
    assert_true(taken > 0 && (size_t)taken < sizeof data);
    assert_true(transport_wants_flush(&pair.server));
    assert_int_equal(tls_pair_send(&pair, data, 1), -EAGAIN);
    assert_int_equal(transport_send(&pair.server, NULL, 0), -EAGAIN);
    size_t received = 0;
    for (int turn = 0; transport_wants_flush(&pair.server); turn++) {
        assert_true(turn < TLS_TURNS_MAX);
        received += tls_moved_by_client(gnutls_record_recv(pair.client, got, sizeof got));
        transport_send(&pair.server, NULL, 0);
    }
    while (received < (size_t)taken)
        received += tls_moved_by_client(gnutls_record_recv(pair.client, got, sizeof got));
    assert_int_equal(received, taken);
    assert_int_equal(gnutls_record_recv(pair.client, got, sizeof got), GNUTLS_E_AGAIN);
    tls_pair_close(&pair);
}

static void half_a_record_is_nothing_yet(void **state)
{
    (void)state;
    struct tls_pair pair, copy;
    char record[200], buf[20];
    tls_pair_connect_default(&pair, TLS_NORMAL);
    /* The client's record goes into a pipe first, from which its bytes are then sent one by
     * one. */
    int way[2], out = pair.client_out;
    assert_int_equal(pipe2(way, O_CLOEXEC), 0);
    copy = pair;
    copy.client_out = way[1];
    gnutls_transport_set_ptr(pair.client, &copy);
    assert_int_equal(gnutls_record_send(pair.client, "word", 4), 4);
    ssize_t size = read(way[0], record, sizeof record);
    assert_true(size > 10);
    for (ssize_t i = 0; i < size; i++) {
        assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), -EAGAIN);
        assert_false(transport_has_pending(&pair.server));
        assert_int_equal(write(out, record + i, 1), 1);
    }
    assert_int_equal(tls_pair_receive(&pair, buf, sizeof buf), 4);
    assert_memory_equal(buf, "word", 4);
    gnutls_transport_set_ptr(pair.client, &pair);
    close(way[0]);
    close(way[1]);
    tls_pair_close(&pair);
}

static void what_is_left_of_a_record_is_pending(void **state)
{
    (void)state;
    struct tls_pair pair;
    char buf[20];
    tls_pair_connect_default(&pair, TLS_NORMAL);
    assert_false(transport_has_pending(&pair.server));
    assert_int_equal(gnutls_record_send(pair.client, "request", 7), 7);
    assert_int_equal(tls_pair_receive(&pair, buf, 3), 3);
    assert_true(transport_has_pending(&pair.server));
    assert_int_equal(tls_pair_receive(&pair, buf + 3, 4), 4);
    assert_false(transport_has_pending(&pair.server));
    assert_memory_equal(buf, "request", 7);
    tls_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(big_transfers_are_exact),
        cmocka_unit_test(keys_change_while_a_record_waits),
        cmocka_unit_test(pipes_do_as_well),
        cmocka_unit_test(small_vectors_share_a_record),
        cmocka_unit_test(what_waits_is_flushed_before_more_is_taken),
        cmocka_unit_test(half_a_record_is_nothing_yet),
        cmocka_unit_test(what_is_left_of_a_record_is_pending),
    };
    return cmocka_run_group_tests(tests, tls_parties_make, tls_parties_free);
}
