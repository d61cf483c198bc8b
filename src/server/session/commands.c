/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/disk.h"
#include "server/host/log.h"
#include "server/session/replies.h"

/* Answers. */

static void log_refusal(const struct connection *connection, const struct nbd_request *request,
                        int error)
{
    char peer[64];
    if (!log_wants_debug(connection->service->log))
        return;
    transport_peer(&connection->transport, peer, sizeof peer);
    log_debug(connection->service->log, "%s: %s of %llu bytes at %llu: %s", peer,
              nbd_command_name(request->type), (unsigned long long)request->length,
              (unsigned long long)request->offset, strerror(-error));
}

/* Add a reply without data.  `error` is 0 or -errno.  If it is not 0, the error is logged. */
static void answer_request(struct connection *connection, const struct nbd_request *request,
                           int error)
{
    if (error) {
        log_refusal(connection, request, error);
        turn_look(&connection->worker->turn);
    }
    replies_add_answer(connection, request, error);
}

void commands_refuse(struct connection *connection, const struct nbd_request *request, int error)
{
    answer_request(connection, request, error);
}

/* Parking. */

/* Hold the connection if it must not take another request now, and else release it. */
static void hold_or_release(struct connection *connection)
{
    bool is_held = connection->payload.is_parked || connection->zeroing.is_parked ||
                   park_is_full(connection->worker->park, &connection->parked);
    if (is_held && connection->state == CONNECTION_TRANSMISSION) {
        connection->state = CONNECTION_HELD;
    } else if (!is_held && connection->state == CONNECTION_HELD) {
        connection->state = CONNECTION_TRANSMISSION;
        connection->unread_ready = !buffer_is_empty(&connection->unread);
    }
}

static int park(struct connection *connection, const struct park_job *job, const void *data)
{
    struct worker *worker = connection->worker;
    int r = park_add(worker->park, &connection->parked, job, data);
    if (r == 0)
        counter_add(&worker->counters.parked, 1);
    turn_look(&worker->turn);
    return r;
}

/* Park the last `count` bytes of a request, which the park will answer.  data are the bytes of a
 * write, else NULL. */
__attribute__((cold)) static void park_rest(struct connection *connection,
                                            const struct nbd_request *request, uint64_t count,
                                            const void *data)
{
    const struct park_job job = {
        .request = *request, .offset = request->offset + request->length - count, .count = count};
    int r = park(connection, &job, data);
    if (r < 0)
        answer_request(connection, request, r);
    hold_or_release(connection);
}

/* Park a part of the active payload job or zero job: `count` bytes from offset `at` of the
 * request's range.  *is_parked is the job's flag.  Returns 0 or -ENOMEM. */
__attribute__((cold)) static int park_part(struct connection *connection,
                                           const struct nbd_request *request, uint64_t at,
                                           uint64_t count, const void *data, bool *is_parked)
{
    const struct park_job job = {
        .request = *request, .offset = request->offset + at, .count = count, .is_part = true};
    int r = park(connection, &job, data);
    *is_parked = r == 0;
    hold_or_release(connection);
    return r;
}

/* Zeroing. */

static int try_zero_or_trim(struct connection *connection, const struct nbd_request *request,
                            uint64_t at, uint64_t n, uint64_t *done)
{
    struct disk *disk = connection->service->disk;
    unsigned flags = request->flags & NBD_CMD_FLAG_NO_HOLE ? DISK_NO_HOLE : 0;
    if (request->type == NBD_CMD_TRIM)
        return disk_try_trim(disk, request->offset + at, n, done);
    return disk_try_zero(disk, request->offset + at, n, flags, done);
}

/* `error` is the result for all bytes of the job so far. */
static void end_zeroing_if_whole(struct connection *connection, int error)
{
    struct zero_job *job = &connection->zeroing;
    if (error == 0 && job->at < job->request.length)
        return;
    job->active = false;
    answer_request(connection, &job->request, error);
}

/* Each slice except the last ends at a multiple of COMMANDS_ZERO_SLICE, so that no slice ends
 * inside a page.  A page that was zeroed in two parts would keep its memory. */
void commands_zero_slice(struct connection *connection)
{
    struct zero_job *job = &connection->zeroing;
    uint64_t from = job->request.offset + job->at, left = job->request.length - job->at;
    uint64_t to_end = (from + job->slice) / COMMANDS_ZERO_SLICE * COMMANDS_ZERO_SLICE - from;
    uint64_t n = left < to_end ? left : to_end;
    uint64_t done;
    int64_t start = os_clock_ns();
    int error = try_zero_or_trim(connection, &job->request, job->at, n, &done);
    job->slice = turn_next_slice(&connection->worker->turn, job->slice, start);
    job->at += error == -EAGAIN ? done : n;
    if (error == -EAGAIN)
        error = park_part(connection, &job->request, job->at, n - done, NULL, &job->is_parked);
    end_zeroing_if_whole(connection, error);
}

/* Payloads. */

static void end_payload_if_whole(struct connection *connection)
{
    struct payload_job *job = &connection->payload;
    if (job->at < job->request.payload)
        return;
    job->active = false;
    if (job->error == 0)
        counter_add(&connection->worker->counters.received, job->request.length);
    answer_request(connection, &job->request, job->error);
}

/* The last `count` bytes that have arrived have to wait. */
__attribute__((cold)) static void park_payload(struct connection *connection,
                                               const uint8_t *bytes, size_t count)
{
    struct payload_job *job = &connection->payload;
    if (job->at == job->request.payload) {
        job->active = false;
        park_rest(connection, &job->request, count, bytes);
    } else {
        job->error =
            park_part(connection, &job->request, job->at - count, count, bytes, &job->is_parked);
    }
}

void commands_feed_payload(struct connection *connection, struct input *input)
{
    struct payload_job *job = &connection->payload;
    uint64_t missing = job->request.payload - job->at;
    size_t n = input->left < missing ? input->left : (size_t)missing;
    const uint8_t *bytes = input_consume(input, n);
    size_t done;
    int r = job->error;
    if (r == 0)
        r = disk_try_write(connection->service->disk, job->request.offset + job->at, n, bytes,
                           &done);
    turn_spend(&connection->worker->turn, n);
    job->at += n;
    if (job->error == 0 && r == -EAGAIN) {
        park_payload(connection, bytes + done, n - done);
        return;
    }
    job->error = r;
    end_payload_if_whole(connection);
}

void commands_begin_payload(struct connection *connection, const struct nbd_request *request,
                            int error, struct input *input)
{
    connection->payload =
        (struct payload_job){.request = *request, .error = error, .active = true};
    commands_feed_payload(connection, input);
}

void commands_payload_filled(struct connection *connection, size_t n, int error)
{
    struct payload_job *job = &connection->payload;
    if (error)
        job->error = error;
    job->at += n;
    turn_spend(&connection->worker->turn, n);
    end_payload_if_whole(connection);
}

void commands_end_parked(struct connection *connection)
{
    struct park_job *job = park_take_finished(&connection->parked);
    if (!job->is_part) {
        if (job->request.type == NBD_CMD_WRITE && job->error == 0)
            counter_add(&connection->worker->counters.received, job->request.length);
        answer_request(connection, &job->request, job->error);
    } else if (connection->payload.is_parked) {
        connection->payload.is_parked = false;
        connection->payload.error = job->error;
    } else {
        connection->zeroing.is_parked = false;
        connection->zeroing.at += job->count;
        end_zeroing_if_whole(connection, job->error);
    }
    free(job);
    hold_or_release(connection);
}

/* Each function in this section is the handler of one command.  The handlers are called by
 * commands_carry_out. */

static void carry_out_read(struct connection *connection, struct nbd_request *request,
                           struct input *payload)
{
    (void)payload;
    counter_add(&connection->worker->counters.sent, request->length);
    replies_add_read(connection);
}

static void carry_out_write(struct connection *connection, struct nbd_request *request,
                            struct input *payload)
{
    size_t n = (size_t)request->payload, done;
    const uint8_t *bytes = input_consume(payload, n);
    int error = disk_try_write(connection->service->disk, request->offset, n, bytes, &done);
    turn_spend(&connection->worker->turn, n);
    if (error == -EAGAIN) {
        park_rest(connection, request, n - done, bytes + done);
        return;
    }
    if (error == 0)
        counter_add(&connection->worker->counters.received, n);
    answer_request(connection, request, error);
}

/* Carry out a DISC.  No reply is added, because NBD has none for this command. */
static void carry_out_disconnect(struct connection *connection, struct nbd_request *request,
                                 struct input *payload)
{
    (void)request, (void)payload;
    connection->state = CONNECTION_DRAINING;
}

/* A flush command is answered at once.  The disk exists only in memory, so there is no storage to
 * which data have to be written. */
static void carry_out_flush(struct connection *connection, struct nbd_request *request,
                            struct input *payload)
{
    (void)payload;
    answer_request(connection, request, 0);
}

/* A cache command is answered at once.  There is no storage that is faster than memory, so there
 * is nothing to load. */
static void carry_out_cache(struct connection *connection, struct nbd_request *request,
                            struct input *payload)
{
    (void)payload;
    answer_request(connection, request, 0);
}

static void carry_out_write_zeroes(struct connection *connection, struct nbd_request *request,
                                   struct input *payload)
{
    struct disk *disk = connection->service->disk;
    bool provide = request->flags & NBD_CMD_FLAG_NO_HOLE;
    (void)payload;
    if (request->length <= COMMANDS_ZERO_SLICE) {
        uint64_t done;
        int error = try_zero_or_trim(connection, request, 0, request->length, &done);
        turn_spend(&connection->worker->turn, (size_t)request->length);
        if (error == -EAGAIN)
            park_rest(connection, request, request->length - done, NULL);
        else
            answer_request(connection, request, error);
    } else if (provide && !disk_could_provide(disk, request->length)) {
        answer_request(connection, request, -ENOSPC);
    } else {
        connection->zeroing =
            (struct zero_job){.request = *request, .slice = COMMANDS_ZERO_SLICE, .active = true};
    }
}

static void carry_out_trim(struct connection *connection, struct nbd_request *request,
                           struct input *payload)
{
    carry_out_write_zeroes(connection, request, payload);
}

/* Carry out a block status.  If the client uses extended headers, the request may have a payload,
 * which names the contexts that the client asks about. */
static void carry_out_block_status(struct connection *connection, struct nbd_request *request,
                                   struct input *payload)
{
    bool wanted = true;
    int r = 0;
    if (request->payload) {
        const uint8_t *bytes = input_consume(payload, (size_t)request->payload);
        r = nbd_request_parse_status(&connection->session, bytes, request, &wanted);
        request->payload = 0;
        if (r == 0)
            r = nbd_request_check(&connection->service->export, &connection->session, request);
    }
    if (r < 0 || !wanted)
        answer_request(connection, request, r);
    else
        replies_add_status(connection, request);
}

/* The switch has a case for every row of NBD_COMMAND_LIST.  If a command has no handler, the
 * build fails.
 *
 * A switch is faster than a table of functions, because the compiler inlines the handlers of
 * reads and writes.  A small request takes 1,000 instructions with the switch, and 1,008 with a
 * table. */
void commands_carry_out(struct connection *connection, struct nbd_request *request,
                        struct input *payload)
{
#define CASE(NAME, name, ...)                                                                    \
    case NBD_CMD_##NAME:                                                                         \
        carry_out_##name(connection, request, payload);                                          \
        return;
    switch (request->type) {
        NBD_COMMAND_LIST(CASE)
    default:
        answer_request(connection, request, -EINVAL);
    }
}
