/* SPDX-License-Identifier: BSD-3-Clause */

#include "records.h"

#include <string.h>

#include "disk/allocator.h"
#include "disks.h"
#include "model.h"
#include "nbd/protocol.h"
#include "nbd/wire.h"

#define KIND_MASK 31u
#define SETTLES_MAX 3u /* each takes some milliseconds */
#define PAYLOAD_MOST (80u << 10)

/* The unit of offset and length: the upper three bits. */
enum scale { BYTES, SECTORS, PAGES, LONG, FROM_END, HUGE_LENGTH, AT_END, FAR };

struct record {
    enum record_kind kind;
    enum scale scale;
    uint16_t flags;
    uint64_t offset, length;
    uint8_t filling, wrong;
};

/* Ranges. */

static void scale_range(const struct records *records, struct record *record)
{
    uint64_t offset = record->offset, length = record->length;
    switch (record->scale) {
    case BYTES: /* rarely many */
        record->length = length < 0xe000 ? length % 4096 : length;
        break;
    case SECTORS:
        record->offset = offset * 512;
        record->length = length % 65 * 512;
        break;
    case PAGES:
        record->offset = offset % 64 * 4096;
        record->length = length % 17 * 4096; /* several in a row make a batch */
        break;
    case LONG:
        record->offset = offset << 9;
        record->length = length << 9;
        break;
    case FROM_END:
        record->offset = records->size - offset;
        break;
    case HUGE_LENGTH:
        record->length = UINT64_MAX - length;
        break;
    case AT_END:
        record->offset = offset < records->size ? offset : records->size;
        record->length = records->size - record->offset;
        break;
    case FAR:
        record->offset = UINT64_MAX - offset;
        break;
    }
}

/* How often each comes up in a random input. */
static const enum record_kind kinds[KIND_MASK + 1] = {
    RECORD_READ,       RECORD_WRITE,       RECORD_DISC,   RECORD_FLUSH,     RECORD_TRIM,
    RECORD_CACHE,      RECORD_ZERO,        RECORD_STATUS, RECORD_STATUS_OF, RECORD_UNKNOWN,
    RECORD_WAIT,       RECORD_SETTLE,      RECORD_STOP,   RECORD_RAW,       RECORD_WRITE_PAGES,
    RECORD_READ_PAGES, RECORD_READ,        RECORD_READ,   RECORD_READ,      RECORD_WRITE,
    RECORD_WRITE,      RECORD_WRITE,       RECORD_WRITE,  RECORD_TRIM,      RECORD_TRIM,
    RECORD_ZERO,       RECORD_ZERO,        RECORD_STATUS, RECORD_WAIT,      RECORD_WAIT,
    RECORD_WAIT,       RECORD_WRITE_PAGES,
};

static struct record read_record(const struct records *records, const uint8_t *data)
{
    struct wire_reader reader = wire_read(data + 2, 4);
    struct record record = {
        .kind = kinds[data[0] & KIND_MASK],
        .scale = (enum scale)(data[0] >> 5),
        .flags = data[1],
        .offset = wire_get16(&reader),
        .length = wire_get16(&reader),
        .filling = data[6],
        .wrong = data[7],
    };
    if (record.kind == RECORD_WRITE_PAGES || record.kind == RECORD_READ_PAGES) {
        record.kind = record.kind == RECORD_READ_PAGES ? RECORD_READ : RECORD_WRITE;
        record.scale = PAGES;
    }
    scale_range(records, &record);
    return record;
}

/* The wire. */

static size_t room(const struct records *records)
{
    return RECORDS_WIRE_MAX - records->used;
}

/* Bytes that show where and when they were written. */
static void put_filling(struct records *records, const struct record *record, size_t count)
{
    uint8_t *at = records->wire + records->used;
    uint32_t noise = record->filling * UINT32_C(2654435761) + (uint32_t)records->used;
    switch (record->filling & 3) {
    case 0:
        memset(at, 0, count);
        break;
    case 1:
        memset(at, record->filling | 1, count);
        break;
    case 2:
        for (size_t i = 0; i < count; i++)
            at[i] = (uint8_t)(noise + i / 64);
        break;
    default:
        for (size_t i = 0; i < count; i++) {
            noise = noise * 1664525 + 1013904223;
            at[i] = (uint8_t)(noise >> 24);
        }
    }
    records->used += count;
}

static void put_request(struct records *records, const struct record *record, uint16_t type)
{
    bool extended = records->style == NBD_EXTENDED;
    uint8_t *at = records->wire + records->used;
    uint32_t magic = extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
    at = wire_set32(at, record->wrong == 1 ? magic ^ record->filling : magic);
    at = wire_set16(at, record->flags);
    at = wire_set16(at, type);
    at = wire_set64(at, records->used); /* the cookie */
    at = wire_set64(at, record->offset);
    at = extended ? wire_set64(at, record->length) : wire_set32(at, (uint32_t)record->length);
    records->used = (size_t)(at - records->wire);
}

/* Put the payload, or a little less or more. */
static void put_payload(struct records *records, const struct record *record)
{
    uint64_t count = record->length < PAYLOAD_MOST ? record->length : PAYLOAD_MOST;
    if (record->wrong == 2)
        count += record->filling;
    if (record->wrong == 3 && count > record->filling)
        count -= record->filling;
    put_filling(records, record, count < room(records) ? (size_t)count : room(records));
}

static void put_status_of(struct records *records, struct record *record)
{
    uint8_t payload[16], *at = wire_set64(payload, record->length);
    uint64_t sizes[] = {12, 12, 8, 16, 4, 0};
    at = wire_set32(at, record->wrong == 4 ? record->filling : NBD_CONTEXT_ALLOCATION);
    wire_set32(at, NBD_CONTEXT_ALLOCATION);
    record->length = sizes[record->wrong % (sizeof sizes / sizeof sizes[0])];
    record->flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
    put_request(records, record, NBD_CMD_BLOCK_STATUS);
    memcpy(records->wire + records->used, payload, (size_t)record->length);
    records->used += (size_t)record->length;
}

static uint16_t flags_of(const struct records *records, const struct record *record)
{
    bool write = record->kind == RECORD_WRITE && records->style == NBD_EXTENDED;
    return record->flags | (write && record->wrong != 5 ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
}

static void put_pause(struct records *records, enum record_kind kind)
{
    if (kind == RECORD_SETTLE && records->settles++ >= SETTLES_MAX)
        kind = RECORD_WAIT;
    if (records->pause_count < RECORDS_STOPS_MAX)
        records->pauses[records->pause_count++] = (struct pause){records->used, kind};
}

static void put_record(struct records *records, struct record *record)
{
    switch (record->kind) {
    case RECORD_WAIT:
    case RECORD_SETTLE:
    case RECORD_STOP:
        put_pause(records, record->kind);
        break;
    case RECORD_STATUS_OF:
        put_status_of(records, record);
        break;
    case RECORD_UNKNOWN:
        put_request(records, record, (uint16_t)(record->filling << 8 | record->wrong));
        break;
    default:
        record->flags = flags_of(records, record);
        put_request(records, record, (uint16_t)record->kind);
        if (record->kind == RECORD_WRITE || record->wrong == 6)
            put_payload(records, record);
    }
}

/* Put the records as bytes.  Returns how many. */
static size_t put_raw(struct records *records, const struct record *record, const uint8_t *data,
                      size_t size)
{
    size_t n = (size_t)(record->length % 32) * RECORD_SIZE;
    n = n < size ? n : size;
    n = n < room(records) ? n : room(records);
    memcpy(records->wire + records->used, data, n);
    records->used += n;
    return n;
}

void records_begin(struct records *records, struct model *model, const uint8_t *head)
{
    static const enum nbd_style styles[] = {NBD_SIMPLE, NBD_STRUCTURED, NBD_EXTENDED,
                                            NBD_EXTENDED};
    const struct disk_options *options = disks_options(head[0]);
    records->used = 0;
    records->pause_count = records->settles = 0;
    records->style = model->style = styles[head[1] & 3];
    records->size = model->size = options->size;
    model->read_only = (head[1] & 0x1c) == 0x1c;
    model->has_context = model->style != NBD_SIMPLE && (head[3] & 0xc) != 0xc;
    model->limited = options->limit != 0;
    model->may_stay = options->limit && options->allocator == &allocator_zstd;
    model->payload_max = RECORDS_PAYLOAD_MAX;
}

void records_expand(struct records *records, const uint8_t *data, size_t size)
{
    while (size >= RECORD_SIZE && room(records) >= 64) {
        struct record record = read_record(records, data);
        data += RECORD_SIZE;
        size -= RECORD_SIZE;
        if (record.kind == RECORD_RAW) {
            size_t n = put_raw(records, &record, data, size);
            data += n;
            size -= n;
        } else {
            put_record(records, &record);
        }
    }
}
