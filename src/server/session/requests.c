/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/requests.h"

#include <errno.h>

#include "server/session/commands.h"
#include "server/session/replies.h"

/* If a payload has at least this many bytes, its bytes are consumed as they arrive.  A smaller
 * payload is consumed when all of it has arrived. */
#define LARGE_PAYLOAD (16u << 10)

/* It takes some 200 ns to carry out a request, without the copying of its payload.  In this time
 * the processor can copy about this many bytes (turn.h). */
#define REQUEST_BYTES 2048u

enum outcome {
    TAKEN,      /* the request was carried out, answered, or turned into a job */
    INCOMPLETE, /* the request is not complete; nothing was consumed */
    HOPELESS,   /* the magic number is wrong, or the payload is too long to be skipped */
};

/* Take one request from the input.  The request is parsed into replies_request_slot, so that a
 * read need not be copied there later.  The copy would make a small request 10 % slower.  It
 * would load whole words just after the parser has stored them in parts, and processors are slow
 * at that. */
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

static enum outcome continue_job(struct connection *connection, struct input *input)
{
    if (connection->zeroing.active)
        commands_zero_slice(connection);
    else if (input->left)
        commands_feed_payload(connection, input);
    else
        return INCOMPLETE;
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
        else if (connection->zeroing.active | connection->payload.active)
            outcome = continue_job(connection, input);
        else
            outcome = take_request(connection, input);
    }
    return outcome == HOPELESS ? -EPROTO : r;
}
