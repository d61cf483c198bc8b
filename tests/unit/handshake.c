/* SPDX-License-Identifier: BSD-3-Clause */

/* The handshake: each row of a table has the bytes that the client sends, the bytes that have to
 * come out, and what follows.  Each row is fed in one piece, byte by byte, and in random pieces,
 * always with the same result. */

#include "support/hex.h"

#include <stdio.h>

#include "nbd/handshake.h"

#define IN_MAX (128u << 10)
#define OUT_MAX (64u << 10)

/* The bytes of "Option haggling". */
#define OPT " 49484156454f5054 "
#define REP " 0003e889045565a9 "
#define NUL "00"
#define ACK(option) REP option " 00000001 00000000 "
#define ERROR(option, number) REP option " 800000" number " ?"
#define UNSUP "01"
#define POLICY "02"
#define INVALID "03"
#define TLS_REQD "05"
#define SHUTDOWN "07"
#define TOO_BIG "09"
#define EXT_HEADER_REQD "0a"

#define EXPORT_NAME "00000001"
#define ABORT "00000002"
#define LIST "00000003"
#define PEEK_EXPORT "00000004"
#define STARTTLS "00000005"
#define INFO "00000006"
#define GO "00000007"
#define STRUCTURED_REPLY "00000008"
#define LIST_META_CONTEXT "00000009"
#define SET_META_CONTEXT "0000000a"
#define EXTENDED_HEADERS "0000000b"

#define SIZE "0000000140000200" /* 5 GiB + 512 */
#define FLAGS "0d6d"            /* FLUSH FUA TRIM WRITE_ZEROES MULTI_CONN CACHE FAST_ZERO */
#define FLAGS_DF "0ded"
#define FLAGS_PAYLOAD "1ded"
#define FLAGS_READ_ONLY "050f" /* FLUSH FUA MULTI_CONN CACHE READ_ONLY */

#define INFO_EXPORT(option, flags) REP option " 00000003 0000000c 0000" SIZE flags " "
#define CONTEXT(option, number) REP option " 00000004 00000013 " number "'base:allocation' "
#define BASE_ALLOCATION "0000000f 'base:allocation'"

enum setup {
    STRUCTURED = 1 << 0,
    EXTENDED = 1 << 1,
    NO_STRUCTURED = 1 << 2,
    READ_ONLY = 1 << 3,
    STOPPING = 1 << 4,
    TLS_OFFERED = 1 << 5,
    TLS_REQUIRED = 1 << 6,
    SECURE = 1 << 7,
};

struct row {
    const char *name;
    unsigned setup;
    const char *in, *out;
    enum nbd_progress end; /* NBD_MORE: the next option may come */
};

static const struct row rows[] = {
    /* EXPORT_NAME, which has no reply for an error. */
    {"export name", 0, OPT EXPORT_NAME "00000000", SIZE FLAGS "~124", NBD_TRANSMISSION},
    {"export name, any", STRUCTURED, OPT EXPORT_NAME "00000003 'foo'", SIZE FLAGS_DF "~124",
     NBD_TRANSMISSION},
    {"export name, read-only", READ_ONLY, OPT EXPORT_NAME "00000000", SIZE FLAGS_READ_ONLY "~124",
     NBD_TRANSMISSION},
    {"export name with NUL", 0, OPT EXPORT_NAME "00000003 61" NUL "61", "", NBD_CLOSE},
    {"export name, extended", EXTENDED, OPT EXPORT_NAME "00000000", "", NBD_CLOSE},
    {"export name, too long", 0, OPT EXPORT_NAME "00001001 #4097", "", NBD_CLOSE},
    {"export name, too big", 0, OPT EXPORT_NAME "00010001", "", NBD_CLOSE},
    {"export name, stopping", STOPPING, OPT EXPORT_NAME "00000000", "", NBD_CLOSE},
    {"export name without TLS", TLS_REQUIRED, OPT EXPORT_NAME "00000000", "", NBD_CLOSE},
    {"export name in TLS", TLS_REQUIRED | SECURE, OPT EXPORT_NAME "00000000", SIZE FLAGS "~124",
     NBD_TRANSMISSION},

    /* ABORT is always answered. */
    {"abort", 0, OPT ABORT "00000000", ACK(ABORT), NBD_CLOSE},
    {"abort with data", 0, OPT ABORT "00000003 'why'", ACK(ABORT), NBD_CLOSE},
    {"abort, stopping", STOPPING, OPT ABORT "00000000", ACK(ABORT), NBD_CLOSE},
    {"abort without TLS", TLS_REQUIRED, OPT ABORT "00000000", ACK(ABORT), NBD_CLOSE},
    {"abort, too big", 0, OPT ABORT "00010001 ~65537", ACK(ABORT), NBD_CLOSE},
    {"abort, absurd", 0, OPT ABORT "00100001", "", NBD_CLOSE},

    /* LIST */
    {"list", 0, OPT LIST "00000000",
     REP LIST "00000002 0000000e 00000004 'disk' 'a disk'" ACK(LIST), NBD_MORE},
    {"list with data", 0, OPT LIST "00000001 00", ERROR(LIST, INVALID), NBD_MORE},
    {"list, stopping", STOPPING, OPT LIST "00000000", ERROR(LIST, SHUTDOWN), NBD_MORE},
    {"list without TLS", TLS_REQUIRED, OPT LIST "00000000", ERROR(LIST, TLS_REQD), NBD_MORE},

    /* Options that are not known. */
    {"option 0", 0, OPT "00000000 00000000", ERROR("00000000", UNSUP), NBD_MORE},
    {"peek export", 0, OPT PEEK_EXPORT "00000003 'foo'", ERROR(PEEK_EXPORT, UNSUP), NBD_MORE},
    {"option 12", 0, OPT "0000000c 00000000", ERROR("0000000c", UNSUP), NBD_MORE},
    {"last option", 0, OPT "ffffffff 00000002 ffff", ERROR("ffffffff", UNSUP), NBD_MORE},
    {"unknown without TLS", TLS_REQUIRED, OPT "0000000c 00000000", ERROR("0000000c", TLS_REQD),
     NBD_MORE},
    {"unknown without TLS, too big", TLS_REQUIRED, OPT "0000000c 00010001 ~65537",
     ERROR("0000000c", TLS_REQD), NBD_MORE},
    {"list without TLS, too big", TLS_REQUIRED, OPT LIST "00010001 ~65537", ERROR(LIST, TLS_REQD),
     NBD_MORE},
    {"go without TLS, too big", TLS_REQUIRED, OPT GO "00010001 ~65537", ERROR(GO, TLS_REQD),
     NBD_MORE},
    {"go inside TLS, too big", TLS_REQUIRED | SECURE, OPT GO "00010001 ~65537",
     ERROR(GO, TOO_BIG), NBD_MORE},
    {"starttls without TLS, too big", TLS_REQUIRED, OPT STARTTLS "00010001 ~65537",
     ERROR(STARTTLS, TOO_BIG), NBD_MORE},
    {"abort without TLS, too big", TLS_REQUIRED, OPT ABORT "00010001 ~65537", ACK(ABORT),
     NBD_CLOSE},
    {"unknown, too big", 0, OPT "0000000c 00010001 ~65537", ERROR("0000000c", TOO_BIG), NBD_MORE},
    {"wrong magic", 0, "49484156454f5055 00000003 00000000", "", NBD_CLOSE},
    {"wrong magic second", 0, OPT "0000000c 00000000 3e88 ~14", ERROR("0000000c", UNSUP),
     NBD_CLOSE},

    /* STARTTLS */
    {"starttls", TLS_OFFERED, OPT STARTTLS "00000000", ACK(STARTTLS), NBD_TLS},
    {"starttls, required", TLS_REQUIRED, OPT STARTTLS "00000000", ACK(STARTTLS), NBD_TLS},
    {"starttls with data", TLS_OFFERED, OPT STARTTLS "00000001 00", ERROR(STARTTLS, INVALID),
     NBD_MORE},
    {"starttls, too big", TLS_OFFERED, OPT STARTTLS "00010001 ~65537", ERROR(STARTTLS, TOO_BIG),
     NBD_MORE},
    {"starttls switched off", 0, OPT STARTTLS "00000000", ERROR(STARTTLS, POLICY), NBD_MORE},
    {"starttls inside", TLS_OFFERED | SECURE, OPT STARTTLS "00000000", ERROR(STARTTLS, INVALID),
     NBD_MORE},
    {"starttls, stopping", TLS_OFFERED | STOPPING, OPT STARTTLS "00000000",
     ERROR(STARTTLS, SHUTDOWN), NBD_MORE},

    /* INFO and GO, which differ in what follows. */
    {"info", 0, OPT INFO "00000006 00000000 0000", INFO_EXPORT(INFO, FLAGS) ACK(INFO), NBD_MORE},
    {"go", 0, OPT GO "00000006 00000000 0000", INFO_EXPORT(GO, FLAGS) ACK(GO), NBD_TRANSMISSION},
    {"go, structured", STRUCTURED, OPT GO "00000006 00000000 0000",
     INFO_EXPORT(GO, FLAGS_DF) ACK(GO), NBD_TRANSMISSION},
    {"go, extended", EXTENDED, OPT GO "00000006 00000000 0000",
     INFO_EXPORT(GO, FLAGS_PAYLOAD) ACK(GO), NBD_TRANSMISSION},
    {"go, read-only", READ_ONLY, OPT GO "00000006 00000000 0000",
     INFO_EXPORT(GO, FLAGS_READ_ONLY) ACK(GO), NBD_TRANSMISSION},
    {"go, all there is", 0, OPT GO "00000010 00000004 'some' 0003 0003 0001 0002",
     INFO_EXPORT(GO, FLAGS) REP GO "00000003 00000006 0001 'disk'" REP GO
                                   "00000003 00000008 0002 'a disk'" REP GO
                                   "00000003 0000000e 0003 00000001 00001000 04000000" ACK(GO),
     NBD_TRANSMISSION},
    {"info, one twice", 0, OPT INFO "0000000c 00000000 0003 0001 0000 0001",
     INFO_EXPORT(INFO, FLAGS) REP INFO "00000003 00000006 0001 'disk'" ACK(INFO), NBD_MORE},
    {"info, unknown ones", 0, OPT INFO "0000000c 00000000 0003 0004 0020 ffff",
     INFO_EXPORT(INFO, FLAGS) ACK(INFO), NBD_MORE},
    {"info without data", 0, OPT INFO "00000000", ERROR(INFO, INVALID), NBD_MORE},
    {"info, half a length", 0, OPT INFO "00000003 000000", ERROR(INFO, INVALID), NBD_MORE},
    {"info without count", 0, OPT INFO "00000004 00000000", ERROR(INFO, INVALID), NBD_MORE},
    {"info, half a count", 0, OPT INFO "00000005 00000000 00", ERROR(INFO, INVALID), NBD_MORE},
    {"info, name too long", 0, OPT INFO "00000008 00000003 'fo' 0000", ERROR(INFO, INVALID),
     NBD_MORE},
    {"info, name of 4 GiB", 0, OPT INFO "00000006 ffffffff 0000", ERROR(INFO, INVALID), NBD_MORE},
    {"info, name of 4097", 0, OPT INFO "00001007 00001001 #4097 0000", ERROR(INFO, INVALID),
     NBD_MORE},
    {"info, name with NUL", 0, OPT INFO "00000009 00000003 61" NUL "61 0000",
     ERROR(INFO, INVALID), NBD_MORE},
    {"go, count too small", 0, OPT GO "00000008 00000000 0000 0003", ERROR(GO, INVALID),
     NBD_MORE},
    {"go, count too large", 0, OPT GO "00000008 00000000 0002 0003", ERROR(GO, INVALID),
     NBD_MORE},
    {"go, a byte too many", 0, OPT GO "00000007 00000000 0000 00", ERROR(GO, INVALID), NBD_MORE},
    {"go, too big", 0, OPT GO "00010001 ~65537", ERROR(GO, TOO_BIG), NBD_MORE},
    {"go, as big as can be skipped", 0, OPT GO "00100000", ERROR(GO, TOO_BIG), NBD_MORE},
    {"go, absurd", 0, OPT GO "00100001", "", NBD_CLOSE},
    {"go, stopping", STOPPING, OPT GO "00000006 00000000 0000", ERROR(GO, SHUTDOWN), NBD_MORE},
    {"go without TLS", TLS_REQUIRED, OPT GO "00000006 00000000 0000", ERROR(GO, TLS_REQD),
     NBD_MORE},
    {"go in TLS", TLS_REQUIRED | SECURE, OPT GO "00000006 00000000 0000",
     INFO_EXPORT(GO, FLAGS) ACK(GO), NBD_TRANSMISSION},

    /* STRUCTURED_REPLY and EXTENDED_HEADERS */
    {"structured", 0, OPT STRUCTURED_REPLY "00000000", ACK(STRUCTURED_REPLY), NBD_MORE},
    {"structured again", STRUCTURED, OPT STRUCTURED_REPLY "00000000", ACK(STRUCTURED_REPLY),
     NBD_MORE},
    {"structured with data", 0, OPT STRUCTURED_REPLY "00000004 00000000",
     ERROR(STRUCTURED_REPLY, INVALID), NBD_MORE},
    {"structured after extended", EXTENDED, OPT STRUCTURED_REPLY "00000000",
     ERROR(STRUCTURED_REPLY, EXT_HEADER_REQD), NBD_MORE},
    {"structured switched off", NO_STRUCTURED, OPT STRUCTURED_REPLY "00000000",
     ERROR(STRUCTURED_REPLY, POLICY), NBD_MORE},
    {"structured, stopping", STOPPING, OPT STRUCTURED_REPLY "00000000",
     ERROR(STRUCTURED_REPLY, SHUTDOWN), NBD_MORE},
    {"structured without TLS", TLS_REQUIRED, OPT STRUCTURED_REPLY "00000000",
     ERROR(STRUCTURED_REPLY, TLS_REQD), NBD_MORE},
    {"extended", STRUCTURED, OPT EXTENDED_HEADERS "00000000", ACK(EXTENDED_HEADERS), NBD_MORE},
    {"extended again", EXTENDED, OPT EXTENDED_HEADERS "00000000", ACK(EXTENDED_HEADERS),
     NBD_MORE},
    {"extended with data", 0, OPT EXTENDED_HEADERS "00000004 00000000",
     ERROR(EXTENDED_HEADERS, INVALID), NBD_MORE},
    {"extended switched off", NO_STRUCTURED, OPT EXTENDED_HEADERS "00000000",
     ERROR(EXTENDED_HEADERS, POLICY), NBD_MORE},
    {"extended, stopping", STOPPING, OPT EXTENDED_HEADERS "00000000",
     ERROR(EXTENDED_HEADERS, SHUTDOWN), NBD_MORE},
    {"extended without TLS", TLS_REQUIRED, OPT EXTENDED_HEADERS "00000000",
     ERROR(EXTENDED_HEADERS, TLS_REQD), NBD_MORE},
    {"extended for real", 0, OPT EXTENDED_HEADERS "00000000" OPT GO "00000006 00000000 0000",
     ACK(EXTENDED_HEADERS) INFO_EXPORT(GO, FLAGS_PAYLOAD) ACK(GO), NBD_TRANSMISSION},

    /* Contexts. */
    {"list contexts", STRUCTURED, OPT LIST_META_CONTEXT "00000008 ~8",
     CONTEXT(LIST_META_CONTEXT, "00000000") ACK(LIST_META_CONTEXT), NBD_MORE},
    {"list our context", EXTENDED,
     OPT LIST_META_CONTEXT "0000001b 00000000 00000001" BASE_ALLOCATION,
     CONTEXT(LIST_META_CONTEXT, "00000000") ACK(LIST_META_CONTEXT), NBD_MORE},
    {"list base:", STRUCTURED,
     OPT LIST_META_CONTEXT "00000014 00000003 'foo' 00000001 00000005 'base:'",
     CONTEXT(LIST_META_CONTEXT, "00000000") ACK(LIST_META_CONTEXT), NBD_MORE},
    {"list ours twice", STRUCTURED,
     OPT LIST_META_CONTEXT "00000024 ~4 00000002" BASE_ALLOCATION "00000005 'base:'",
     CONTEXT(LIST_META_CONTEXT, "00000000") ACK(LIST_META_CONTEXT), NBD_MORE},
    {"list, too many bytes", STRUCTURED,
     OPT LIST_META_CONTEXT "00000021 ~4 00000003 00000001 'x' 0000000a 'base:alloc' "
                           "00000000 0000",
     ERROR(LIST_META_CONTEXT, INVALID), NBD_MORE},
    {"list others, none ours", STRUCTURED,
     OPT LIST_META_CONTEXT "0000001f ~4 00000003 00000001 'x' 0000000a 'base:alloc' 00000000",
     ACK(LIST_META_CONTEXT), NBD_MORE},
    {"set our context", STRUCTURED, OPT SET_META_CONTEXT "0000001b ~4 00000001" BASE_ALLOCATION,
     CONTEXT(SET_META_CONTEXT, "00000001") ACK(SET_META_CONTEXT), NBD_MORE},
    {"set ours once of two", STRUCTURED,
     OPT SET_META_CONTEXT "0000002e ~4 00000002" BASE_ALLOCATION BASE_ALLOCATION,
     CONTEXT(SET_META_CONTEXT, "00000001") ACK(SET_META_CONTEXT), NBD_MORE},
    {"set none", STRUCTURED, OPT SET_META_CONTEXT "00000008 ~8", ACK(SET_META_CONTEXT), NBD_MORE},
    {"set base:", STRUCTURED, OPT SET_META_CONTEXT "00000011 ~4 00000001 00000005 'base:'",
     ACK(SET_META_CONTEXT), NBD_MORE},
    {"set contexts, simple", 0, OPT SET_META_CONTEXT "0000001b ~4 00000001" BASE_ALLOCATION,
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"list contexts, simple", 0, OPT LIST_META_CONTEXT "00000008 ~8",
     ERROR(LIST_META_CONTEXT, INVALID), NBD_MORE},
    {"set, no data", STRUCTURED, OPT SET_META_CONTEXT "00000000",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, no count", STRUCTURED, OPT SET_META_CONTEXT "00000004 ~4",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, half a count", STRUCTURED, OPT SET_META_CONTEXT "00000006 ~6",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, count too large", STRUCTURED,
     OPT SET_META_CONTEXT "0000001b ~4 00000002" BASE_ALLOCATION,
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, count too small", STRUCTURED,
     OPT SET_META_CONTEXT "0000001b ~4 00000000" BASE_ALLOCATION,
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, count of 4 G", STRUCTURED, OPT SET_META_CONTEXT "00000008 ~4 ffffffff",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, query cut", STRUCTURED, OPT SET_META_CONTEXT "0000000d ~4 00000001 00000002 'x'",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, query with NUL", STRUCTURED,
     OPT SET_META_CONTEXT "0000000e ~4 00000001 00000002 " NUL "61",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, query of 4097", STRUCTURED, OPT SET_META_CONTEXT "0000100d ~4 00000001 00001001 #4097",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, name of 4097", STRUCTURED, OPT SET_META_CONTEXT "00001009 00001001 #4097 ~4",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, name with NUL", STRUCTURED, OPT SET_META_CONTEXT "00000009 00000001" NUL "~4",
     ERROR(SET_META_CONTEXT, INVALID), NBD_MORE},
    {"set, too big", STRUCTURED, OPT SET_META_CONTEXT "00010001 ~65537",
     ERROR(SET_META_CONTEXT, TOO_BIG), NBD_MORE},
    {"set, stopping", STRUCTURED | STOPPING, OPT SET_META_CONTEXT "00000008 ~8",
     ERROR(SET_META_CONTEXT, SHUTDOWN), NBD_MORE},
    {"set without TLS", STRUCTURED | TLS_REQUIRED, OPT SET_META_CONTEXT "00000008 ~8",
     ERROR(SET_META_CONTEXT, TLS_REQD), NBD_MORE},

    /* After a refusal the next option is found. */
    {"many errors", 0,
     OPT "0000000c 00000003 'foo'" OPT LIST "00000001 00" OPT INFO "00010001 ~65537" OPT STARTTLS
         "00000000" OPT GO "00000006 00000000 0000",
     ERROR("0000000c", UNSUP) ERROR(LIST, INVALID) ERROR(INFO, TOO_BIG) ERROR(STARTTLS, POLICY)
         INFO_EXPORT(GO, FLAGS) ACK(GO),
     NBD_TRANSMISSION},
};

/* One handshake.  This is the fixture of all tests; begin() sets it up. */

static struct nbd_export disk;
static struct nbd_policy policy;
static struct nbd_session session;
static struct nbd_handshake handshake;
static uint8_t out[OUT_MAX];
static size_t out_size, unused;

static void begin(unsigned setup)
{
    disk = (struct nbd_export){.size = 5 * GiB + 512,
                               .read_only = setup & READ_ONLY,
                               .preferred = 4096,
                               .payload_max = 64u << 20,
                               .name = "disk",
                               .description = "a disk"};
    policy = (struct nbd_policy){.handshake_flags = 3,
                                 .structured = !(setup & NO_STRUCTURED),
                                 .tls_offered = setup & (TLS_OFFERED | TLS_REQUIRED),
                                 .tls_required = setup & TLS_REQUIRED};
    struct wire_writer writer = wire_write(out, sizeof out);
    nbd_handshake_begin(&handshake, &disk, &policy, &session, &writer);
    session.secure = setup & SECURE;
    session.shutting_down = setup & STOPPING;
    session.style = setup & EXTENDED     ? NBD_EXTENDED
                    : setup & STRUCTURED ? NBD_STRUCTURED
                                         : NBD_SIMPLE;
    out_size = 0;
}

/* Make one step, in memory of exactly the size that it may read, so that a sanitizer finds
 * accesses beyond either end. */
static enum nbd_progress step(const uint8_t *in, size_t n, size_t *used)
{
    uint8_t *from = malloc(n ? n : 1), *to = malloc(NBD_HANDSHAKE_OUT + 1);
    assert_non_null(from);
    assert_non_null(to);
    memcpy(from, in, n);
    to[NBD_HANDSHAKE_OUT] = 0x5a;
    struct wire_reader reader = wire_read(from, n);
    struct wire_writer writer = wire_write(to, NBD_HANDSHAKE_OUT);
    enum nbd_progress progress = nbd_handshake_step(&handshake, &reader, &writer);
    size_t put = (size_t)(writer.at - to);
    *used = n - reader.left;
    assert_true(*used <= n && !reader.failed);
    assert_true(put <= NBD_HANDSHAKE_OUT && to[NBD_HANDSHAKE_OUT] == 0x5a && !writer.failed);
    if (progress == NBD_MORE)
        assert_true(*used == 0 && put == 0 && n < NBD_HANDSHAKE_IN);
    assert_true(out_size + put <= OUT_MAX);
    memcpy(out + out_size, to, put);
    out_size += put;
    free(from);
    free(to);
    return progress;
}

/* Feed the bytes in pieces of one size, of random sizes (SIZE_MAX), or in a single piece (0). */
static enum nbd_progress feed(struct prng *prng, const uint8_t *in, size_t size, size_t piece)
{
    size_t at = 0, there = 0, used;
    enum nbd_progress progress = NBD_MORE;
    while (there < size && (progress == NBD_MORE || progress == NBD_AGAIN)) {
        size_t n = piece == 0 ? size : piece == SIZE_MAX ? 1 + prng_below(prng, 100) : piece;
        there = n < size - there ? there + n : size;
        do {
            progress = step(in + at, there - at, &used);
            at += used;
        } while (progress == NBD_AGAIN);
    }
    unused = size - at;
    return progress;
}

static void check_row(const struct row *row, size_t piece)
{
    static uint8_t in[IN_MAX];
    struct prng prng;
    prng_init(&prng, test_seed(), piece);
    size_t n = hex_put(in, "00000001");
    n += hex_put(in + n, row->in);
    begin(row->setup);
    enum nbd_progress end = feed(&prng, in, n, piece);
    if (end != row->end)
        fail_msg("%s: goes on with %d, not %d", row->name, (int)end, (int)row->end);
    if (end == NBD_MORE && unused)
        fail_msg("%s: waits for the rest of an option", row->name);
    hex_expect(row->name, out, out_size, row->out);
}

static void each_row(void **state)
{
    size_t piece = (size_t)(uintptr_t)*state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], piece);
}

/* The beginning. */

static void greeting(void **state)
{
    (void)state;
    for (uint16_t flags = 0; flags < 4; flags++) {
        char text[60];
        policy.handshake_flags = flags;
        struct wire_writer writer = wire_write(out, NBD_GREETING_SIZE);
        nbd_handshake_begin(&handshake, &disk, &policy, &session, &writer);
        assert_true(!writer.failed && writer.at == out + NBD_GREETING_SIZE);
        snprintf(text, sizeof text, "'NBDMAGIC' 'IHAVEOPT' %04x", flags);
        hex_expect("greeting", out, NBD_GREETING_SIZE, text);
        assert_int_equal(session.style, NBD_SIMPLE);
        assert_false(session.secure || session.has_context || session.shutting_down);
    }
}

/* A flag that was not offered ends the handshake; any of those that were offered is accepted. */
static void client_flags(void **state)
{
    (void)state;
    for (uint16_t offered = 0; offered < 4; offered++)
        for (unsigned bit = 0; bit < 36; bit++) {
            uint32_t flags = bit < 32 ? UINT32_C(1) << bit : bit - 32;
            uint8_t in[32];
            char text[80];
            struct prng prng = {0};
            begin(0);
            policy.handshake_flags = offered;
            snprintf(text, sizeof text, "%08x" OPT EXPORT_NAME "00000000", flags);
            enum nbd_progress end = feed(&prng, in, hex_put(in, text), 0);
            bool good = (flags & ~(uint32_t)offered) == 0;
            assert_int_equal(end, good ? NBD_TRANSMISSION : NBD_CLOSE);
            assert_int_equal(out_size, !good ? 0 : flags & 2 ? 10 : 134);
        }
}

/* What stays for the transmission. */

static enum nbd_progress talk(unsigned setup, const char *text)
{
    static uint8_t in[IN_MAX];
    struct prng prng = {0};
    begin(setup);
    size_t n = hex_put(in, "00000001");
    n += hex_put(in + n, text);
    return feed(&prng, in, n, 0);
}

#define SET OPT SET_META_CONTEXT "0000001c 00000001 'x' 00000001" BASE_ALLOCATION
#define GO_TO(name) OPT GO "00000007 00000001 '" name "' 0000"

static void contexts_of_the_export(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool chosen;
    } cases[] = {
        {SET GO_TO("x"), true},
        {SET GO_TO("y"), false},
        {SET OPT GO "00000006 00000000 0000", false},
        {SET OPT GO "00000008 00000002 'xx' 0000", false},
        {SET OPT INFO "00000007 00000001 'y' 0000" GO_TO("x"), true},
        {SET OPT LIST_META_CONTEXT "00000008 ~8" GO_TO("x"), true},
        {SET OPT SET_META_CONTEXT "00000008 ~8" GO_TO("x"), false},
        {SET OPT SET_META_CONTEXT "00000009 00000001 'x' ~4" GO_TO("x"), false},
        {SET OPT SET_META_CONTEXT "00000003 000000" GO_TO("x"), false},
        {SET OPT SET_META_CONTEXT "00010001 ~65537" GO_TO("x"), false},
        {OPT SET_META_CONTEXT "00000008 ~8" SET GO_TO("x"), true},
        {GO_TO("x"), false},
        {SET OPT EXPORT_NAME "00000001 'x'", true},
        {SET OPT EXPORT_NAME "00000001 'y'", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(talk(STRUCTURED, cases[i].in), NBD_TRANSMISSION);
        if (session.has_context != cases[i].chosen)
            fail_msg("case %zu: context chosen: %d", i, session.has_context);
    }
}

/* A style that was negotiated stays, and a refused option changes nothing. */
static void styles(void **state)
{
    (void)state;
    assert_int_equal(talk(0, OPT STRUCTURED_REPLY "00000000"), NBD_MORE);
    assert_int_equal(session.style, NBD_STRUCTURED);
    talk(STRUCTURED, OPT EXTENDED_HEADERS "00000000" OPT STRUCTURED_REPLY "00000000");
    assert_int_equal(session.style, NBD_EXTENDED);
    talk(0, OPT STRUCTURED_REPLY "00000001 00" OPT EXTENDED_HEADERS "00000001 00");
    assert_int_equal(session.style, NBD_SIMPLE);
    talk(NO_STRUCTURED, OPT STRUCTURED_REPLY "00000000" OPT EXTENDED_HEADERS "00000000");
    assert_int_equal(session.style, NBD_SIMPLE);
}

/* TLS forgets what was negotiated in the clear; a refused STARTTLS does not. */
static void nothing_survives_tls(void **state)
{
    (void)state;
    assert_int_equal(talk(STRUCTURED | TLS_OFFERED, SET OPT STARTTLS "00000000"), NBD_TLS);
    assert_true(session.secure);
    assert_false(session.has_context);
    assert_int_equal(session.style, NBD_SIMPLE);
    assert_int_equal(talk(STRUCTURED, SET OPT STARTTLS "00000000" GO_TO("x")), NBD_TRANSMISSION);
    assert_false(session.secure);
    assert_true(session.has_context);
    assert_int_equal(session.style, NBD_STRUCTURED);
}

/* Requests follow GO: the handshake uses none of their bytes, however many have come in. */
static void requests_are_left(void **state)
{
    (void)state;
    uint8_t in[64];
    size_t used, flags = hex_put(in, "00000001");
    begin(0);
    assert_int_equal(step(in, flags, &used), NBD_AGAIN);
    size_t n = hex_put(in, OPT GO "00000006 00000000 0000 25609513 0000");
    assert_int_equal(step(in, n, &used), NBD_TRANSMISSION);
    assert_int_equal(used, n - 6);
}

/* The longest name and description that the specification allows, and a client that asks for
 * everything. */
static void longest_strings(void **state)
{
    (void)state;
    static char name[4097], description[4097];
    static const char *const options[] = {OPT LIST "00000000",
                                          OPT INFO "0000000c ~4 0003 0001 0002 0003"};
    memset(name, 'n', 4096);
    memset(description, 'd', 4096);
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        uint8_t in[64];
        size_t used, n = hex_put(in, "00000001");
        begin(0);
        disk.name = name;
        disk.description = description;
        assert_int_equal(step(in, n, &used), NBD_AGAIN);
        n = hex_put(in, options[i]);
        assert_int_equal(step(in, n, &used), NBD_AGAIN);
        assert_int_equal(used, n);
        assert_true(out_size > 2 * 4096);
    }
}

/* A name from a client may have the same length; the data of an option may have 64 KiB. */
static void longest_data(void **state)
{
    (void)state;
    static uint8_t in[IN_MAX];
    struct prng prng = {0};
    begin(STRUCTURED);
    size_t n = hex_put(in, "00000001" OPT SET_META_CONTEXT "0000101b 00001000");
    memset(in + n, 'n', 4096);
    n += 4096;
    n += hex_put(in + n, "00000001" BASE_ALLOCATION OPT GO "00001006 00001000");
    memset(in + n, 'n', 4096);
    n += 4096;
    n += hex_put(in + n, "0000");
    assert_int_equal(feed(&prng, in, n, 0), NBD_TRANSMISSION);
    assert_true(session.has_context);
    begin(0);
    n = hex_put(in, "00000001" OPT "0000000c 00010000 ~65536");
    assert_int_equal(feed(&prng, in, n, 4096), NBD_MORE);
    hex_expect("64 KiB", out, out_size, ERROR("0000000c", UNSUP));
}

/* If there is less room than the reply needs, the handshake is over, and nothing is written
 * beyond the room. */
static void too_little_room(void **state)
{
    (void)state;
    static const char *const options[] = {
        OPT EXPORT_NAME "00000000",
        OPT ABORT "00000000",
        OPT LIST "00000000",
        OPT GO "0000000c 00000000 0003 0001 0002 0003",
        OPT LIST_META_CONTEXT "00000008 ~8",
        OPT "0000000c 00000000",
        OPT "0000000c 00010001",
    };
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        uint8_t in[64];
        size_t used, needed, n = hex_put(in, options[i]);
        begin(STRUCTURED);
        handshake.has_flags = true;
        step(in, n, &used);
        needed = out_size;
        for (size_t room = 0; room < needed; room++) {
            uint8_t *to = malloc(room + 1);
            assert_non_null(to);
            to[room] = 0x5a;
            struct wire_reader reader = wire_read(in, n);
            struct wire_writer writer = wire_write(to, room);
            begin(STRUCTURED);
            handshake.has_flags = true;
            assert_int_equal(nbd_handshake_step(&handshake, &reader, &writer), NBD_CLOSE);
            assert_true(writer.failed && writer.at <= to + room && to[room] == 0x5a);
            free(to);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greeting),
        cmocka_unit_test(client_flags),
        {"each row (whole)", each_row, NULL, NULL, (void *)0},
        {"each row (byte by byte)", each_row, NULL, NULL, (void *)1},
        {"each row (pieces)", each_row, NULL, NULL, (void *)UINTPTR_MAX},
        cmocka_unit_test(contexts_of_the_export),
        cmocka_unit_test(styles),
        cmocka_unit_test(nothing_survives_tls),
        cmocka_unit_test(requests_are_left),
        cmocka_unit_test(longest_strings),
        cmocka_unit_test(longest_data),
        cmocka_unit_test(too_little_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
