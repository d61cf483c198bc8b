/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/replies.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/disk.h"
#include "nbd/reply.h"
#include "server/session/plan.h"

/* The most bytes that one reply takes in scratch->out.  The reply can be to an option, to a block
 * status, or to another request. */
#define REPLY_ROOM (NBD_HANDSHAKE_OUT + NBD_REPLY_SIZE_MAX)
#define STATUS_MAX NBD_HANDSHAKE_OUT      /* the most bytes of descriptors in a reply */
#define STATUS_SLICE ((uint64_t)64 << 20) /* bytes of the first slice of a block status */

/* Gathering replies. */

static struct scratch *scratch_of(const struct connection *connection)
{
    return connection->worker->scratch;
}

bool replies_are_full(const struct connection *connection)
{
    const struct scratch *scratch = scratch_of(connection);
    return scratch->read_count == SCRATCH_READS || wire_room(&scratch->replies) < REPLY_ROOM;
}

void replies_add_answer(struct connection *connection, const struct nbd_request *request,
                        int error)
{
    struct scratch *scratch = scratch_of(connection);
    nbd_put_answer(&scratch->replies, connection->session.style, request, error);
    if (error)
        counter_add(&connection->worker->counters.failed, 1);
}

struct nbd_request *replies_request_slot(struct connection *connection)
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
    struct wire_writer *writer;
    uint32_t count, max; /* number of descriptors in the reply, and its limit */
    uint64_t length;     /* bytes of the last extent if it has no descriptor yet, else 0 */
    bool is_hole;        /* the last extent is a hole */
};

static void put_extent(struct status *status)
{
    if (status->length)
        nbd_put_descriptor(status->writer, status->style, status->length, status->is_hole);
    status->count += status->length > 0;
    status->length = 0;
}

/* Add an extent to the reply to a block status.  This function is called by disk_extents for each
 * extent.  An extent is never longer than the range of the request, so its length always fits
 * into a descriptor. */
static int add_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct status *status = opaque;
    (void)offset;
    if (status->is_hole != hole)
        put_extent(status);
    if (status->count == status->max)
        return 1;
    status->is_hole = hole;
    status->length += count;
    return 0;
}

/* Add the extents of the request's range to the reply, slice by slice, until the turn is over.
 * If the turn ends early, the reply covers only the beginning of the range.  The specification
 * allows this (NBD_CMD_BLOCK_STATUS), and the client then asks again for the rest. */
static int collect_extents(struct connection *connection, const struct nbd_request *request,
                           struct status *status)
{
    struct turn *turn = &connection->worker->turn;
    uint64_t slice = STATUS_SLICE, at = 0;
    int r = 0;
    while (r == 0 && at < request->length && (at == 0 || !turn_is_over(turn))) {
        uint64_t n = request->length - at < slice ? request->length - at : slice;
        int64_t start = os_clock_ns();
        r = disk_extents(connection->service->disk, request->offset + at, n, add_extent, status);
        slice = turn_next_slice(turn, slice, start);
        at += n;
    }
    put_extent(status);
    return r;
}

void replies_add_status(struct connection *connection, const struct nbd_request *request)
{
    struct scratch *scratch = scratch_of(connection);
    enum nbd_style style = connection->session.style;
    struct wire_writer *writer = &scratch->replies, before = *writer;
    size_t header_size = nbd_status_header_size(style);
    uint8_t *start = wire_claim(writer, header_size);
    struct status status = {.style = style, .writer = writer};
    status.max = request->flags & NBD_CMD_FLAG_REQ_ONE
                     ? 1
                     : (uint32_t)(STATUS_MAX / nbd_descriptor_size(style));
    if (!start)
        return; /* the writer has failed, so replies_flush will return an error */
    int r = collect_extents(connection, request, &status);
    if (r < 0 || status.count == 0) {
        *writer = before;
        replies_add_answer(connection, request, r < 0 ? r : -EINVAL);
        return;
    }
    struct wire_writer header = wire_write(start, header_size);
    nbd_put_status(&header, style, request, status.count);
}

/* Sending. */

/* Make a plan and send it.  *next is the number of the first read whose reply is not completely
 * sent.  The function updates *next.  Returns
 *
 *     the number of bytes  the whole plan was sent
 *     -EAGAIN              a part of the plan was sent, and the connection keeps the rest
 *     -errno               (any other) the connection has to be closed */
static ssize_t send_some(struct connection *connection, unsigned *next)
{
    struct scratch *scratch = scratch_of(connection);
    struct disk *disk = connection->service->disk;
    ssize_t sent = 0;
    disk_lend_begin(disk);
    struct plan plan = plan_begin(connection);
    int r = plan_reads(&plan, *next);
    if (scratch->replies.failed)
        r = -ENOBUFS;                /* a reply did not fit, so the client would never get it */
    assert(r < 0 || plan.bytes > 0); /* an empty plan is never full, so something was added */
    if (r == 0) {
        sent = transport_send(&connection->transport, scratch->vectors, (int)plan.count);
        r = sent < 0 && sent != -EAGAIN ? (int)sent : 0;
    }
    sent = sent < 0 ? 0 : sent;
    bool blocked = r == 0 && (size_t)sent < plan.bytes;
    if (blocked)
        r = plan_keep_rest(&plan, (size_t)sent);
    disk_lend_end(disk);
    scratch_clear_out(scratch);
    while (*next < scratch->read_count && scratch->reads[*next].left == 0)
        ++*next;
    return r < 0 ? r : blocked ? -EAGAIN : sent;
}

/* Move the reads whose replies are not completely sent from the scratch to connection->waiting.
 * `next` is the number of the first of them. */
static int store_waiting_reads(struct connection *connection, unsigned next)
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
    struct turn *turn = &connection->worker->turn;
    unsigned next = 0;
    ssize_t n = 0;
    while (n >= 0 && (scratch->replies.at > scratch->out ||
                      (next < scratch->read_count && !turn_is_over(turn)))) {
        n = send_some(connection, &next);
        turn_spend(turn, TURN_CALL_BYTES + (n > 0 ? (size_t)n : 0));
    }
    if (n < 0 && n != -EAGAIN) {
        scratch->read_count = 0;
        return (int)n;
    }
    int r = store_waiting_reads(connection, next);
    return r < 0 ? r : replies_are_waiting(connection) ? -EAGAIN : 0;
}

static int send_unsent(struct connection *connection)
{
    struct buffer *unsent = &connection->unsent;
    while (!buffer_is_empty(unsent)) {
        struct iovec vector = {unsent->bytes + unsent->at, buffer_left(unsent)};
        ssize_t n = transport_send(&connection->transport, &vector, 1);
        if (n < 0)
            return (int)n;
        unsent->at += (size_t)n;
        if (unsent->at == unsent->size)
            buffer_drop(unsent);
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

bool replies_are_waiting(const struct connection *connection)
{
    return !buffer_is_empty(&connection->unsent) || connection->waiting_count ||
           transport_wants_flush(&connection->transport);
}
