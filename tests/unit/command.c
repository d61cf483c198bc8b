/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests: every header is parsed as the specification draws it; and every command, with every
 * flag, in every style, for every range, gets the result of a table that was written from the
 * specification ("Request types", "Command flags", "Error values"), not from the code. */

#include "support/hex.h"

#include <stdio.h>

#include "nbd/command.h"

#define STYLES 3
#define SIZE (5 * GiB + 512)
#define PAYLOAD_MAX (64u << 20)

/* Parsing. */

static int parse(enum nbd_style style, const char *text, struct nbd_request *request)
{
    uint8_t header[NBD_REQUEST_SIZE_MAX];
    memset(request, 0x5a, sizeof *request);
    assert_int_equal(hex_put(header, text), nbd_request_size(style));
    return nbd_request_parse(style, header, request);
}

static void fields(void **state)
{
    (void)state;
    struct nbd_request request;
    uint8_t cookie[8];
    assert_int_equal(nbd_request_size(NBD_SIMPLE), 28);
    assert_int_equal(nbd_request_size(NBD_STRUCTURED), 28);
    assert_int_equal(nbd_request_size(NBD_EXTENDED), 32);
    hex_put(cookie, "0102030405060708");
    for (int i = 0; i < STYLES; i++) {
        static const char compact[] = "25609513 0112 0203 0102030405060708 1122334455667788"
                                      "99aabbcc";
        static const char extended[] = "21e41c71 0112 0203 0102030405060708 1122334455667788"
                                       "99aabbccddeeff00";
        enum nbd_style style = (enum nbd_style)i;
        bool long_one = style == NBD_EXTENDED;
        assert_int_equal(parse(style, long_one ? extended : compact, &request), 0);
        assert_int_equal(request.flags, 0x0112);
        assert_int_equal(request.type, 0x0203);
        assert_memory_equal(&request.cookie, cookie, sizeof cookie);
        assert_true(request.offset == 0x1122334455667788);
        assert_true(request.length == (long_one ? 0x99aabbccddeeff00 : 0x99aabbcc));
        assert_true(request.payload == 0);
    }
}

static void wrong_magic(void **state)
{
    (void)state;
    static const char *const magics[] = {"25609512", "21e41c70", "67446698", "668e33ef",
                                         "13956025", "00000000", "ffffffff"};
    struct nbd_request request;
    char text[80];
    for (size_t i = 0; i < COUNT_OF(magics); i++) {
        snprintf(text, sizeof text, "%s ~24", magics[i]);
        assert_int_equal(parse(NBD_SIMPLE, text, &request), -EPROTO);
        assert_int_equal(parse(NBD_STRUCTURED, text, &request), -EPROTO);
        snprintf(text, sizeof text, "%s ~28", magics[i]);
        assert_int_equal(parse(NBD_EXTENDED, text, &request), -EPROTO);
    }
    assert_int_equal(parse(NBD_SIMPLE, "21e41c71 ~24", &request), -EPROTO);
    assert_int_equal(parse(NBD_EXTENDED, "25609513 ~28", &request), -EPROTO);
}

/* Without extended headers a payload follows WRITE only, whatever the flags are.  With them it
 * follows each request with the flag, whatever the command is.  After DISC nothing is read. */
static void payloads(void **state)
{
    (void)state;
    static const uint16_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 0x100, 0xffff};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        for (unsigned flags = 0; flags < 0x100; flags++) {
            struct nbd_request request;
            char text[100];
            bool carries = types[i] == 1 || (types[i] != 2 && flags & 0x20); /* see command.c */
            snprintf(text, sizeof text, "25609513 %04x %04x ~16 00000007", flags, types[i]);
            assert_int_equal(parse(NBD_SIMPLE, text, &request), 0);
            assert_int_equal(request.payload, types[i] == 1 ? 7 : 0);
            assert_int_equal(parse(NBD_STRUCTURED, text, &request), 0);
            assert_int_equal(request.payload, types[i] == 1 ? 7 : 0);
            snprintf(text, sizeof text, "21e41c71 %04x %04x ~16 0000000700000000", flags,
                     types[i]);
            assert_int_equal(parse(NBD_EXTENDED, text, &request), 0);
            assert_true(request.payload == (carries ? 7ull << 32 : 0));
        }
}

/* Judging. */

#define FUA 0x01
#define NO_HOLE 0x02
#define DF 0x04
#define REQ_ONE 0x08
#define FAST_ZERO 0x10
#define PAYLOAD_LEN 0x20

static const struct law {
    unsigned flags[STYLES]; /* those that are legal, in simple, structured and extended style */
    bool writes, has_range;
    int outside;
} laws[] = {
    /* read */ {{FUA, FUA | DF, FUA | DF}, false, true, -EINVAL},
    /* write */ {{FUA, FUA, FUA | PAYLOAD_LEN}, true, true, -ENOSPC},
    /* disconnect */ {{0}, false, false, 0},
    /* flush */ {{FUA, FUA, FUA}, false, false, 0},
    /* trim */ {{FUA, FUA, FUA}, true, true, -EINVAL},
    /* cache */ {{FUA, FUA, FUA}, false, true, -EINVAL},
    /* write zeroes */
    {{FUA | NO_HOLE | FAST_ZERO, FUA | NO_HOLE | FAST_ZERO, FUA | NO_HOLE | FAST_ZERO},
     true,
     true,
     -ENOSPC},
    /* block status */
    {{FUA | REQ_ONE, FUA | REQ_ONE, FUA | REQ_ONE | PAYLOAD_LEN}, false, true, -EINVAL},
};

static const struct range {
    uint64_t offset, length;
    bool inside;
} ranges[] = {
    {0, 0, true},
    {0, 1, true},
    {0, 4096, true},
    {SIZE - 512, 4096, false},
    {0, 4097, true},
    {0, PAYLOAD_MAX, true},
    {0, PAYLOAD_MAX + 1, true},
    {SIZE - 1, 1, true},
    {SIZE, 0, true},
    {SIZE - 512, 512, true},
    {SIZE - 512, 513, false},
    {SIZE, 1, false},
    {SIZE + 1, 0, false},
    {0, UINT32_MAX, true},
    {0, SIZE, true},
    {0, SIZE + 1, false},
    {UINT64_MAX, 1, false},
    {UINT64_MAX, 0, false},
    {1, UINT64_MAX, false},
    {UINT64_MAX, UINT64_MAX, false},
    {UINT64_MAX - 511, 512, false},
    {(uint64_t)1 << 63, (uint64_t)1 << 63, false},
};

struct situation {
    enum nbd_style style;
    bool read_only, context, stopping;
};

static bool is_legal(const struct situation *situation, unsigned type, unsigned flags,
                     const struct range *range)
{
    if (type >= COUNT_OF(laws) || flags & ~laws[type].flags[situation->style])
        return false;
    if (!laws[type].has_range && (range->offset || range->length))
        return false;
    return type != 7 || situation->context;
}

static int verdict(const struct situation *situation, unsigned type, unsigned flags,
                   const struct range *range)
{
    bool names_contexts = type == 7 && flags & PAYLOAD_LEN && range->length;
    if (type == 2)
        return 0;
    if (situation->stopping)
        return -ESHUTDOWN;
    if (!is_legal(situation, type, flags, range))
        return -EINVAL;
    if (laws[type].writes && situation->read_only)
        return -EPERM;
    if (laws[type].has_range && !range->inside && !names_contexts)
        return laws[type].outside;
    if (names_contexts && range->length > 4096)
        return -EINVAL;
    return type == 0 && range->length > PAYLOAD_MAX ? -EOVERFLOW : 0;
}

/* A compact request has only 32 bits for the length. */
static bool can_be_said(enum nbd_style style, const struct range *range)
{
    return style == NBD_EXTENDED || range->length <= UINT32_MAX;
}

static void judge(const struct situation *situation, unsigned type, unsigned flags,
                  const struct range *range)
{
    const struct nbd_export export = {
        .size = SIZE, .read_only = situation->read_only, .payload_max = PAYLOAD_MAX};
    const struct nbd_session session = {.style = situation->style,
                                        .has_context = situation->context,
                                        .shutting_down = situation->stopping};
    struct nbd_request request;
    char text[100];
    bool extended = situation->style == NBD_EXTENDED;
    snprintf(text, sizeof text,
             extended ? "21e41c71 %04x %04x ~8 %016llx %016llx"
                      : "25609513 %04x %04x ~8 %016llx %08llx",
             flags, type, (unsigned long long)range->offset, (unsigned long long)range->length);
    assert_int_equal(parse(situation->style, text, &request), 0);
    int found = nbd_request_check(&export, &session, &request);
    int wanted = verdict(situation, type, flags, range);
    if (found != wanted)
        fail_msg("style %d, read-only %d, context %d, stopping %d, '%s': %d, not %d",
                 (int)situation->style, situation->read_only, situation->context,
                 situation->stopping, text, found, wanted);
    bool absurd = request.payload > 64 * MiB;
    assert_int_equal(nbd_request_is_absurd(&export, &request), absurd);
}

static void judge_all(const struct situation *situation)
{
    static const uint16_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x100, 0xffff};
    static const uint16_t beyond[] = {0x40, 0x80, 0x100, 0x8000, 0xffc0};
    for (size_t t = 0; t < COUNT_OF(types); t++)
        for (size_t r = 0; r < COUNT_OF(ranges); r++) {
            if (!can_be_said(situation->style, &ranges[r]))
                continue;
            for (unsigned flags = 0; flags < 0x40; flags++)
                judge(situation, types[t], flags, &ranges[r]);
            for (size_t f = 0; f < COUNT_OF(beyond); f++)
                judge(situation, types[t], beyond[f], &ranges[r]);
        }
}

static void verdicts(void **state)
{
    struct situation situation = {.style = (enum nbd_style)(uintptr_t)*state};
    for (unsigned bits = 0; bits < 8; bits++) {
        situation.read_only = bits & 1;
        situation.context = bits & 2;
        situation.stopping = bits & 4;
        judge_all(&situation);
    }
}

/* The contexts that a block status names. */

static const struct naming {
    const char *payload;
    bool context;
    int result;
    bool wanted;
    uint64_t length;
} namings[] = {
    {"0000000100000200 00000001", true, 0, true, 0x100000200},
    {"0000000100000200", true, 0, false, 0x100000200}, /* names no context */
    {"0000000100000200 00000001", false, -EINVAL, false, 0},
    {"0000000100000200 00000000", true, -EINVAL, false, 0},
    {"0000000100000200 00000002", true, -EINVAL, false, 0},
    {"0000000100000200 01000000", true, -EINVAL, false, 0},
    {"0000000100000200 00000001 00000001", true, -EINVAL, false, 0},
    {"0000000100000200 00000001 00000002", true, -EINVAL, false, 0},
    {"0000000100000200 000000", true, -EINVAL, false, 0},
    {"0000000100000200 00000001 00", true, -EINVAL, false, 0},
    {"00000001000002", true, -EINVAL, false, 0},
    {"00", true, -EINVAL, false, 0},
};

static void named_contexts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(namings); i++) {
        const struct naming *row = &namings[i];
        const struct nbd_session session = {.style = NBD_EXTENDED, .has_context = row->context};
        uint8_t bytes[64];
        size_t n = hex_put(bytes, row->payload);
        uint8_t *payload =
            malloc(n); /* of exactly this size, so that a sanitizer finds reads beyond it */
        assert_non_null(payload);
        memcpy(payload, bytes, n);
        struct nbd_request request = {.type = 7, .flags = PAYLOAD_LEN, .payload = n};
        bool wanted = false;
        int r = nbd_request_parse_status(&session, payload, &request, &wanted);
        free(payload);
        if (r != row->result)
            fail_msg("'%s': %d, not %d", row->payload, r, row->result);
        if (r == 0) {
            assert_int_equal(wanted, row->wanted);
            assert_true(request.length == row->length);
        }
    }
}

static void names(void **state)
{
    (void)state;
    static const char *const wanted[] = {"read", "write", "disconnect",   "flush",
                                         "trim", "cache", "write zeroes", "block status"};
    for (uint16_t i = 0; i < COUNT_OF(wanted); i++)
        assert_string_equal(nbd_command_name(i), wanted[i]);
    assert_string_equal(nbd_command_name(8), "unknown");
    assert_string_equal(nbd_command_name(UINT16_MAX), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),
        cmocka_unit_test(wrong_magic),
        cmocka_unit_test(payloads),
        {"verdicts (simple)", verdicts, NULL, NULL, (void *)(uintptr_t)NBD_SIMPLE},
        {"verdicts (structured)", verdicts, NULL, NULL, (void *)(uintptr_t)NBD_STRUCTURED},
        {"verdicts (extended)", verdicts, NULL, NULL, (void *)(uintptr_t)NBD_EXTENDED},
        cmocka_unit_test(named_contexts),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
