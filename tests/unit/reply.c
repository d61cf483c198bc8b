/* SPDX-License-Identifier: BSD-3-Clause */

/* Replies have exactly the bytes of the specification ("Simple reply message", "Structured reply
 * chunk message", "Extended reply chunk message", "Structured reply types"). */

#include "support/hex.h"

#include "nbd/reply.h"

#define COOKIE "0123456789abcdef"
#define OFFSET "0000000100000200"
#define SIMPLE "67446698"
#define STRUCTURED "668e33ef"
#define EXTENDED "6e8a278c"
#define DONE "0001"
#define STRUCTURED_ERROR STRUCTURED DONE "8001" COOKIE "00000006"
#define EXTENDED_ERROR EXTENDED DONE "8001" COOKIE OFFSET "0000000000000006"

/* The fixture: what a test puts, until expect() has compared it. */
static uint8_t out[2 * NBD_REPLY_SIZE_MAX];
static struct wire_writer writer;

/* A request with COOKIE. */
static struct nbd_request request_of(uint16_t type)
{
    struct nbd_request request = {.type = type, .offset = 0x100000200, .length = 4096};
    uint8_t cookie[8];
    assert_int_equal(hex_put(cookie, COOKIE), sizeof cookie);
    memcpy(&request.cookie, cookie, sizeof cookie);
    return request;
}

/* Compare what was put since the last call. */
static void expect(const char *name, const char *text)
{
    size_t n = (size_t)(writer.at - out);
    assert_false(writer.failed);
    assert_true(n <= NBD_REPLY_SIZE_MAX);
    hex_expect(name, out, n, text);
    writer = wire_write(out, sizeof out);
}

static void answers(void **state)
{
    (void)state;
    static const char simple[] = SIMPLE "00000000" COOKIE;
    static const char none[] = STRUCTURED DONE "0000" COOKIE "00000000";
    static const char extended[] = EXTENDED DONE "0000" COOKIE OFFSET "~8";
    for (uint16_t type = 0; type < NBD_COMMANDS; type++) {
        bool chunks = type == NBD_CMD_READ || type == NBD_CMD_BLOCK_STATUS;
        struct nbd_request request = request_of(type);
        nbd_put_answer(&writer, NBD_SIMPLE, &request, 0);
        expect("simple", simple);
        nbd_put_answer(&writer, NBD_STRUCTURED, &request, 0);
        expect("structured", chunks ? none : simple);
        nbd_put_answer(&writer, NBD_EXTENDED, &request, 0);
        expect("extended", extended);
    }
}

static void errors(void **state)
{
    (void)state;
    for (uint16_t type = 0; type < NBD_COMMANDS + 2; type++) {
        bool chunks = type == NBD_CMD_READ || type == NBD_CMD_BLOCK_STATUS;
        struct nbd_request request = request_of(type);
        nbd_put_answer(&writer, NBD_SIMPLE, &request, -EINVAL);
        expect("simple", SIMPLE "00000016" COOKIE);
        nbd_put_answer(&writer, NBD_STRUCTURED, &request, -EIO);
        expect("structured",
               chunks ? STRUCTURED_ERROR "00000005 0000" : SIMPLE "00000005" COOKIE);
        nbd_put_answer(&writer, NBD_EXTENDED, &request, -ENOSPC);
        expect("extended", EXTENDED_ERROR "0000001c 0000");
    }
}

static void reads(void **state)
{
    (void)state;
    struct nbd_request request = request_of(NBD_CMD_READ);
    struct nbd_chunk part = {.offset = 0x100000300, .count = 0xd00};
    struct nbd_chunk last = {.offset = 0x100000300, .count = 0xd00, .done = true};
    nbd_put_read(&writer, &request);
    expect("simple", SIMPLE "00000000" COOKIE);
    nbd_put_data(&writer, NBD_STRUCTURED, &request, &part);
    expect("data", STRUCTURED "0000 0001" COOKIE "00000d08 0000000100000300");
    nbd_put_data(&writer, NBD_STRUCTURED, &request, &last);
    expect("last data", STRUCTURED DONE "0001" COOKIE "00000d08 0000000100000300");
    nbd_put_data(&writer, NBD_EXTENDED, &request, &part);
    expect("extended data",
           EXTENDED "0000 0001" COOKIE OFFSET "0000000000000d08 0000000100000300");
    nbd_put_data(&writer, NBD_EXTENDED, &request, &last);
    expect("last extended data",
           EXTENDED DONE "0001" COOKIE OFFSET "0000000000000d08 0000000100000300");
    nbd_put_hole(&writer, NBD_STRUCTURED, &request, &part);
    expect("hole", STRUCTURED "0000 0002" COOKIE "0000000c 0000000100000300 00000d00");
    nbd_put_hole(&writer, NBD_STRUCTURED, &request, &last);
    expect("last hole", STRUCTURED DONE "0002" COOKIE "0000000c 0000000100000300 00000d00");
    nbd_put_hole(&writer, NBD_EXTENDED, &request, &part);
    expect("extended hole",
           EXTENDED "0000 0002" COOKIE OFFSET "000000000000000c 0000000100000300 00000d00");
    nbd_put_hole(&writer, NBD_EXTENDED, &request, &last);
    expect("last extended hole",
           EXTENDED DONE "0002" COOKIE OFFSET "000000000000000c 0000000100000300 00000d00");
}

static void block_status(void **state)
{
    (void)state;
    struct nbd_request request = request_of(NBD_CMD_BLOCK_STATUS);
    nbd_put_status(&writer, NBD_STRUCTURED, &request, 2);
    nbd_put_descriptor(&writer, NBD_STRUCTURED, 0x1000, false);
    nbd_put_descriptor(&writer, NBD_STRUCTURED, 0xfffff000, true);
    expect("structured", STRUCTURED DONE "0005" COOKIE "00000014 00000001"
                                         "00001000 00000000 fffff000 00000003");
    nbd_put_status(&writer, NBD_EXTENDED, &request, 1);
    nbd_put_descriptor(&writer, NBD_EXTENDED, 0x100001000, true);
    expect("extended", EXTENDED DONE "0006" COOKIE OFFSET "0000000000000018 00000001 00000001"
                                     "0000000100001000 0000000000000003");
    nbd_put_descriptor(&writer, NBD_EXTENDED, 0x1000, false);
    expect("data", "0000000000001000 0000000000000000");
    assert_int_equal(nbd_descriptor_size(NBD_STRUCTURED), 8);
    assert_int_equal(nbd_descriptor_size(NBD_EXTENDED), 16);
    assert_int_equal(nbd_status_header_size(NBD_STRUCTURED), 24);
    assert_int_equal(nbd_status_header_size(NBD_EXTENDED), 40);
}

/* Room.  The puts have numbers, so that a loop can go through them. */

#define PUTS 8

static void put_number(unsigned number, struct wire_writer *to, enum nbd_style style)
{
    const struct nbd_request request = request_of(NBD_CMD_READ);
    const struct nbd_chunk chunk = {.offset = 1, .count = 2};
    switch (number) {
    case 0:
        nbd_put_answer(to, style, &request, 0);
        break;
    case 1:
        nbd_put_answer(to, style, &request, -EIO);
        break;
    case 2:
        nbd_put_read(to, &request);
        break;
    case 3:
        nbd_put_data(to, style, &request, &chunk);
        break;
    case 4:
        nbd_put_hole(to, style, &request, &chunk);
        break;
    case 5:
        nbd_put_status(to, style, &request, 1);
        break;
    case 6:
        nbd_put_descriptor(to, style, 4096, true);
        break;
    default:
        nbd_put_answer(to, NBD_SIMPLE, &request, -ENOSPC);
    }
}

/* Put into memory of exactly this size, so that a sanitizer finds what is put beyond it. */
static bool is_put_whole_or_not_at_all(unsigned number, enum nbd_style style, size_t room,
                                       size_t needed)
{
    uint8_t *memory = malloc(room + 1);
    assert_non_null(memory);
    memory[room] = 0x5a;
    struct wire_writer small = wire_write(memory, room);
    put_number(number, &small, style);
    bool fits = room >= needed;
    bool good = small.failed == !fits && small.at == memory + (fits ? needed : 0);
    put_number(7, &small,
               style); /* it is short, and often would fit into the room that is left */
    good = good && (fits || (small.failed && small.at == memory)) && memory[room] == 0x5a;
    free(memory);
    return good;
}

static void overflow(void **state)
{
    (void)state;
    static const enum nbd_style styles[] = {NBD_SIMPLE, NBD_STRUCTURED, NBD_EXTENDED};
    for (size_t s = 0; s < COUNT_OF(styles); s++)
        for (unsigned number = 0; number < PUTS; number++) {
            struct wire_writer large = wire_write(out, sizeof out);
            put_number(number, &large, styles[s]);
            size_t needed = (size_t)(large.at - out);
            assert_false(large.failed);
            assert_in_range(needed, 8, NBD_REPLY_SIZE_MAX);
            for (size_t room = 0; room <= needed + 1; room++)
                if (!is_put_whole_or_not_at_all(number, styles[s], room, needed))
                    fail_msg("put %u of %zu bytes, style %zu, into %zu", number, needed, s, room);
        }
}

static void header_sizes(void **state)
{
    (void)state;
    for (unsigned style = NBD_SIMPLE; style <= NBD_EXTENDED; style++) {
        put_number(3, &writer, (enum nbd_style)style);
        assert_int_equal(writer.at - out, nbd_data_header_size((enum nbd_style)style));
        writer = wire_write(out, sizeof out);
        put_number(5, &writer, (enum nbd_style)style);
        assert_int_equal(writer.at - out, nbd_status_header_size((enum nbd_style)style));
        writer = wire_write(out, sizeof out);
    }
}

/* "Error values": those of the list, and EINVAL for errors that are not in it. */
static void error_numbers(void **state)
{
    (void)state;
    static const struct {
        int error;
        uint32_t number;
    } rows[] = {
        {0, 0},           {EPERM, 1},     {EROFS, 1},       {EIO, 5},     {ENOMEM, 12},
        {EINVAL, 22},     {ENOSPC, 28},   {EDQUOT, 28},     {EFBIG, 28},  {EOVERFLOW, 75},
        {EOPNOTSUPP, 95}, {ENOTSUP, 95},  {ESHUTDOWN, 108}, {EAGAIN, 22}, {ENOENT, 22},
        {EPROTO, 22},     {ENOTCONN, 22}, {133, 22},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(nbd_error_of(-rows[i].error), rows[i].number);
}

int main(void)
{
    writer = wire_write(out, sizeof out);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overflow),      cmocka_unit_test(header_sizes),
        cmocka_unit_test(answers),       cmocka_unit_test(errors),
        cmocka_unit_test(reads),         cmocka_unit_test(block_status),
        cmocka_unit_test(error_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
