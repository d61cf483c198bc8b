/* SPDX-License-Identifier: BSD-3-Clause */

/* The handshake, by the server's connection: options, correct or wrong, and in pieces.  The
 * replies are compared with those of haggle.h.
 *
 *     OFFSET SIZE
 *      0      1   MODE_...: what the server offers
 *      1      1   how the TLS handshake goes; flags of the client
 *      2      1   bytes sent in the clear after a STARTTLS
 *      3      1   when the server stops; 0: it does not
 *      4      8   how much each receive moves (struct peer_turns)
 *     12      8   how much each send moves
 *     20          things to send, each: kind (1 byte), size (1 byte), data
 *
 * Kind: in the lower four bits the number of an option, or SEND_...; above them SHAPE_...
 */

#include <string.h>

#include "demand.h"
#include "disk/disk.h"
#include "haggle.h"
#include "mutate.h"
#include "nbd/protocol.h"
#include "peer.h"
#include "server/host/log.h"

#define HEAD 20u
#define WIRE_MAX ((size_t)80 << 10) /* an option that is too long to be parsed fits */

enum { MODE_TLS = 1, MODE_TLS_REQUIRED = 2, MODE_STRUCTURED = 4, MODE_READ_ONLY = 8 };
enum { MODE_LONG_NAME = 16, MODE_NO_FLAGS = 32, MODE_VERBOSE = 64, MODE_RESET = 128 };
enum { SEND_WRONG_MAGIC = 13, SEND_BIG_NUMBER = 14, SEND_RAW = 15 };
enum { SHAPE_COOKED = 16, SHAPE_LIE = 32, SHAPE_PADDED = 64, SHAPE_CONTEXT = 128 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* One run, which each input sets up; too large for the stack. */
static struct peer peer;
static uint8_t wire[WIRE_MAX + 64];
static size_t used;

/* What the client sends. */

static void put(const void *bytes, size_t n)
{
    n = n < WIRE_MAX - used ? n : WIRE_MAX - used;
    if (n)
        memcpy(wire + used, bytes, n);
    used += n;
}

static void put32(uint32_t n)
{
    uint8_t bytes[4];
    wire_set32(bytes, n);
    put(bytes, sizeof bytes);
}

/* Put a string, made of the next bytes, with its length before it. */
static void put_string(struct wire_reader *data)
{
    size_t n = data->left ? *wire_get(data, 1) : 0;
    n = n < data->left ? n : data->left;
    put32((uint32_t)n);
    put(wire_get(data, n), n);
}

/* Put well-formed data of an option: a name, and what is asked for. */
static void put_cooked(uint32_t option, struct wire_reader data, bool with_context)
{
    uint8_t count[2];
    size_t at;
    put_string(&data);
    if (option == NBD_OPT_INFO || option == NBD_OPT_GO) {
        wire_set16(count, (uint16_t)(data.left / 2));
        put(count, sizeof count);
        put(data.at, data.left / 2 * 2);
        return;
    }
    at = used;
    put32(with_context);
    uint32_t queries = with_context;
    if (with_context)
        put("\0\0\0\17base:allocation", 19);
    for (; data.left; queries++)
        put_string(&data);
    if (at + 4 <= WIRE_MAX)
        wire_set32(wire + at, queries);
}

static void put_option(uint8_t what, uint32_t option, struct wire_reader data)
{
    static const uint8_t padding[256 << 4];
    size_t header = used;
    uint8_t lie = data.left && what & SHAPE_LIE ? *data.at : 0;
    uint8_t magic[8];
    wire_set64(magic,
               option == SEND_WRONG_MAGIC ? NBD_OPTION_MAGIC ^ data.left : NBD_OPTION_MAGIC);
    put(magic, sizeof magic);
    put32(option == SEND_BIG_NUMBER ? UINT32_MAX - lie : option);
    put32(0);
    size_t start = used, pad = what & SHAPE_PADDED ? data.left : 0;
    if (what & SHAPE_COOKED)
        put_cooked(option, data, what & SHAPE_CONTEXT);
    else
        put(data.at, data.left);
    for (size_t i = 0; i < pad; i++) /* up to 1 MiB, if there is room */
        put(padding, i < 64 ? 1024 : 256);
    uint32_t length = (uint32_t)(used - start);
    if (what & SHAPE_LIE)
        length = lie > 250 ? length << (lie - 246) : length + lie - 125;
    if (header + NBD_OPTION_HEADER <= WIRE_MAX)
        wire_set32(wire + header + 12, length);
}

static void put_all(const uint8_t *head, struct wire_reader in)
{
    static const uint32_t flags[] = {3, 1, 0, 2, 3, 3, 0x10003, 5};
    used = 0;
    put32(flags[head[1] >> 5]);
    while (in.left >= 2 && used < WIRE_MAX) {
        uint8_t what = *wire_get(&in, 1);
        size_t n = *wire_get(&in, 1);
        n = n < in.left ? n : in.left;
        struct wire_reader data = wire_read(wire_get(&in, n), n);
        if ((what & 15) == SEND_RAW)
            put(data.at, n);
        else
            put_option(what, what & 15, data);
    }
}

/* Put bytes in the clear, which the server must ignore: the next bytes a second time. */
static size_t insert_plain(size_t at, size_t n)
{
    n = n < used - at ? n : used - at;
    n = n < WIRE_MAX - used ? n : WIRE_MAX - used;
    memmove(wire + at + n, wire + at, used - at);
    used += n;
    return at + n;
}

/* What has to follow. */

static void make_server(uint8_t mode)
{
    static char name[NBD_STRING_MAX + 1];
    static struct disk *disk;
    if (!disk) {
        struct disk_options options = {.size = 1 << 20};
        memset(name, 'n', sizeof name - 1);
        DEMAND(disk_create(&options, &disk) == 0 && disk_start(disk) == 0, "no disk");
    }
    static struct logger the_log;
    peer.service = (struct service){
        .log = &the_log,
        .disk = disk,
        .export = {.size = disk_size(disk),
                   .read_only = mode & MODE_READ_ONLY,
                   .preferred = disk_page_size(disk),
                   .payload_max = 1 << 20,
                   .name = mode & MODE_LONG_NAME ? name : "disk",
                   .description = "a RAM disk"},
        .policy = {.handshake_flags = mode & MODE_NO_FLAGS ? 0 : 3,
                   .structured = mode & MODE_STRUCTURED,
                   .tls_offered = mode & (MODE_TLS | MODE_TLS_REQUIRED),
                   .tls_required = mode & MODE_TLS_REQUIRED},
    };
    log_init(&the_log);
    log_set(&the_log, LOG_TO_NULL, mode & MODE_VERBOSE, false);
}

static struct haggle begin(bool dry)
{
    return (struct haggle){.export = &peer.service.export,
                           .policy = &peer.service.policy,
                           .dry = dry,
                           .in = wire_read(wire, used),
                           .out = wire_read(peer.out, peer.out_size)};
}

static void skip_greeting(struct haggle *haggle)
{
    uint64_t magic = wire_get64(&haggle->out), options = wire_get64(&haggle->out);
    uint16_t flags = wire_get16(&haggle->out);
    DEMAND(!haggle->out.failed && magic == NBD_MAGIC && options == NBD_OPTION_MAGIC &&
               flags == peer.service.policy.handshake_flags,
           "a wrong greeting");
}

static void judge(void)
{
    struct haggle haggle = begin(false);
    const struct nbd_session *session = &peer.connection->session;
    skip_greeting(&haggle);
    enum haggle_end end = haggle_run(&haggle);
    DEMAND((end == HAGGLE_TLS) == peer.secure, "TLS or not");
    if (end == HAGGLE_TLS && peer.handshake != PEER_TLS_FAILS) {
        haggle.in = wire_read(wire + peer.tls_at, used - peer.tls_at);
        end = haggle_run(&haggle);
        DEMAND(end != HAGGLE_TLS, "TLS twice");
    }
    if (end == HAGGLE_GO)
        DEMAND(session->style == haggle.session.style && session->secure == peer.secure &&
                   session->has_context == haggle.session.has_context,
               "another session");
    else
        DEMAND(haggle.out.left == 0, "%zu bytes of answers too many", haggle.out.left);
}

/* Stop the server after it has received some bytes.  This is not judged: an oracle would have to
 * know which of them the server had read. */
static bool stop_early(uint8_t when)
{
    if (when == 0)
        return false;
    peer.open = used * when / 256;
    if (peer_run(&peer)) {
        peer.open = used;
        if (peer.connection->state != CONNECTION_TLS && !peer.secure)
            peer.tls_at = PEER_NEVER; /* it will be refused */
        peer_stop(&peer);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head[HEAD] = {0};
    if (size < sizeof head)
        return LLVMFuzzerTestOneInput(head, sizeof head);
    peer = (struct peer){.out = peer.out, .out_room = peer.out_room, .tls_at = PEER_NEVER};
    make_server(data[0]);
    put_all(data, wire_read(data + HEAD, size - HEAD));
    struct haggle dry = begin(true);
    if (haggle_run(&dry) == HAGGLE_TLS)
        peer.tls_at = insert_plain(used - dry.in.left, data[2]);
    peer.wire = wire;
    peer.size = used;
    peer.handshake = (enum peer_handshake)(data[1] % 4);
    peer.reset = data[0] & MODE_RESET;
    memcpy(peer.receives.sizes, data + 4, PEER_TURNS);
    memcpy(peer.sends.sizes, data + 12, PEER_TURNS);
    peer_connect(&peer);
    bool stopped = stop_early(data[3]);
    peer.open = peer.size;
    DEMAND(!peer_run(&peer), "it does not end");
    if (!stopped)
        judge();
    peer_leave(&peer);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static const struct mutate_shape shape = {HEAD, 0};
    return mutate_things(&shape, data, size, max, seed);
}
