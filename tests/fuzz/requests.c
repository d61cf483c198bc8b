/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests one by one, without a connection: src/nbd parses and checks them, the disk carries
 * them out, src/nbd makes the replies, and these are judged.  The inputs are those of
 * transmission.c.  As no two requests are in flight at the same time, every byte is known. */

#include <errno.h>

#include "demand.h"
#include "disks.h"
#include "model.h"
#include "mutate.h"
#include "nbd/command.h"
#include "nbd/reply.h"
#include "records.h"
#include "shadow.h"

#define OUT_MAX ((size_t)1 << 20)
#define EXTENTS_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* One run, which each input sets up; too large for the stack. */
static struct records records;
static struct model model;
static struct nbd_export export;
static struct nbd_session session;
static struct disk *disk;

static uint8_t out[OUT_MAX];
static struct wire_writer writer;

static int put_data(uint64_t offset, uint64_t count)
{
    uint8_t *at = wire_claim(&writer, (size_t)count);
    DEMAND(at, "more replies than fit");
    return disk_read(disk, offset, (size_t)count, at);
}

/* Reads, in chunks: one for each extent of the disk. */

struct reading {
    const struct nbd_request *request;
    int error;
};

static int put_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct reading *reading = opaque;
    const struct nbd_request *request = reading->request;
    bool done = offset + count == request->offset + request->length;
    struct nbd_chunk chunk = {.offset = offset, .count = (uint32_t)count, .done = done};
    if (hole) {
        nbd_put_hole(&writer, session.style, request, &chunk);
        return 0;
    }
    nbd_put_data(&writer, session.style, request, &chunk);
    reading->error = put_data(offset, count);
    return reading->error;
}

static void answer_read(const struct nbd_request *request)
{
    struct nbd_chunk whole = {request->offset, (uint32_t)request->length, true};
    struct reading reading = {.request = request};
    int r = 0;
    if (request->length == 0) {
        nbd_put_answer(&writer, session.style, request, 0);
    } else if (session.style != NBD_SIMPLE && !(request->flags & NBD_CMD_FLAG_DF)) {
        r = disk_extents(disk, request->offset, request->length, put_extent, &reading);
    } else {
        if (session.style == NBD_SIMPLE)
            nbd_put_read(&writer, request);
        else
            nbd_put_data(&writer, session.style, request, &whole);
        r = put_data(request->offset, request->length);
    }
    DEMAND(r == 0, "read: %d", r);
}

/* Block status. */

struct extent_list {
    struct {
        uint64_t count;
        bool hole;
    } extents[EXTENTS_MAX];
    uint32_t count, max;
};

static int list_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct extent_list *list = opaque;
    (void)offset;
    list->extents[list->count].count = count;
    list->extents[list->count].hole = hole;
    return ++list->count == list->max;
}

static int answer_status(const struct nbd_request *request)
{
    struct extent_list list = {.max = request->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX};
    int r = disk_extents(disk, request->offset, request->length, list_extent, &list);
    if (r < 0 || list.count == 0)
        return r < 0 ? r : -EINVAL;
    nbd_put_status(&writer, session.style, request, list.count);
    for (uint32_t i = 0; i < list.count; i++)
        nbd_put_descriptor(&writer, session.style, list.extents[i].count, list.extents[i].hole);
    return 1;
}

static int answer_status_of(struct nbd_request *request, const uint8_t *payload)
{
    bool wanted;
    int r = nbd_request_parse_status(&session, payload, request, &wanted);
    request->payload = 0;
    if (r == 0)
        r = nbd_request_check(&export, &session, request);
    return r < 0 || !wanted ? r : answer_status(request);
}

/* Requests. */

/* Returns 1 if the reply has been made, else the error for the reply. */
static int carry_out(struct nbd_request *request, const uint8_t *payload)
{
    unsigned flags = request->flags & NBD_CMD_FLAG_NO_HOLE ? DISK_NO_HOLE : 0;
    switch (request->type) {
    case NBD_CMD_READ:
        answer_read(request);
        return 1;
    case NBD_CMD_WRITE:
        return disk_write(disk, request->offset, (size_t)request->length, payload);
    case NBD_CMD_WRITE_ZEROES:
        return disk_zero(disk, request->offset, request->length, flags);
    case NBD_CMD_TRIM:
        return disk_trim(disk, request->offset, request->length);
    case NBD_CMD_BLOCK_STATUS:
        return request->payload ? answer_status_of(request, payload) : answer_status(request);
    default:
        return 0;
    }
}

/* Returns how many bytes of the wire the request took; 0: the end. */
static size_t take_request(const uint8_t *at, size_t left)
{
    struct nbd_request request;
    size_t header = nbd_request_size(session.style);
    if (left < header || nbd_request_parse(session.style, at, &request) < 0 ||
        nbd_request_is_absurd(&export, &request) || left - header < request.payload)
        return 0;
    size_t size = header + (size_t)request.payload;
    int r = nbd_request_check(&export, &session, &request);
    if (r == 0 && request.type == NBD_CMD_DISC)
        return 0;
    if (r == 0)
        r = carry_out(&request, at + header);
    if (r <= 0)
        nbd_put_answer(&writer, session.style, &request, r);
    return size;
}

static void set_up(const uint8_t *data, size_t size)
{
    model_reset(&model);
    records_begin(&records, &model, data);
    records_expand(&records, data + RECORDS_HEAD, size - RECORDS_HEAD);
    records.used = model_read_wire(&model, records.wire, 0, records.used);
    disk = disks_find(data[0]);
    export = (struct nbd_export){
        .size = model.size, .read_only = model.read_only, .payload_max = RECORDS_PAYLOAD_MAX};
    session = (struct nbd_session){.style = model.style, .has_context = model.has_context};
    writer = wire_write(out, sizeof out);
}

static void settle_at(size_t at, unsigned *next)
{
    for (; *next < records.pause_count && records.pauses[*next].at <= at; ++*next)
        if (records.pauses[*next].kind == RECORD_SETTLE)
            DEMAND(disk_settle(disk) == 0, "settle");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head[RECORDS_HEAD] = {0};
    if (size < sizeof head)
        return LLVMFuzzerTestOneInput(head, sizeof head);
    set_up(data, size);
    unsigned pause = 0;
    for (size_t at = 0, n = 1; n; at += n) {
        settle_at(at, &pause);
        n = take_request(records.wire + at, records.used - at);
        DEMAND(!writer.failed, "more replies than fit");
        DEMAND(model_take(&model, out, (size_t)(writer.at - out)), "half a reply");
        model_judge(&model, at + n, ENDING_QUIET);
    }
    model_end(&model);
    shadow_check(disk);
    disks_clean(data[0]);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static const struct mutate_shape shape = {RECORDS_HEAD, RECORD_SIZE};
    return mutate_things(&shape, data, size, max, seed);
}
