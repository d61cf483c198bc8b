/* SPDX-License-Identifier: BSD-3-Clause */

/* The reader and the writer of wire.h: what is put comes back, and both stop at the end of their
 * buffer, for good. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "nbd/wire.h"

#define BYTES 14 /* of put_all */

static void put_all(struct wire_writer *writer)
{
    wire_put16(writer, 0x0102);
    wire_put32(writer, 0x03040506);
    wire_put64(writer, 0x0708090a0b0c0d0e);
}

static void what_is_put_comes_back(void **state)
{
    (void)state;
    static const uint8_t wanted[BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    uint8_t bytes[BYTES + 3];
    struct wire_writer writer = wire_write(bytes, sizeof bytes);
    put_all(&writer);
    wire_put(&writer, "abc", 3);
    wire_put(&writer, NULL, 0);
    assert_false(writer.failed);
    assert_int_equal(wire_room(&writer), 0);
    assert_memory_equal(bytes, wanted, BYTES);
    struct wire_reader reader = wire_read(bytes, sizeof bytes);
    assert_int_equal(wire_get16(&reader), 0x0102);
    assert_int_equal(wire_get32(&reader), 0x03040506);
    assert_true(wire_get64(&reader) == 0x0708090a0b0c0d0e);
    assert_memory_equal(wire_get(&reader, 3), "abc", 3);
    assert_true(!reader.failed && reader.left == 0);
}

/* Whole numbers are put as long as there is room, and none after that, even if it would fit. */
static void a_writer_stops_for_good(void **state)
{
    (void)state;
    static const size_t put[BYTES] = {0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 6, 6, 6, 6};
    for (size_t room = 0; room < BYTES; room++) {
        uint8_t *bytes = malloc(room + 1);
        assert_non_null(bytes);
        memset(bytes, 0x5a, room + 1);
        struct wire_writer writer = wire_write(bytes, room);
        put_all(&writer);
        assert_true(writer.failed);
        assert_int_equal(writer.at - bytes, put[room]);
        wire_put(&writer, "a", 1);
        assert_null(wire_claim(&writer, 1));
        assert_true(writer.failed && wire_room(&writer) == 0);
        assert_int_equal(writer.at - bytes, put[room]);
        for (size_t i = put[room]; i <= room; i++)
            assert_int_equal(bytes[i], 0x5a);
        free(bytes);
    }
}

static void a_claim_is_all_or_nothing(void **state)
{
    (void)state;
    uint8_t bytes[8];
    struct wire_writer writer = wire_write(bytes, sizeof bytes);
    assert_ptr_equal(wire_claim(&writer, 5), bytes);
    assert_null(wire_claim(&writer, 4));
    assert_null(wire_claim(&writer, 3));
    assert_null(wire_claim(&writer, SIZE_MAX));
    assert_true(writer.failed && writer.at == bytes + 5);
}

static void a_reader_stops_for_good(void **state)
{
    (void)state;
    static const uint8_t bytes[7] = {1, 2, 3, 4, 5, 6, 7};
    struct wire_reader reader = wire_read(bytes, sizeof bytes);
    assert_int_equal(wire_get32(&reader), 0x01020304);
    assert_int_equal(wire_get32(&reader), 0);
    assert_true(reader.failed && reader.left == 3);
    assert_int_equal(wire_get16(&reader), 0);
    assert_true(wire_get64(&reader) == 0);
    assert_null(wire_get(&reader, 1));
    assert_null(wire_get(&reader, SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_comes_back),
        cmocka_unit_test(a_writer_stops_for_good),
        cmocka_unit_test(a_claim_is_all_or_nothing),
        cmocka_unit_test(a_reader_stops_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
