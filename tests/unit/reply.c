/* SPDX-License-Identifier: BSD-3-Clause */

/* Replies, byte by byte as the specification draws them ("Simple reply message", "Structured
 * reply chunk message", "Extended reply chunk message", "Structured reply types"). */

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

#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint8_t out[2 * NBD_REPLY_SIZE_MAX];

/* A request with the cookie that the client has put on the wire. */
static struct nbd_request request_of(uint16_t type)
{
    struct nbd_request request = {.type = type, .offset = 0x100000200, .length = 4096};
    uint8_t cookie[8];
    assert_int_equal(hex_put(cookie, COOKIE), sizeof cookie);
    memcpy(&request.cookie, cookie, sizeof cookie);
    return request;
}

static void expect(const char *name, const uint8_t *end, const char *text)
{
    size_t n = (size_t)(end - out);
    assert_true(n <= NBD_REPLY_SIZE_MAX);
    hex_expect(name, out, n, text);
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
        expect("simple", nbd_put_answer(out, NBD_SIMPLE, &request, 0), simple);
        expect("structured", nbd_put_answer(out, NBD_STRUCTURED, &request, 0),
               chunks ? none : simple);
        expect("extended", nbd_put_answer(out, NBD_EXTENDED, &request, 0), extended);
    }
}

static void errors(void **state)
{
    (void)state;
    for (uint16_t type = 0; type < NBD_COMMANDS + 2; type++) {
        bool chunks = type == NBD_CMD_READ || type == NBD_CMD_BLOCK_STATUS;
        struct nbd_request request = request_of(type);
        expect("simple", nbd_put_answer(out, NBD_SIMPLE, &request, -EINVAL),
               SIMPLE "00000016" COOKIE);
        expect("structured", nbd_put_answer(out, NBD_STRUCTURED, &request, -EIO),
               chunks ? STRUCTURED_ERROR "00000005 0000" : SIMPLE "00000005" COOKIE);
        expect("extended", nbd_put_answer(out, NBD_EXTENDED, &request, -ENOSPC),
               EXTENDED_ERROR "0000001c 0000");
    }
}

static void reads(void **state)
{
    (void)state;
    struct nbd_request request = request_of(NBD_CMD_READ);
    struct nbd_chunk part = {.offset = 0x100000300, .count = 0xd00};
    struct nbd_chunk last = {.offset = 0x100000300, .count = 0xd00, .done = true};
    expect("simple", nbd_put_read(out, &request), SIMPLE "00000000" COOKIE);
    expect("data", nbd_put_data(out, NBD_STRUCTURED, &request, &part),
           STRUCTURED "0000 0001" COOKIE "00000d08 0000000100000300");
    expect("last data", nbd_put_data(out, NBD_STRUCTURED, &request, &last),
           STRUCTURED DONE "0001" COOKIE "00000d08 0000000100000300");
    expect("extended data", nbd_put_data(out, NBD_EXTENDED, &request, &part),
           EXTENDED "0000 0001" COOKIE OFFSET "0000000000000d08 0000000100000300");
    expect("last extended data", nbd_put_data(out, NBD_EXTENDED, &request, &last),
           EXTENDED DONE "0001" COOKIE OFFSET "0000000000000d08 0000000100000300");
    expect("hole", nbd_put_hole(out, NBD_STRUCTURED, &request, &part),
           STRUCTURED "0000 0002" COOKIE "0000000c 0000000100000300 00000d00");
    expect("last hole", nbd_put_hole(out, NBD_STRUCTURED, &request, &last),
           STRUCTURED DONE "0002" COOKIE "0000000c 0000000100000300 00000d00");
    expect("extended hole", nbd_put_hole(out, NBD_EXTENDED, &request, &part),
           EXTENDED "0000 0002" COOKIE OFFSET "000000000000000c 0000000100000300 00000d00");
    expect("last extended hole", nbd_put_hole(out, NBD_EXTENDED, &request, &last),
           EXTENDED DONE "0002" COOKIE OFFSET "000000000000000c 0000000100000300 00000d00");
}

static void block_status(void **state)
{
    (void)state;
    struct nbd_request request = request_of(NBD_CMD_BLOCK_STATUS);
    uint8_t *at = nbd_put_status(out, NBD_STRUCTURED, &request, 2);
    at = nbd_put_descriptor(at, NBD_STRUCTURED, 0x1000, false);
    at = nbd_put_descriptor(at, NBD_STRUCTURED, 0xfffff000, true);
    expect("structured", at,
           STRUCTURED DONE "0005" COOKIE "00000014 00000001"
                           "00001000 00000000 fffff000 00000003");
    at = nbd_put_status(out, NBD_EXTENDED, &request, 1);
    at = nbd_put_descriptor(at, NBD_EXTENDED, 0x100001000, true);
    expect("extended", at,
           EXTENDED DONE "0006" COOKIE OFFSET "0000000000000018 00000001 00000001"
                         "0000000100001000 0000000000000003");
    at = nbd_put_descriptor(out, NBD_EXTENDED, 0x1000, false);
    expect("data", at, "0000000000001000 0000000000000000");
    assert_int_equal(nbd_descriptor_size(NBD_STRUCTURED), 8);
    assert_int_equal(nbd_descriptor_size(NBD_EXTENDED), 16);
}

/* "Error values": those of the list, and EINVAL for what has no place in it. */
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
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(nbd_error_of(-rows[i].error), rows[i].number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),      cmocka_unit_test(errors),        cmocka_unit_test(reads),
        cmocka_unit_test(block_status), cmocka_unit_test(error_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
