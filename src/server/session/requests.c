/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/requests.h"

#include <errno.h>

#include "server/session/commands.h"
#include "server/session/replies.h"

/* A payload of at least this many bytes is consumed as it arrives.  A smaller payload stays
 * unread until all of it has arrived. */
#define LARGE_PAYLOAD (16u << 10)

/* Carrying out a request takes some 200 ns, not counting the payload.  That is about as long as
 * copying this many bytes (turn.h). */
#define REQUEST_BYTES 2048u

enum outcome {
    TAKEN,      /* the request was carried out, answered, or turned into a job */
    INCOMPLETE, /* the rest of the request has to arrive first; nothing was consumed */
    HOPELESS,   /* the stream is out of step, or the payload is too long to be skipped */
};

/* Requests are parsed into replies_request_slot, because a read stays there.  If reads were
 * copied there, a small request would take a tenth longer: the processor is slow to load whole
 * words that it has just stored in parts. */
static enum outcome take_request(struct connection *connection, struct input *input)
{
    const struct nbd_export *export = &connection->service->export;
    struct nbd_request *request = replies_request_slot(connection);
    size_t size = nbd_request_size(connection->session.style);
    if (input->left < size)
        return INCOMPLETE;
    if (nbd_request_parse(connection->session.style, input->at, request) < 0 ||
        nbd_request_is_absurd(export, request))
        return HOPELESS;
    int error = nbd_request_check(export, &connection->session, request);
    if (error == 0 && request->payload > input->left - size && request->payload < LARGE_PAYLOAD)
        return INCOMPLETE;
    input_consume(input, size);
    connection->bulk = request->payload >= LARGE_PAYLOAD;
    worker_count_request(connection->worker, request->length);
    if (request->type < NBD_COMMANDS)
        counter_add(&connection->worker->counters.requests[request->type], 1);
    if (request->payload && (error || request->payload > input->left))
        commands_begin_payload(connection, request, error, input);
    else if (error)
        commands_refuse(connection, request, error);
    else
        commands_carry_out(connection, request, input);
    turn_spend(&connection->worker->turn, REQUEST_BYTES);
    return TAKEN;
}

int requests_take(struct connection *connection, struct input *input)
{
    enum outcome outcome = TAKEN;
    int r = 0;
    while (r == 0 && outcome == TAKEN && connection->state == CONNECTION_TRANSMISSION) {
        if (replies_are_full(connection))
            r = replies_flush(connection);
        else if (turn_is_over(&connection->worker->turn))
            r = -EAGAIN;
        else if (connection->zeroing.active)
            commands_zero_slice(connection);
        else if (connection->payload.active && input->left)
            commands_feed_payload(connection, input);
        else
            outcome = take_request(connection, input);
    }
    return outcome == HOPELESS ? -EPROTO : r;
}
