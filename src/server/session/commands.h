/* SPDX-License-Identifier: BSD-3-Clause */

/* commands - legal requests are carried out here
 *
 * nbd/command.h says which requests are legal.  Each command has a handler (commands.c), which
 * carries it out at once and adds its answer to the replies, or turns it into a job that goes on
 * later:
 *
 *     read_job      a read: planned and sent by replies.h, at the end of the batch
 *     payload_job   a write whose payload is still arriving: fed by commands_feed_payload and
 *                   commands_payload_filled
 *     zero_job      a trim or write zeroes of a long range: goes on by commands_zero_slice, with
 *                   other connections' turns between the slices
 *
 * While a payload or zero job is active, no further request of the connection is taken.
 *
 * For all of these there must be room for one more reply (replies_are_full).
 *
 * Threads: the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_COMMANDS_H
#define NBDRAM_SERVER_SESSION_COMMANDS_H

#include <stddef.h>
#include <stdint.h>

#include "nbd/command.h"
#include "server/session/input.h"
#include "server/session/state.h"

/* Bytes of a long range that are zeroed or trimmed in one go at first. */
#define COMMANDS_ZERO_SLICE ((uint64_t)1 << 20)

/* Carry out a request that nbd_request_check accepts.  Its payload, if it has one, is at the
 * front of payload as a whole, and is consumed.  The request must be the one of
 * replies_request_slot. */
void commands_carry_out(struct connection *connection, struct nbd_request *request,
                        struct input *payload);

/* Answer a request without a payload with an error (-errno), and log that (-v). */
void commands_refuse(struct connection *connection, const struct nbd_request *request, int error);

/* Begin a payload job: a legal write of which only a part has arrived (error 0), or any request
 * with a payload that is refused with error.  Consumes as much of input as belongs to the
 * payload. */
void commands_begin_payload(struct connection *connection, const struct nbd_request *request,
                            int error, struct input *input);

/* Go on with the active payload job.  Consumes as much of input as belongs to the payload. */
void commands_feed_payload(struct connection *connection, struct input *input);

/* n more bytes of the active payload job have been received into the disk's memory; error: what
 * the disk said to that, 0 or -errno. */
void commands_payload_filled(struct connection *connection, size_t n, int error);

/* Go on with the active zero job, by one slice. */
void commands_zero_slice(struct connection *connection);

#endif
