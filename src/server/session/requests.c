/* SPDX-License-Identifier: BSD-3-Clause */

/* Where a payload goes:
 *
 *     all of it is there        disk_write, from scratch->in
 *     small, some is missing    kept with its header until the rest has come
 *     large                     what is there: disk_write; the rest: disk_fill, straight from the
 *                               socket, together with the next request's header
 *     refused                   thrown away as it comes, through the same transport
 *
 * After a large payload the next receive takes a header only, in case another one follows: of the
 * bytes of a stream of large writes none is copied twice.
 */

#include "server/session/requests.h"

#include <errno.h>
#include <string.h>

#include "disk/disk.h"
#include "os/thread.h"
#include "server/host/log.h"
#include "server/session/replies.h"
#include "server/session/server.h"

#define LARGE (16u << 10)         /* bytes of payload, from which on it is not kept */
#define SLICE ((uint64_t)8 << 20) /* bytes of a long range, zeroed in one go at first */
#define QUICK 500000              /* nanoseconds; slices that take less are doubled */

/* What time counts as effort (loop.h) where the length says nothing of it; and how many requests
 * may go by without a look at the clock, which takes some 30 nanoseconds. */
#define BYTES_A_NANOSECOND 4
#define UNTIMED_MAX 4

/* Bytes that were received, worked off from the front. */
struct input {
    const uint8_t *at;
    size_t left;
};

static void input_advance(struct input *input, size_t n)
{
    input->at += n;
    input->left -= n;
}

static void log_refusal(const struct connection *connection, const struct nbd_request *request,
                        int error)
{
    char peer[64];
    if (!log_is_verbose(connection->server->log))
        return;
    transport_peer(&connection->transport, peer, sizeof peer);
    log_debug(connection->server->log, "%s: %s of %llu bytes at %llu: %s", peer,
              nbd_command_name(request->type), (unsigned long long)request->length,
              (unsigned long long)request->offset, strerror(-error));
}

static void finish(struct connection *connection, const struct nbd_request *request, int error)
{
    if (error)
        log_refusal(connection, request, error);
    replies_add_answer(connection, request, error);
}

/* Commands. */

static int zero(struct connection *connection, const struct nbd_request *request, uint64_t at,
                uint64_t n)
{
    struct disk *disk = connection->server->disk;
    unsigned flags = request->flags & NBD_CMD_FLAG_NO_HOLE ? DISK_NO_HOLE : 0;
    if (request->type == NBD_CMD_TRIM)
        return disk_trim(disk, request->offset + at, n);
    return disk_zero(disk, request->offset + at, n, flags);
}

/* What takes long is done in slices, between which others have their turn: how long depends on
 * what is there, not on the length, so slices that are quick get longer. */
static void start_zeroing(struct connection *connection, const struct nbd_request *request)
{
    bool provide = request->flags & NBD_CMD_FLAG_NO_HOLE;
    if (request->length <= SLICE)
        finish(connection, request, zero(connection, request, 0, request->length));
    else if (provide && !disk_could_provide(connection->server->disk, request->length))
        finish(connection, request, -ENOSPC);
    else
        connection->zero = (struct zero_job){.request = *request, .slice = SLICE, .active = true};
}

/* Slices end at multiples of SLICE: a page that is zeroed in two parts is not let go as a whole.
 */
static void zero_slice(struct connection *connection)
{
    struct zero_job *job = &connection->zero;
    uint64_t from = job->request.offset + job->at, left = job->request.length - job->at;
    uint64_t to_end = (from + job->slice) / SLICE * SLICE - from,
             n = left < to_end ? left : to_end;
    int64_t start = os_clock_fine();
    int error = zero(connection, &job->request, job->at, n);
    int64_t took = os_clock_fine() - start;
    job->at += n;
    connection->loop->effort += (uint64_t)took * BYTES_A_NANOSECOND;
    if (took < QUICK && job->slice < UINT64_MAX / 4)
        job->slice *= 2;
    if (error == 0 && job->at < job->request.length)
        return;
    job->active = false;
    finish(connection, &job->request, error);
}

/* A legal request without a payload. */
static void carry_out(struct connection *connection, const struct nbd_request *request)
{
    switch (request->type) {
    case NBD_CMD_READ:
        loop_count(&connection->loop->counters.sent, request->length);
        replies_add_read(connection);
        break;
    case NBD_CMD_BLOCK_STATUS:
        replies_add_status(connection, request);
        break;
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        start_zeroing(connection, request);
        break;
    case NBD_CMD_DISC:
        connection->state = CONNECTION_DRAINING;
        break;
    default: /* flush and cache: memory is as stable and as near as it gets; an empty write */
        finish(connection, request, 0);
    }
}

/* Payloads. */

static void write_part(struct connection *connection, struct payload_job *job,
                       const uint8_t *from, size_t n)
{
    if (job->error == 0)
        job->error = disk_write(connection->server->disk, job->request.offset + job->at, n, from);
    job->at += n;
}

static void end_payload(struct connection *connection)
{
    struct payload_job *job = &connection->payload;
    if (job->at < job->request.payload)
        return;
    job->active = false;
    if (job->error == 0)
        loop_count(&connection->loop->counters.received, job->request.length);
    finish(connection, &job->request, job->error);
}

static void feed_payload(struct connection *connection, struct input *input)
{
    struct payload_job *job = &connection->payload;
    uint64_t missing = job->request.payload - job->at;
    size_t n = input->left < missing ? input->left : (size_t)missing;
    write_part(connection, job, input->at, n);
    input_advance(input, n);
    end_payload(connection);
}

static void start_payload(struct connection *connection, const struct nbd_request *request,
                          int error, struct input *input)
{
    connection->payload =
        (struct payload_job){.request = *request, .error = error, .active = true};
    feed_payload(connection, input);
}

/* A block status that names the contexts it asks for. */
static void status_of_contexts(struct connection *connection, struct nbd_request *request,
                               struct input *input)
{
    const uint8_t *payload = input->at;
    bool wanted;
    int r = nbd_request_parse_status(&connection->session, payload, request, &wanted);
    input_advance(input, request->payload);
    request->payload = 0;
    if (r == 0)
        r = nbd_request_check(&connection->server->export, &connection->session, request);
    if (r < 0 || !wanted)
        finish(connection, request, r);
    else
        replies_add_status(connection, request);
}

/* The common case: all of it is there. */
static void write_whole(struct connection *connection, const struct nbd_request *request,
                        struct input *input)
{
    size_t n = (size_t)request->payload;
    int error = disk_write(connection->server->disk, request->offset, n, input->at);
    if (error == 0)
        loop_count(&connection->loop->counters.received, n);
    input_advance(input, n);
    finish(connection, request, error);
}

static void with_payload(struct connection *connection, struct nbd_request *request, int error,
                         struct input *input)
{
    if (error || request->payload > input->left)
        start_payload(connection, request, error, input);
    else if (request->type == NBD_CMD_WRITE)
        write_whole(connection, request, input);
    else
        status_of_contexts(connection, request, input);
}

/* Requests. */

/* What others have waited for.  The length tells of copies; but to look at a long range, to
 * inflate a page or to wait for room takes what it takes. */
static void count_effort(struct loop *loop, uint16_t type, uint64_t length)
{
    if (type == NBD_CMD_READ) /* counted by what is sent */
        return;
    if (length <= SLICE)
        loop->effort += length;
    if (type != NBD_CMD_BLOCK_STATUS && ++loop->untimed < UNTIMED_MAX)
        return;
    uint64_t passed = (uint64_t)(os_clock_fine() - loop->step_began) * BYTES_A_NANOSECOND;
    loop->untimed = 0;
    if (loop->effort < passed)
        loop->effort = passed;
}

enum outcome { DONE, INCOMPLETE, HOPELESS };

/* A request is parsed where it stays if it is a read: copied, it costs a tenth of the time of a
 * small one, because words that were just written in parts are loaded as a whole. */
static enum outcome take_request(struct connection *connection, struct input *input)
{
    const struct nbd_export *export = &connection->server->export;
    struct nbd_request *request = replies_next(connection);
    size_t size = nbd_request_size(connection->session.style);
    if (input->left < size)
        return INCOMPLETE;
    if (nbd_request_parse(connection->session.style, input->at, request) < 0 ||
        nbd_request_is_absurd(export, request))
        return HOPELESS;
    int error = nbd_request_check(export, &connection->session, request);
    if (error == 0 && request->payload > input->left - size && request->payload < LARGE)
        return INCOMPLETE;
    input_advance(input, size);
    connection->bulk = request->payload >= LARGE;
    loop_take(connection->loop, request->length);
    if (request->type < NBD_COMMANDS)
        loop_count(&connection->loop->counters.requests[request->type], 1);
    uint16_t type = request->type;
    uint64_t length = error ? 0 : request->length;
    if (request->payload)
        with_payload(connection, request, error, input);
    else if (error)
        finish(connection, request, error);
    else
        carry_out(connection, request);
    count_effort(connection->loop, type, length);
    return DONE;
}

/* Keep what was not worked off.  ready: it only waits for replies to go out. */
static int keep(struct connection *connection, const struct input *input, bool ready)
{
    connection->unread_ready = ready && input->left;
    return input->left ? buffer_store(&connection->unread, input->at, input->left) : 0;
}

int requests_take(struct connection *connection, const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    enum outcome outcome = DONE;
    int r = 0;
    while (r == 0 && outcome == DONE && connection->state == CONNECTION_TRANSMISSION) {
        if (replies_are_full(connection))
            r = replies_flush(connection);
        else if (connection->loop->effort >= TURN_EFFORT)
            r = -EAGAIN;
        else if (connection->zero.active)
            zero_slice(connection);
        else if (connection->payload.active && input.left)
            feed_payload(connection, &input);
        else
            outcome = take_request(connection, &input);
    }
    if (outcome == HOPELESS)
        return -EPROTO;
    if (connection->state != CONNECTION_TRANSMISSION)
        input.left = 0;
    int kept = keep(connection, &input, r == -EAGAIN);
    return kept < 0 ? kept : r;
}

/* Receiving. */

struct fill {
    struct connection *connection;
    uint64_t missing; /* of the payload */
    size_t taken;     /* bytes of the payload that were received */
    size_t header;    /* bytes of the next request's header that were, into scratch->in */
    bool full;        /* all that was asked for came */
};

/* Called inside a read section of the disk (disk_fill).  The next request's header comes behind
 * the payload's last byte. */
static ssize_t receive_into(void *opaque, struct iovec *vectors, int n)
{
    struct fill *fill = opaque;
    struct connection *connection = fill->connection;
    size_t lent = 0, header = nbd_request_size(connection->session.style);
    for (int i = 0; i < n; i++)
        lent += vectors[i].iov_len;
    if (lent == fill->missing)
        vectors[n++] = (struct iovec){connection->loop->scratch->in, header};
    else
        header = 0;
    ssize_t r = transport_receive(&connection->transport, vectors, n);
    if (r <= 0)
        return r < 0 ? r : -ENOTCONN;
    fill->taken = (size_t)r < lent ? (size_t)r : lent;
    fill->header = (size_t)r - fill->taken;
    fill->full = (size_t)r == lent + header;
    return (ssize_t)fill->taken;
}

/* Receive a large payload where it belongs.  -ENOBUFS: it has to be received elsewhere. */
static int receive_payload(struct connection *connection)
{
    struct payload_job *job = &connection->payload;
    struct fill fill = {.connection = connection, .missing = job->request.payload - job->at};
    size_t lent;
    ssize_t n = disk_fill(connection->server->disk, job->request.offset + job->at,
                          (size_t)fill.missing, &lent, receive_into, &fill);
    if (n < 0 && fill.taken == 0)
        return (int)n;
    if (n < 0)
        job->error = (int)n;
    job->at += fill.taken;
    end_payload(connection);
    int r = requests_take(connection, connection->loop->scratch->in, fill.header);
    return r < 0 ? r : fill.full;
}

/* How much to receive, behind what is there already. */
static size_t wanted(const struct connection *connection, size_t there)
{
    size_t header = nbd_request_size(connection->session.style);
    if (connection->bulk && !connection->payload.active && there < header)
        return header - there;
    return SCRATCH_IN - there;
}

static int receive_requests(struct connection *connection)
{
    size_t want = wanted(connection, buffer_left(&connection->unread)), came;
    ssize_t size = connection_receive(connection, want, &came);
    if (size < 0)
        return (int)size;
    int r = requests_take(connection, connection->loop->scratch->in, (size_t)size);
    return r < 0 ? r : connection->bulk || came == want;
}

int requests_receive(struct connection *connection)
{
    const struct payload_job *job = &connection->payload;
    if (job->active && job->error == 0 && job->request.payload - job->at >= 4096) {
        int r = receive_payload(connection);
        if (r != -ENOBUFS)
            return r;
    }
    return receive_requests(connection);
}
