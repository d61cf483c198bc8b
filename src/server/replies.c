/* SPDX-License-Identifier: BSD-3-Clause */

/* A send is planned as a list of vectors: first the bytes that gathered in scratch->out, then the
 * reads, each a header (in scratch->out as well) and pieces lent by the disk. It is planned and
 * sent inside one read section of the disk, which must not wait.
 *
 *     vectors | answers + header | piece | piece | header | piece | ......... piece |
 *                                                         '------- tail -----------'
 *
 * If the socket does not take all of it, the data at the end, as far as they belong to the last
 * read (the tail), are simply asked for again later: a slow reader of large blocks costs no copy.
 * What lies between the cut and the tail is copied to connection->unsent.
 *
 * A header promises a number of bytes, so data of a read that was cut off must follow first of
 * all: unsent, then the read in the middle (promised > 0), then the others.
 */

#include "server/replies.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/disk.h"
#include "nbd/reply.h"
#include "server/server.h"

#define ROOM (NBD_HANDSHAKE_OUT + NBD_REPLY_SIZE_MAX) /* for any one reply */
#define TURN_BYTES (2u << 20)                         /* sent until others have their turn */
#define STATUS_BYTES (NBD_HANDSHAKE_OUT)

static const uint8_t zeroes[64 << 10];

struct plan {
    struct connection *connection;
    struct scratch *scratch;
    unsigned count;        /* of vectors */
    size_t bytes;          /* of vectors, all together */
    size_t tail;           /* of these, data at the end that belong to `last` */
    struct read_job *last; /* the read that was planned last */
};

/* Answers. */

static struct scratch *scratch_of(const struct connection *connection)
{
    return connection->loop->scratch;
}

bool replies_are_full(const struct connection *connection)
{
    const struct scratch *scratch = scratch_of(connection);
    return scratch->read_count == SCRATCH_READS || SCRATCH_OUT - scratch->out_used < ROOM;
}

static void out_ends_at(struct scratch *scratch, const uint8_t *end)
{
    scratch->out_used = (size_t)(end - scratch->out);
}

static uint8_t *out_end(struct scratch *scratch)
{
    return scratch->out + scratch->out_used;
}

void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error)
{
    struct scratch *scratch = scratch_of(connection);
    out_ends_at(scratch,
                nbd_put_answer(out_end(scratch), connection->session.style, request, error));
    if (error)
        atomic_fetch_add_explicit(&connection->loop->counters.failed, 1, memory_order_relaxed);
}

void replies_add_bytes(struct connection *connection, const void *bytes, size_t size)
{
    struct scratch *scratch = scratch_of(connection);
    memcpy(out_end(scratch), bytes, size);
    scratch->out_used += size;
}

struct nbd_request *replies_next(struct connection *connection)
{
    struct scratch *scratch = scratch_of(connection);
    return &scratch->reads[scratch->read_count].request;
}

void replies_add_read(struct connection *connection)
{
    struct scratch *scratch = scratch_of(connection);
    struct read_job *job = &scratch->reads[scratch->read_count];
    if (job->request.length == 0) {
        replies_add_answer(connection, &job->request, 0);
        return;
    }
    job->offset = job->request.offset;
    job->left = job->request.length;
    job->promised = 0;
    scratch->read_count++;
}

/* Block status. */

struct status {
    enum nbd_style style;
    uint8_t *at;
    uint32_t count, max;
};

/* Lengths are 32 bits without extended headers; so was the request's. */
static int add_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct status *status = opaque;
    (void)offset;
    status->at = nbd_put_descriptor(status->at, status->style, count, hole);
    return ++status->count == status->max;
}

void replies_add_status(struct connection *connection, const struct nbd_request *request)
{
    struct scratch *scratch = scratch_of(connection);
    enum nbd_style style = connection->session.style;
    uint8_t *header = out_end(scratch);
    size_t header_size = (size_t)(nbd_put_status(header, style, request, 0) - header);
    struct status status = {.style = style, .at = header + header_size};
    status.max = request->flags & NBD_CMD_FLAG_REQ_ONE
                     ? 1
                     : (uint32_t)(STATUS_BYTES / nbd_descriptor_size(style));
    int r = disk_extents(connection->server->disk, request->offset, request->length, add_extent,
                         &status);
    if (r < 0 || status.count == 0) {
        replies_add_answer(connection, request, r < 0 ? r : -EINVAL);
        return;
    }
    nbd_put_status(header, style, request, status.count);
    out_ends_at(scratch, status.at);
}

/* Planning. */

static bool is_full(const struct plan *plan)
{
    return plan->count + 2 > SCRATCH_VECTORS || plan->bytes >= SCRATCH_LENT ||
           SCRATCH_OUT - plan->scratch->out_used < NBD_REPLY_SIZE_MAX;
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

static void plan_header(struct plan *plan, uint8_t *end)
{
    uint8_t *start = out_end(plan->scratch);
    plan_bytes(plan, start, (size_t)(end - start));
    out_ends_at(plan->scratch, end);
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
        plan_bytes(plan, zeroes, n);
        plan->tail += n;
        job->offset += n;
        job->left -= n;
        size -= n;
    }
}

static bool has_room_for(const struct plan *plan, size_t size)
{
    return SCRATCH_OUT - plan->scratch->out_used >= size + 2 * (size_t)NBD_REPLY_SIZE_MAX;
}

/* Compressed: into scratch->out, if there is room. */
static int plan_packed(struct plan *plan, struct read_job *job, size_t size)
{
    uint8_t *bytes = out_end(plan->scratch);
    if (!has_room_for(plan, size))
        return 0;
    int r = disk_read(plan->connection->server->disk, job->offset, size, bytes);
    if (r < 0)
        return r;
    plan->scratch->out_used += size;
    plan_data(plan, job, bytes, size);
    return 0;
}

static size_t least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

static int lend(struct plan *plan, const struct read_job *job, uint64_t count,
                struct disk_piece *piece)
{
    size_t n = least(count, SCRATCH_LENT);
    return disk_lend(plan->connection->server->disk, job->offset, n, piece);
}

/* One piece of what was promised, if there is room. */
static int plan_promised(struct plan *plan, struct read_job *job)
{
    struct disk_piece piece;
    uint64_t before = job->left;
    int r = lend(plan, job, job->promised, &piece);
    if (r < 0)
        return r;
    if (piece.kind == DISK_PIECE_PACKED)
        r = plan_packed(plan, job, piece.count);
    else if (piece.kind == DISK_PIECE_DATA)
        plan_data(plan, job, piece.base, piece.count);
    else
        plan_zeroes(plan, job, piece.count);
    job->promised -= before - job->left;
    return r;
}

/* A chunk of its own for data up to the next hole, as far as one send goes: its header is put
 * when its length is known. */
static int plan_chunk_of_data(struct plan *plan, struct read_job *job)
{
    enum nbd_style style = plan->connection->session.style;
    struct nbd_chunk chunk = {.offset = job->offset};
    uint8_t *header = out_end(plan->scratch);
    uint64_t left;
    plan_header(plan, nbd_put_data(header, style, &job->request, &chunk));
    do {
        struct disk_piece piece;
        left = job->left;
        int r = lend(plan, job, job->left, &piece);
        if (r < 0)
            return r;
        if (piece.kind == DISK_PIECE_HOLE)
            break;
        job->promised = piece.count;
        r = plan_promised(plan, job);
        job->promised = 0;
        if (r < 0)
            return r;
    } while (job->left && job->left < left && !is_full(plan));
    chunk.count = (uint32_t)(job->offset - chunk.offset);
    chunk.done = job->left == 0;
    nbd_put_data(header, style, &job->request, &chunk);
    return 0;
}

static void plan_chunk_of_hole(struct plan *plan, struct read_job *job, size_t count)
{
    struct nbd_chunk chunk = {
        .offset = job->offset, .count = (uint32_t)count, .done = count == job->left};
    uint8_t *at = out_end(plan->scratch);
    plan_header(plan, nbd_put_hole(at, plan->connection->session.style, &job->request, &chunk));
    job->offset += count;
    job->left -= count;
}

/* The header of a read that is to be in one piece: all that is left is promised. */
static void plan_whole(struct plan *plan, struct read_job *job)
{
    enum nbd_style style = plan->connection->session.style;
    struct nbd_chunk chunk = {.offset = job->offset, .count = (uint32_t)job->left, .done = true};
    uint8_t *at = out_end(plan->scratch);
    plan_header(plan, style == NBD_SIMPLE ? nbd_put_read(at, &job->request)
                                          : nbd_put_data(at, style, &job->request, &chunk));
    job->promised = job->left;
}

/* Start what comes next of a read: a chunk, or all of it.  False if there is no room. */
static int plan_start(struct plan *plan, struct read_job *job, bool *started)
{
    struct disk_piece piece;
    bool whole = job->request.flags & NBD_CMD_FLAG_DF;
    *started = true;
    if (plan->connection->session.style == NBD_SIMPLE) {
        plan_whole(plan, job);
        return 0;
    }
    int r = disk_lend(plan->connection->server->disk, job->offset, job->left, &piece);
    if (r < 0)
        return r;
    if (piece.kind == DISK_PIECE_HOLE && (piece.count == job->left || !whole))
        plan_chunk_of_hole(plan, job, piece.count);
    else if (whole)
        plan_whole(plan, job);
    else if (piece.kind == DISK_PIECE_PACKED && !has_room_for(plan, piece.count))
        *started = false; /* a chunk must not be empty */
    else
        return plan_chunk_of_data(plan, job);
    return 0;
}

/* As much of a read as there is room for.  An error is the end of the connection: bytes were
 * promised that cannot be had. */
static int plan_read(struct plan *plan, struct read_job *job)
{
    bool going = true;
    int r = 0;
    plan->last = job;
    plan->tail = 0;
    while (r == 0 && going && job->left && !is_full(plan)) {
        uint64_t left = job->left;
        if (!job->promised) {
            r = plan_start(plan, job, &going);
        } else {
            r = plan_promised(plan, job);
            going = job->left < left;
        }
    }
    return r;
}

/* Sending. */

/* The socket took `sent` of the plan's bytes.  See the top of this file. */
static int keep_rest(struct plan *plan, size_t sent)
{
    struct connection *connection = plan->connection;
    size_t rest = plan->bytes - sent, again = least(rest, plan->tail), at = 0;
    if (again) {
        plan->last->offset -= again;
        plan->last->left += again;
        plan->last->promised += again;
    }
    if (rest == again)
        return 0;
    uint8_t *bytes = malloc(rest - again);
    if (!bytes)
        return -ENOMEM;
    connection->unsent = (struct kept){.bytes = bytes, .size = rest - again};
    for (unsigned i = 0; i < plan->count && at < rest - again; i++) {
        const struct iovec *vector = &plan->scratch->vectors[i];
        size_t skip = least(sent, vector->iov_len);
        size_t n = least(vector->iov_len - skip, rest - again - at);
        memcpy(bytes + at, (const uint8_t *)vector->iov_base + skip, n);
        at += n;
        sent -= skip;
    }
    return 0;
}

/* One piece.  *next: the first read that is not done; what the others took is counted. */
static ssize_t send_some(struct connection *connection, unsigned *next)
{
    struct scratch *scratch = scratch_of(connection);
    struct plan plan = {.connection = connection, .scratch = scratch};
    ssize_t sent = 0;
    int r = 0;
    if (scratch->out_used)
        plan_bytes(&plan, scratch->out, scratch->out_used);
    disk_lend_begin(connection->server->disk);
    for (unsigned i = *next; r == 0 && i < scratch->read_count && !is_full(&plan); i++) {
        r = plan_read(&plan, &scratch->reads[i]);
        if (scratch->reads[i].left)
            break; /* the next one must not come in between */
    }
    if (r == 0 && plan.bytes) {
        sent = transport_send(&connection->transport, scratch->vectors, (int)plan.count);
        r = sent < 0 && sent != -EAGAIN ? (int)sent : 0;
    }
    sent = sent < 0 ? 0 : sent;
    bool blocked = r == 0 && (size_t)sent < plan.bytes;
    if (blocked)
        r = keep_rest(&plan, (size_t)sent);
    disk_lend_end(connection->server->disk);
    scratch->out_used = 0;
    while (*next < scratch->read_count && scratch->reads[*next].left == 0)
        ++*next;
    return r < 0 ? r : blocked ? -EAGAIN : sent;
}

/* Keep the reads from `next` on. */
static int keep_reads(struct connection *connection, unsigned next)
{
    struct scratch *scratch = scratch_of(connection);
    unsigned count = scratch->read_count - next;
    scratch->read_count = 0;
    if (count == 0)
        return 0;
    connection->waiting = malloc(count * sizeof *connection->waiting);
    if (!connection->waiting)
        return -ENOMEM;
    memcpy(connection->waiting, &scratch->reads[next], count * sizeof *connection->waiting);
    connection->waiting_count = count;
    return 0;
}

int replies_flush(struct connection *connection)
{
    struct scratch *scratch = scratch_of(connection);
    unsigned next = 0;
    size_t turn = 0;
    ssize_t n = 0;
    while (n >= 0 && turn < TURN_BYTES && (scratch->out_used || next < scratch->read_count)) {
        n = send_some(connection, &next);
        turn += n > 0 ? (size_t)n : 0;
    }
    scratch->out_used = 0;
    if (n < 0 && n != -EAGAIN) {
        scratch->read_count = 0;
        return (int)n;
    }
    int r = keep_reads(connection, next);
    return r < 0 ? r : replies_wait(connection) ? -EAGAIN : 0;
}

static int send_unsent(struct connection *connection)
{
    struct kept *unsent = &connection->unsent;
    while (kept_any(unsent)) {
        struct iovec vector = {unsent->bytes + unsent->at, unsent->size - unsent->at};
        ssize_t n = transport_send(&connection->transport, &vector, 1);
        if (n < 0)
            return (int)n;
        unsent->at += (size_t)n;
        if (unsent->at == unsent->size)
            kept_drop(unsent);
    }
    return 0;
}

int replies_resume(struct connection *connection)
{
    struct scratch *scratch = scratch_of(connection);
    int r = send_unsent(connection);
    if (r < 0)
        return r;
    if (transport_wants_flush(&connection->transport)) {
        ssize_t n = transport_send(&connection->transport, NULL, 0);
        if (n < 0 || transport_wants_flush(&connection->transport))
            return n < 0 ? (int)n : -EAGAIN;
    }
    if (connection->waiting_count == 0)
        return 0;
    memcpy(scratch->reads, connection->waiting,
           connection->waiting_count * sizeof *connection->waiting);
    scratch->read_count = connection->waiting_count;
    free(connection->waiting);
    connection->waiting = NULL;
    connection->waiting_count = 0;
    return replies_flush(connection);
}

bool replies_wait(const struct connection *connection)
{
    return kept_any(&connection->unsent) || connection->waiting_count ||
           transport_wants_flush(&connection->transport);
}
