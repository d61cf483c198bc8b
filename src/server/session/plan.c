/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/plan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/disk.h"
#include "nbd/reply.h"
#include "os/bytes.h"

static const uint8_t zeroes[64 << 10];

/* Once the plan has this many bytes, no data are added to it.  In a short turn they are few,
 * because a send cannot be interrupted, and hundreds of connections may have short turns. */
static size_t most_bytes(const struct plan *plan)
{
    return plan->connection->worker->turn.is_short ? TURN_SHORT_SEND : SCRATCH_LENT;
}

static bool plan_is_full(const struct plan *plan)
{
    return plan->count + 2 > SCRATCH_VECTORS || plan->bytes >= most_bytes(plan) ||
           wire_room(&plan->scratch->replies) < NBD_REPLY_SIZE_MAX ||
           turn_is_over(&plan->connection->worker->turn);
}

static void plan_bytes(struct plan *plan, const void *bytes, size_t size)
{
    struct iovec *last = plan->count ? &plan->scratch->vectors[plan->count - 1] : NULL;
    if (last && (const char *)last->iov_base + last->iov_len == (const char *)bytes)
        last->iov_len += size;
    else
        plan->scratch->vectors[plan->count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    plan->bytes += size;
}

/* Add a header to the plan.  The header reaches from `start` to the end of the bytes in
 * scratch->out. */
static void plan_header(struct plan *plan, const uint8_t *start)
{
    plan_bytes(plan, start, (size_t)(plan->scratch->replies.at - start));
    plan->tail = 0;
}

static void plan_data(struct plan *plan, struct read_job *job, const void *bytes, size_t size)
{
    plan_bytes(plan, bytes, size);
    plan->tail += size;
    job->offset += size;
    job->left -= size;
}

static void plan_zeroes(struct plan *plan, struct read_job *job, size_t size)
{
    while (size && plan->count < SCRATCH_VECTORS) {
        size_t n = size < sizeof zeroes ? size : sizeof zeroes;
        plan_data(plan, job, zeroes, n);
        size -= n;
    }
}

static bool has_room_for(const struct plan *plan, size_t size)
{
    return wire_room(&plan->scratch->replies) >= size + 2 * (size_t)NBD_REPLY_SIZE_MAX;
}

/* Decompress `size` bytes of a read into scratch->out, and add them to the plan.  If scratch->out
 * has too little space, nothing is added. */
static int plan_packed(struct plan *plan, struct read_job *job, size_t size)
{
    uint8_t *bytes = has_room_for(plan, size) ? wire_claim(&plan->scratch->replies, size) : NULL;
    if (!bytes)
        return 0;
    struct worker *worker = plan->connection->worker;
    int r = disk_read_cached(plan->connection->service->disk, worker->cache, job->offset, size,
                             bytes);
    turn_look(&worker->turn);
    if (r < 0)
        return r;
    plan_data(plan, job, bytes, size);
    return 0;
}

static size_t min_size(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

/* Ask the disk to lend the next piece of the data of a read, of at most `count` bytes.  If the
 * piece is compressed, it is cut at the end of a page, because pages are decompressed one by
 * one. */
static int lend_piece(struct plan *plan, const struct read_job *job, uint64_t count,
                      struct disk_piece *piece)
{
    struct disk *disk = plan->connection->service->disk;
    int r = disk_lend(disk, job->offset, min_size(count, most_bytes(plan)), piece);
    if (r == 0 && piece->kind == DISK_PIECE_PACKED) {
        uint32_t page = disk_page_size(disk);
        piece->count = min_size(piece->count, page - job->offset % page);
    }
    return r;
}

/* Add a piece of data of a read to the plan.  If the piece does not fit, only a part of it is
 * added, or nothing. */
static int plan_piece(struct plan *plan, struct read_job *job, const struct disk_piece *piece)
{
    if (piece->kind == DISK_PIECE_PACKED)
        return plan_packed(plan, job, piece->count);
    if (piece->kind == DISK_PIECE_DATA)
        plan_data(plan, job, piece->base, piece->count);
    else
        plan_zeroes(plan, job, piece->count);
    return 0;
}

/* Add one more piece of the data that a header has announced.  If the piece does not fit, only a
 * part of it is added, or nothing. */
static int plan_promised(struct plan *plan, struct read_job *job)
{
    struct disk_piece piece;
    uint64_t before = job->left;
    int r = lend_piece(plan, job, job->promised, &piece);
    if (r == 0)
        r = plan_piece(plan, job, &piece);
    job->promised -= before - job->left;
    return r;
}

/* Add a chunk of data to the plan.  *piece is the first piece of the chunk.  The chunk ends at
 * the next hole, or when the plan is full.  Only then is the length of the chunk known, so its
 * header is filled in last. */
static int plan_chunk_of_data(struct plan *plan, struct read_job *job, struct disk_piece *piece)
{
    enum nbd_style style = plan->connection->session.style;
    struct nbd_chunk chunk = {.offset = job->offset};
    size_t size = nbd_data_header_size(style);
    uint8_t *start = wire_claim(&plan->scratch->replies, size);
    uint64_t left;
    if (!start)
        return -ENOBUFS;
    plan_header(plan, start);
    do {
        left = job->left;
        int r = plan_piece(plan, job, piece);
        if (r == 0 && job->left)
            r = lend_piece(plan, job, job->left, piece);
        if (r < 0)
            return r;
    } while (job->left && job->left < left && !plan_is_full(plan) &&
             piece->kind != DISK_PIECE_HOLE);
    chunk.count = (uint32_t)(job->offset - chunk.offset);
    chunk.done = job->left == 0;
    struct wire_writer header = wire_write(start, size);
    nbd_put_data(&header, style, &job->request, &chunk);
    return 0;
}

static void plan_chunk_of_hole(struct plan *plan, struct read_job *job, size_t count)
{
    struct nbd_chunk chunk = {
        .offset = job->offset, .count = (uint32_t)count, .done = count == job->left};
    struct wire_writer *replies = &plan->scratch->replies;
    uint8_t *start = replies->at;
    nbd_put_hole(replies, plan->connection->session.style, &job->request, &chunk);
    plan_header(plan, start);
    job->offset += count;
    job->left -= count;
}

/* Add the header of a read whose data are sent as a whole, not in chunks.  The header announces
 * all of the data. */
static void plan_whole(struct plan *plan, struct read_job *job)
{
    enum nbd_style style = plan->connection->session.style;
    struct nbd_chunk chunk = {.offset = job->offset, .count = (uint32_t)job->left, .done = true};
    struct wire_writer *replies = &plan->scratch->replies;
    uint8_t *start = replies->at;
    if (style == NBD_SIMPLE)
        nbd_put_read(replies, &job->request);
    else
        nbd_put_data(replies, style, &job->request, &chunk);
    plan_header(plan, start);
    job->promised = job->left;
}

/* Returns the number of bytes from job->offset to the end of the hole, or to the end of the read.
 * The caller knows already that the first `known` bytes belong to the hole. */
static size_t hole_size(struct plan *plan, const struct read_job *job, size_t known)
{
    struct disk *disk = plan->connection->service->disk;
    struct disk_piece piece;
    while (known < job->left &&
           disk_lend(disk, job->offset + known, (size_t)job->left - known, &piece) == 0 &&
           piece.kind == DISK_PIECE_HOLE)
        known += piece.count;
    return known;
}

/* Add the next chunk of the reply to a read.  If the reply must not be split (simple replies,
 * DF), add the header for all of its data instead.  If scratch->out has too little space, nothing
 * is added. */
static int plan_start(struct plan *plan, struct read_job *job)
{
    struct disk_piece piece;
    bool whole = job->request.flags & NBD_CMD_FLAG_DF;
    if (plan->connection->session.style == NBD_SIMPLE) {
        plan_whole(plan, job);
        return 0;
    }
    int r = lend_piece(plan, job, job->left, &piece);
    if (r < 0)
        return r;
    if (piece.kind == DISK_PIECE_HOLE)
        piece.count = hole_size(plan, job, piece.count);
    if (piece.kind == DISK_PIECE_HOLE && (piece.count == job->left || !whole))
        plan_chunk_of_hole(plan, job, piece.count);
    else if (whole)
        plan_whole(plan, job);
    else if (piece.kind != DISK_PIECE_PACKED || /* a chunk that does not fit would be empty */
             has_room_for(plan, piece.count + NBD_REPLY_SIZE_MAX))
        return plan_chunk_of_data(plan, job, &piece);
    return 0;
}

/* Add the reply to a read, or as much of it as fits into the plan. */
static int plan_read(struct plan *plan, struct read_job *job)
{
    size_t before;
    int r;
    plan->last = job;
    plan->tail = 0;
    do {
        before = plan->bytes;
        r = job->promised ? plan_promised(plan, job) : plan_start(plan, job);
    } while (r == 0 && job->left && plan->bytes > before && !plan_is_full(plan));
    return r;
}

struct plan plan_begin(struct connection *connection)
{
    struct scratch *scratch = connection->worker->scratch;
    struct plan plan = {.connection = connection, .scratch = scratch};
    size_t gathered = (size_t)(scratch->replies.at - scratch->out);
    if (gathered)
        plan_bytes(&plan, scratch->out, gathered);
    return plan;
}

int plan_reads(struct plan *plan, unsigned from)
{
    struct scratch *scratch = plan->scratch;
    int r = 0;
    for (unsigned i = from; r == 0 && i < scratch->read_count && !plan_is_full(plan); i++) {
        r = plan_read(plan, &scratch->reads[i]);
        if (scratch->reads[i].left)
            break; /* send the rest of this read before the next read */
    }
    return r;
}

int plan_keep_rest(struct plan *plan, size_t sent)
{
    struct connection *connection = plan->connection;
    size_t rest = plan->bytes - sent, again = min_size(rest, plan->tail), at = 0;
    if (again) {
        plan->last->offset -= again;
        plan->last->left += again;
        plan->last->promised += again;
    }
    if (rest == again)
        return 0;
    assert(buffer_is_empty(&connection->unsent));
    uint8_t *bytes = malloc(rest - again);
    if (!bytes)
        return -ENOMEM;
    connection->unsent = (struct buffer){.bytes = bytes, .size = rest - again};
    for (unsigned i = 0; i < plan->count && at < rest - again; i++) {
        const struct iovec *vector = &plan->scratch->vectors[i];
        size_t skip = min_size(sent, vector->iov_len);
        size_t n = min_size(vector->iov_len - skip, rest - again - at);
        bytes_load(bytes + at, (const uint8_t *)vector->iov_base + skip, n);
        at += n;
        sent -= skip;
    }
    return 0;
}
