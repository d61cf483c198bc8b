/* SPDX-License-Identifier: BSD-3-Clause */

/* The transmission phase, by the server's connection and a real disk.  A client (records.h) sends
 * pieces of all sizes; the replies are compared with those of model.h. */

#include <inttypes.h>
#include <string.h>

#include "demand.h"
#include "disks.h"
#include "model.h"
#include "mutate.h"
#include "nbd/wire.h"
#include "peer.h"
#include "records.h"
#include "server/host/log.h"
#include "shadow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* The handshake. */

static uint8_t *put_option(uint8_t *at, uint32_t option, const void *data, uint32_t size)
{
    at = wire_set64(at, NBD_OPTION_MAGIC);
    at = wire_set32(at, option);
    return wire_set(wire_set32(at, size), data, size);
}

/* Put the bytes of the handshake.  *tls_at is where the encrypted ones begin, if there are
 * any. */
static void put_handshake(struct records *records, bool tls, bool context, size_t *tls_at)
{
    static const uint8_t go[6], set[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation";
    uint8_t *at = wire_set32(records->wire, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    if (tls)
        at = put_option(at, NBD_OPT_STARTTLS, NULL, 0);
    *tls_at = tls ? (size_t)(at - records->wire) : PEER_NEVER;
    if (records->style == NBD_STRUCTURED)
        at = put_option(at, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    if (records->style == NBD_EXTENDED)
        at = put_option(at, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    if (context)
        at = put_option(at, NBD_OPT_SET_META_CONTEXT, set, sizeof set - 1);
    at = put_option(at, NBD_OPT_GO, go, sizeof go);
    records->used = (size_t)(at - records->wire);
}

/* Find the first byte after the server's side of the handshake.  False: it is not over. */
static bool skip_handshake(const struct peer *peer, size_t *end)
{
    struct wire_reader reader = wire_read(peer->out, peer->out_size);
    wire_get(&reader, NBD_GREETING_SIZE);
    for (;;) {
        uint64_t magic = wire_get64(&reader);
        uint32_t option = wire_get32(&reader), reply = wire_get32(&reader);
        wire_get(&reader, wire_get32(&reader));
        if (reader.failed)
            return false;
        DEMAND(magic == NBD_REPLY_MAGIC && reply < NBD_REP_ERR(0), "option %u: %#x", option,
               reply);
        if (option == NBD_OPT_GO && reply == NBD_REP_ACK)
            break;
    }
    *end = peer->out_size - reader.left;
    return true;
}

/* One run, which each input sets up; too large for the stack. */

static struct records records;
static struct model model;
static struct peer peer;

/* Bits of the second byte of the head, and of the fourth. */
#define IS_TLS(mode) ((mode)&0x20)
#define IS_RESET(mode) ((mode)&0x40)
#define IS_VERBOSE(mode) ((mode)&0x80)
#define ENDS_LATER(more) (((more)&2) != 0)

/* Make the bytes that the client sends, and set up the model. */
static void make_wire(const uint8_t *data, size_t size)
{
    model_reset(&model);
    records_begin(&records, &model, data);
    put_handshake(&records, IS_TLS(data[1]), model.has_context, &peer.tls_at);
    size_t begin = records.used;
    records_expand(&records, data + RECORDS_HEAD, size - RECORDS_HEAD);
    records.used = model_read_wire(&model, records.wire, begin, records.used);
}

static void make_server(const uint8_t *data)
{
    static struct logger the_log;
    peer.service = (struct service){
        .log = &the_log,
        .disk = disks_find(data[0]),
        .export = {.size = model.size,
                   .read_only = model.read_only,
                   .preferred = 4096,
                   .payload_max = RECORDS_PAYLOAD_MAX,
                   .name = "",
                   .description = "a RAM disk"},
        .policy = {.handshake_flags = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES,
                   .structured = true,
                   .tls_offered = IS_TLS(data[1])},
    };
    log_init(&the_log);
    log_set(&the_log, LOG_TO_NULL, IS_VERBOSE(data[1]), false);
}

static void set_up(const uint8_t *data, size_t size)
{
    peer = (struct peer){.out = peer.out, .out_room = peer.out_room};
    make_wire(data, size);
    make_server(data);
    peer.wire = records.wire;
    peer.size = records.used;
    peer.reset = IS_RESET(data[1]);
    if (IS_TLS(data[1]))
        peer.handshake = (enum peer_handshake)(data[2] % 4);
    else
        peer.sends_left = data[2];
    memcpy(peer.receives.sizes, data + 4, PEER_TURNS);
    memcpy(peer.sends.sizes, data + 12, PEER_TURNS);
}

/* Judge the replies to what the client has sent so far. */
static void judge(void)
{
    bool cut = peer.vanished || (peer.secure && peer.handshake == PEER_TLS_FAILS);
    enum ending ending = cut ? ENDING_CUT : peer.worker.stopping ? ENDING_LATE : ENDING_QUIET;
    bool whole = (model.out_at || skip_handshake(&peer, &model.out_at)) &&
                 model_take(&model, peer.out, peer.out_size);
    DEMAND(whole || ending != ENDING_QUIET, "half a reply");
    model_judge(&model, peer.open, ending);
}

/* Send the bytes before `open`.  False: the connection is over. */
static bool go_to(size_t open)
{
    if (open > peer.open)
        peer.open = open;
    bool connected = peer_run(&peer);
    judge();
    return connected;
}

/* Can a socket that has bytes return EAGAIN?  A real one never does; the input can make it. */
static bool may_seem_empty(void)
{
    return memchr(peer.receives.sizes, 0, sizeof peer.receives.sizes);
}

/* When the server stops, it finds what the client sends next.  The end of the stream comes with
 * that, or later. */
static void pause_for(enum record_kind kind, bool end_comes_later)
{
    if (kind == RECORD_SETTLE)
        DEMAND(disk_settle(peer.service.disk) == 0, "settle");
    if (kind != RECORD_STOP)
        return;
    peer.open = peer.size - end_comes_later;
    if (!may_seem_empty())
        model.stop = peer.open;
    peer_stop(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head[RECORDS_HEAD] = {0};
    if (size < sizeof head)
        return LLVMFuzzerTestOneInput(head, sizeof head);
    set_up(data, size);
    peer_connect(&peer);
    bool connected = true;
    for (unsigned i = 0; connected && i < records.pause_count; i++) {
        const struct pause *pause = &records.pauses[i];
        if (pause->at >= peer.size)
            break;
        connected = go_to(pause->at);
        if (connected)
            pause_for(pause->kind, ENDS_LATER(data[3]));
    }
    if (connected)
        DEMAND(!go_to(peer.size), "it does not end");
    model_end(&model);
    peer_leave(&peer);
    shadow_check(peer.service.disk);
    disks_clean(data[0]);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static const struct mutate_shape shape = {RECORDS_HEAD, RECORD_SIZE};
    return mutate_things(&shape, data, size, max, seed);
}
