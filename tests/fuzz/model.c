/* SPDX-License-Identifier: BSD-3-Clause */

#include "model.h"

#include <inttypes.h>
#include <string.h>

#include "demand.h"
#include "nbd/protocol.h"
#include "nbd/wire.h"
#include "shadow.h"

#define NO_PIECE UINT32_MAX
#define STATUS_MANY 500u /* a reply with this many descriptors need not cover the whole range */

void model_reset(struct model *model)
{
    model->count = model->judged = model->piece_count = 0;
    model->partial = false;
    model->open = model->stop = model->out_at = 0;
}

/* What the client asks for. */

static bool is_write_like(uint16_t type)
{
    return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

static uint16_t flags_allowed(const struct model *model, uint16_t type)
{
    bool extended = model->style == NBD_EXTENDED;
    switch (type) {
    case NBD_CMD_READ:
        return NBD_CMD_FLAG_FUA | (model->style == NBD_SIMPLE ? 0 : NBD_CMD_FLAG_DF);
    case NBD_CMD_WRITE:
        return NBD_CMD_FLAG_FUA | (extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE |
               (extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

static uint32_t error_of_range(const struct model *model, const struct call *call)
{
    bool inside = call->length <= model->size && call->offset <= model->size - call->length;
    if (!inside)
        return call->type == NBD_CMD_WRITE || call->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
                                                                                 : NBD_EINVAL;
    if (call->type == NBD_CMD_READ && call->length > model->payload_max)
        return NBD_EOVERFLOW;
    return call->type == NBD_CMD_BLOCK_STATUS && call->length == 0 ? NBD_EINVAL : 0;
}

/* A block status whose payload has the length and the contexts. */
static uint32_t error_of_contexts(const struct model *model, struct call *call)
{
    struct wire_reader reader = wire_read(call->payload, (size_t)call->payload_size);
    if (call->payload_size > 4096 || call->payload_size < 8 || call->payload_size % 4 ||
        call->payload_size > 12)
        return NBD_EINVAL;
    call->length = wire_get64(&reader);
    call->empty_status = call->payload_size == 8;
    if (!call->empty_status && wire_get32(&reader) != NBD_CONTEXT_ALLOCATION)
        return NBD_EINVAL;
    uint32_t error = error_of_range(model, call);
    bool inside = call->length <= model->size && call->offset <= model->size - call->length;
    return call->empty_status && inside ? 0 : error;
}

static uint32_t error_of(const struct model *model, struct call *call)
{
    if (call->type >= NBD_COMMANDS || call->flags & ~flags_allowed(model, call->type))
        return NBD_EINVAL;
    if (call->type == NBD_CMD_FLUSH)
        return call->offset || call->length ? NBD_EINVAL : 0;
    if (call->type == NBD_CMD_BLOCK_STATUS && !model->has_context)
        return NBD_EINVAL;
    if (is_write_like(call->type) && model->read_only)
        return NBD_EPERM;
    if (call->type == NBD_CMD_BLOCK_STATUS && call->payload_size)
        return error_of_contexts(model, call);
    return error_of_range(model, call);
}

/* The wire. */

static bool is_cookie_used(const struct model *model, uint64_t cookie)
{
    for (unsigned i = 0; i < model->count; i++)
        if (model->calls[i].cookie == cookie)
            return true;
    return false;
}

enum found { FOUND_CALL, FOUND_PART, FOUND_NOTHING };

/* Read a header, and make its cookie unique and not 0. */
static bool read_header(struct model *model, uint8_t *at, struct call *call)
{
    bool extended = model->style == NBD_EXTENDED;
    struct wire_reader reader = wire_read(at, extended ? 32 : 28);
    uint32_t magic = wire_get32(&reader);
    call->flags = wire_get16(&reader);
    call->type = wire_get16(&reader);
    call->cookie = wire_get64(&reader);
    call->offset = wire_get64(&reader);
    call->length = extended ? wire_get64(&reader) : wire_get32(&reader);
    if (magic != (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
        return false;
    while (is_cookie_used(model, call->cookie))
        call->cookie = call->cookie * 5 + 1;
    wire_set64(at + 8, call->cookie);
    if (call->type == NBD_CMD_WRITE || (extended && call->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
        call->payload_size = call->type == NBD_CMD_DISC ? 0 : call->length;
    return call->payload_size <= model->payload_max;
}

static enum found read_call(struct model *model, uint8_t *wire, size_t *at, size_t size)
{
    struct call *call = &model->calls[model->count];
    size_t header = model->style == NBD_EXTENDED ? 32 : 28;
    *call = (struct call){.first = NO_PIECE, .last = NO_PIECE};
    if (size - *at < header || !read_header(model, wire + *at, call))
        return FOUND_NOTHING;
    call->payload = wire + *at + header;
    bool whole = call->payload_size <= size - *at - header;
    call->begin = *at;
    if (whole || call->type == NBD_CMD_WRITE)
        call->error = error_of(model, call);
    call->end = whole ? *at + header + (size_t)call->payload_size : SIZE_MAX;
    *at = call->end;
    return whole ? FOUND_CALL : FOUND_PART;
}

size_t model_read_wire(struct model *model, uint8_t *wire, size_t at, size_t size)
{
    uint64_t to_read = 0;
    while (model->count < MODEL_CALLS_MAX) {
        struct call *call = &model->calls[model->count];
        size_t before = at;
        enum found found = read_call(model, wire, &at, size);
        if (found == FOUND_NOTHING)
            return size;
        if (found == FOUND_CALL && call->type == NBD_CMD_READ && call->error == 0 &&
            (to_read += call->length) > MODEL_READ_MAX)
            return before;
        model->count++;
        model->partial = found == FOUND_PART;
        if (found == FOUND_PART || call->type == NBD_CMD_DISC)
            return size;
    }
    return at;
}

/* Replies. */

static struct call *find_call(struct model *model, uint64_t cookie)
{
    for (unsigned i = model->judged; i < model->count; i++)
        if (model->calls[i].cookie == cookie)
            return &model->calls[i];
    DEMAND(false, "an answer to nothing, %#" PRIx64, cookie);
    return NULL;
}

static void add_piece(struct model *model, struct call *call, const struct piece *piece)
{
    unsigned n = model->piece_count++;
    DEMAND(n < MODEL_PIECES_MAX, "too many pieces");
    DEMAND(call->type == NBD_CMD_READ, "data, and nothing was to be read");
    DEMAND(piece->count > 0, "an empty chunk");
    DEMAND(piece->offset == call->offset + call->covered, "a chunk that is not the next");
    DEMAND(piece->count <= call->length - call->covered, "more than was asked for");
    DEMAND(!(call->flags & NBD_CMD_FLAG_DF) || piece->count == call->length, "DF, and in parts");
    model->pieces[n] = *piece;
    model->pieces[n].next = NO_PIECE;
    if (call->last == NO_PIECE)
        call->first = n;
    else
        model->pieces[call->last].next = n;
    call->last = n;
    call->covered += piece->count;
}

static void end_call(struct call *call, uint32_t error)
{
    DEMAND(!call->answered, "answered twice");
    DEMAND(call->type != NBD_CMD_DISC, "an answer to a disconnect");
    call->answered = true;
    call->got = error;
}

static bool take_simple(struct model *model, struct wire_reader *reader)
{
    uint32_t error = wire_get32(reader);
    uint64_t cookie = wire_get64(reader);
    if (reader->failed)
        return false;
    struct call *call = find_call(model, cookie);
    DEMAND(model->style == NBD_SIMPLE || (call->type != NBD_CMD_READ && call->type != 7),
           "a simple reply to command %u", call->type);
    if (call->type == NBD_CMD_READ && error == 0 && call->length) {
        const uint8_t *bytes = wire_get(reader, (size_t)call->length);
        if (!bytes)
            return false;
        add_piece(model, call, &(struct piece){bytes, call->offset, call->length, 0});
    }
    end_call(call, error);
    return true;
}

static void take_status(const struct model *model, struct call *call, struct wire_reader *body)
{
    bool extended = model->style == NBD_EXTENDED;
    size_t each = extended ? 16 : 8;
    DEMAND(call->type == NBD_CMD_BLOCK_STATUS && !call->status, "a status that nobody asked for");
    DEMAND(wire_get32(body) == NBD_CONTEXT_ALLOCATION, "another context");
    uint32_t count = extended ? wire_get32(body) : (uint32_t)(body->left / each);
    DEMAND(!body->failed && count && body->left == count * each, "%zu bytes, %u descriptors",
           body->left, count);
    call->status = wire_get(body, body->left);
    call->status_count = count;
}

static void take_content(struct model *model, struct call *call, uint16_t type,
                         struct wire_reader *body)
{
    struct piece piece = {.bytes = NULL};
    if (type == NBD_REPLY_TYPE_BLOCK_STATUS || type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT) {
        DEMAND((type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT) == (model->style == NBD_EXTENDED),
               "type %u", type);
        take_status(model, call, body);
        return;
    }
    DEMAND(type == NBD_REPLY_TYPE_OFFSET_DATA || type == NBD_REPLY_TYPE_OFFSET_HOLE, "type %u",
           type);
    piece.offset = wire_get64(body);
    piece.count = type == NBD_REPLY_TYPE_OFFSET_HOLE ? wire_get32(body) : body->left;
    if (type == NBD_REPLY_TYPE_OFFSET_DATA)
        piece.bytes = wire_get(body, body->left);
    DEMAND(!body->failed && body->left == 0, "a chunk of a wrong size");
    add_piece(model, call, &piece);
}

static bool take_chunk(struct model *model, struct wire_reader *reader)
{
    bool extended = model->style == NBD_EXTENDED;
    uint16_t flags = wire_get16(reader), type = wire_get16(reader);
    uint64_t cookie = wire_get64(reader), offset = extended ? wire_get64(reader) : 0;
    uint64_t length = extended ? wire_get64(reader) : wire_get32(reader);
    if (reader->failed)
        return false;
    struct call *call = find_call(model, cookie);
    DEMAND(length <= 16 + MODEL_READ_MAX, "a chunk of %" PRIu64 " bytes", length);
    DEMAND(!extended || offset == call->offset, "the offset of another request");
    DEMAND(flags <= NBD_REPLY_FLAG_DONE && !call->answered, "flags %u", flags);
    struct wire_reader body = wire_read(reader->at, (size_t)length);
    if (!wire_get(reader, (size_t)length))
        return false;
    uint32_t error = 0;
    if (type == NBD_REPLY_TYPE_ERROR) {
        error = wire_get32(&body);
        DEMAND(error && wire_get16(&body) == body.left && !body.failed, "an error chunk");
    } else if (type != NBD_REPLY_TYPE_NONE) {
        take_content(model, call, type, &body);
    } else {
        DEMAND(flags && length == 0, "NONE that is not the end");
    }
    if (flags & NBD_REPLY_FLAG_DONE)
        end_call(call, error);
    return true;
}

static bool take_reply(struct model *model, struct wire_reader *reader)
{
    uint32_t magic = wire_get32(reader);
    if (reader->failed)
        return false;
    if (magic == NBD_SIMPLE_REPLY_MAGIC && model->style != NBD_EXTENDED)
        return take_simple(model, reader);
    DEMAND((magic == NBD_STRUCTURED_REPLY_MAGIC && model->style == NBD_STRUCTURED) ||
               (magic == NBD_EXTENDED_REPLY_MAGIC && model->style == NBD_EXTENDED),
           "magic %#x", magic);
    return take_chunk(model, reader);
}

bool model_take(struct model *model, const uint8_t *out, size_t size)
{
    while (model->out_at < size) {
        struct wire_reader reader = wire_read(out + model->out_at, size - model->out_at);
        if (!take_reply(model, &reader))
            return false;
        model->out_at = size - reader.left;
    }
    return true;
}

/* Judging. */

/* Can a later request of the batch have put `byte` at this offset? */
static bool is_put_by_later(const struct model *model, const struct call *call, uint64_t offset,
                            uint8_t byte)
{
    for (const struct call *later = call + 1; later < model->calls + model->count; later++) {
        uint64_t at = offset - later->offset;
        if (!is_write_like(later->type) || later->error || later->begin >= model->open)
            continue;
        if (offset < later->offset || at >= later->length)
            continue;
        bool there = later->type != NBD_CMD_WRITE || later->end != SIZE_MAX;
        if (!there || byte == (later->type == NBD_CMD_WRITE ? later->payload[at] : 0))
            return true;
    }
    return false;
}

static void judge_read(const struct model *model, const struct call *call)
{
    DEMAND(call->covered == call->length, "a success with %" PRIu64 " of %" PRIu64 " bytes",
           call->covered, call->length);
    for (unsigned n = call->first; n != NO_PIECE; n = model->pieces[n].next) {
        const struct piece *piece = &model->pieces[n];
        for (size_t at = 0; at < piece->count; at++) {
            const uint8_t *bytes = piece->bytes ? piece->bytes + at : NULL;
            at += shadow_differs(piece->offset + at, bytes, (size_t)piece->count - at);
            DEMAND(at >= piece->count || is_put_by_later(model, call, piece->offset + at,
                                                         piece->bytes ? piece->bytes[at] : 0),
                   "byte %" PRIu64 " is wrong", piece->offset + at);
        }
    }
}

static void judge_status(const struct model *model, const struct call *call)
{
    bool extended = model->style == NBD_EXTENDED;
    struct wire_reader reader =
        wire_read(call->status, call->status_count * (extended ? 16u : 8u));
    uint64_t at = call->offset, end = call->offset + call->length, before = UINT64_MAX;
    DEMAND(call->status || call->empty_status, "a success without descriptors");
    for (uint32_t i = 0; i < call->status_count; i++) {
        uint64_t length = extended ? wire_get64(&reader) : wire_get32(&reader);
        uint64_t state = extended ? wire_get64(&reader) : wire_get32(&reader);
        DEMAND(length && length <= end - at, "descriptor %u of %" PRIu64 " bytes", i, length);
        DEMAND(state == 0 || state == 3, "state %" PRIu64, state);
        DEMAND(state != before, "neighbours are of one kind");
        DEMAND(state == 0 || shadow_differs(at, NULL, (size_t)length) == length,
               "a hole where there are data");
        at += length;
        before = state;
    }
    if (call->flags & NBD_CMD_FLAG_REQ_ONE)
        DEMAND(call->status_count <= 1, "more than one");
    else if (call->status_count < STATUS_MANY && !call->empty_status)
        DEMAND(at == end, "it ends at %" PRIu64 ", not %" PRIu64, at, end);
}

/* Apply a call to the shadow. */
static void apply(const struct model *model, const struct call *call)
{
    size_t count = (size_t)call->length;
    bool sure =
        call->answered && call->got == 0 && !(call->type == NBD_CMD_TRIM && model->may_stay);
    if (!is_write_like(call->type) || call->error ||
        (call->answered && call->got && call->got != NBD_ENOSPC))
        return;
    if (call->type == NBD_CMD_WRITE && sure)
        shadow_write(call->offset, call->payload, count);
    else if (call->type == NBD_CMD_WRITE)
        shadow_doubt(call->offset, count);
    else if (sure)
        shadow_zero(call->offset, count);
    else
        shadow_doubt_zero(call->offset, count);
}

static void judge_error(const struct model *model, const struct call *call, enum ending ending)
{
    if (call->got == call->error)
        return;
    if (ending != ENDING_QUIET && call->got == NBD_ESHUTDOWN)
        return;
    DEMAND(call->got == NBD_ENOSPC && call->error == 0 && model->limited &&
               (call->type == NBD_CMD_WRITE || call->type == NBD_CMD_WRITE_ZEROES),
           "command %u, flags %#x, %" PRIu64 " bytes at %" PRIu64 ": answered %u, wanted %u",
           call->type, call->flags, call->length, call->offset, call->got, call->error);
}

static void judge_call(const struct model *model, const struct call *call, enum ending ending)
{
    bool silent = call->type == NBD_CMD_DISC;
    bool may_lack = ending == ENDING_CUT || (ending == ENDING_LATE && call->end > model->stop);
    DEMAND(call->answered || silent || may_lack,
           "no answer to command %u, %" PRIu64 " bytes at %" PRIu64, call->type, call->length,
           call->offset);
    if (call->answered)
        judge_error(model, call, ending);
    if (call->answered && call->got == 0 && call->type == NBD_CMD_READ)
        judge_read(model, call);
    if (call->answered && call->got == 0 && call->type == NBD_CMD_BLOCK_STATUS)
        judge_status(model, call);
    apply(model, call);
}

void model_judge(struct model *model, size_t open, enum ending ending)
{
    model->open = open;
    for (; model->judged < model->count; model->judged++) {
        const struct call *call = &model->calls[model->judged];
        if (call->end > open)
            return;
        judge_call(model, call, ending);
    }
}

void model_end(const struct model *model)
{
    const struct call *last = model->calls + model->count - 1;
    if (!model->partial)
        return;
    DEMAND(!last->answered && !last->covered, "an answer to half a request");
    if (last->type == NBD_CMD_WRITE && last->error == 0)
        shadow_doubt(last->offset, (size_t)last->length);
}
