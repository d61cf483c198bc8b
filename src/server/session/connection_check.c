/* SPDX-License-Identifier: BSD-3-Clause */

/* Verify the invariants of a connection.  Each message begins with the number of an invariant in
 * state.h. */

#include <errno.h>

#include "server/session/connection.h"
#include "text/reason.h"

static bool is_buffer_valid(const struct buffer *buffer)
{
    return buffer_is_empty(buffer) ? buffer->at == 0 && buffer->size == 0
                                   : buffer->at < buffer->size;
}

static const char *broken_in_rule(const struct connection *connection)
{
    const struct payload_job *payload = &connection->payload;
    const struct zero_job *zeroing = &connection->zeroing;
    enum connection_state state = connection->state;
    if ((state == CONNECTION_HANDSHAKE || state == CONNECTION_TLS) && !connection->handshake)
        return "1: a handshake is under way, and there is none";
    if (state == CONNECTION_TRANSMISSION && connection->handshake)
        return "1: the handshake is over, and is still there";
    if (!is_buffer_valid(&connection->unread) || !is_buffer_valid(&connection->unsent))
        return "2: a buffer is consumed, and was not dropped";
    if (connection->unread_ready && buffer_is_empty(&connection->unread))
        return "3: nothing is unread, and it is ready";
    if (payload->active && (!buffer_is_empty(&connection->unread) || zeroing->active))
        return "4: bytes are unread, or a range is zeroed, while a payload arrives";
    if (payload->active && payload->at >= payload->request.payload)
        return "5: a payload has arrived, and was not answered";
    if (payload->active && payload->error == 0 && payload->request.type != NBD_CMD_WRITE)
        return "5: the payload of something that is not a write goes to the disk";
    if (zeroing->active && (zeroing->at >= zeroing->request.length || zeroing->slice == 0))
        return "6: a range is zeroed, and was not answered";
    return NULL;
}

static const char *broken_parking_rule(const struct connection *connection)
{
    const struct payload_job *payload = &connection->payload;
    const struct zero_job *zeroing = &connection->zeroing;
    enum connection_state state = connection->state;
    const struct park_job *job;
    unsigned finished = 0;
    TAILQ_FOREACH(job, &connection->parked.finished, link)
    finished++;
    if (connection->parked.count > PARK_JOBS_MAX || finished > connection->parked.count)
        return "9: the number of parked requests is wrong";
    if (connection->parked.count && (connection->handshake || state == CONNECTION_LINGERING))
        return "9: a request is parked before transmission or after it";
    if ((payload->is_parked && !payload->active) || (zeroing->is_parked && !zeroing->active))
        return "10: a part of a job is parked, and there is no job";
    if ((payload->is_parked || zeroing->is_parked) && connection->parked.count == 0)
        return "10: a part of a job is parked, and nothing is";
    if ((payload->is_parked || zeroing->is_parked) && state == CONNECTION_TRANSMISSION)
        return "10: a part of a job is parked, and further requests are taken";
    if (state == CONNECTION_HELD && connection->parked.count == 0)
        return "11: the connection is held, and by nothing";
    return NULL;
}

static bool is_waiting_read_valid(const struct read_job *job, bool is_first)
{
    uint64_t end = job->request.offset + job->request.length;
    return job->left > 0 && job->left <= job->request.length && job->offset + job->left == end &&
           job->promised <= job->left && (is_first || job->promised == 0);
}

static const char *broken_out_rule(const struct connection *connection)
{
    unsigned count = connection->waiting_count;
    if (!connection->waiting != !count || count > SCRATCH_READS)
        return "7: the number of waiting reads is wrong";
    for (unsigned i = 0; i < count; i++)
        if (!is_waiting_read_valid(&connection->waiting[i], i == 0))
            return "8: the range of a waiting read is wrong";
    return NULL;
}

int connection_check(const struct connection *connection, struct reason *reason)
{
    const char *broken = broken_in_rule(connection);
    if (!broken)
        broken = broken_out_rule(connection);
    if (!broken)
        broken = broken_parking_rule(connection);
    return broken ? reason_set(reason, -EUCLEAN, "connection: %s", broken) : 0;
}
