/* SPDX-License-Identifier: BSD-3-Clause */

/* commands - carry out requests
 *
 * nbd/command.h says which requests are legal.  Each command has a handler in commands.c.  The
 * handler carries out a request, and adds the answer to the replies.  Some requests are not
 * complete when their handler returns.  They become jobs:
 *
 *     read_job      a read: replies.h sends the data, with the other replies of the batch
 *     payload_job   a request whose payload is still arriving: a write, or a request that was
 *                   refused.  commands_feed_payload and commands_payload_filled continue the job
 *     zero_job      a trim or a write zeroes of a long range.  commands_zero_slice continues the
 *                   job, and other connections have their turns between two slices
 *
 * While a payload job or a zero job is active, no further request of the connection is processed.
 *
 * Each function here adds at most one reply.  There must be room for it (replies_are_full).
 *
 * Threads: called by the thread of the connection's loop.
 */

#ifndef NBDRAM_SERVER_SESSION_COMMANDS_H
#define NBDRAM_SERVER_SESSION_COMMANDS_H

#include <stddef.h>
#include <stdint.h>

#include "nbd/command.h"
#include "server/session/input.h"
#include "server/session/state.h"

/* Long ranges are zeroed or trimmed in slices, and the first slice has this many bytes.  A range
 * that is not longer is zeroed or trimmed at once. */
#define COMMANDS_ZERO_SLICE ((uint64_t)1 << 20)

/* Carry out a request.  The request must have passed nbd_request_check, and must be at
 * replies_request_slot.  If it has a payload, `payload` must hold all of it.  Consumes the
 * payload. */
void commands_carry_out(struct connection *connection, struct nbd_request *request,
                        struct input *payload);

/* Refuse a request that has no payload: answer with the error (-errno), and log the refusal if -v
 * is given. */
void commands_refuse(struct connection *connection, const struct nbd_request *request, int error);

/* Begin a payload job.  If error is 0, the request must be a legal write whose payload has not
 * arrived completely.  If error is -errno, the request is refused with this error, and may be of
 * any type.  Consumes the part of the payload that is in `input`. */
void commands_begin_payload(struct connection *connection, const struct nbd_request *request,
                            int error, struct input *input);

/* Continue the active payload job.  Consumes the part of the payload that is in `input`. */
void commands_feed_payload(struct connection *connection, struct input *input);

/* Continue the active payload job after disk_fill has received n bytes of the payload into the
 * disk's memory.  error is the -errno that disk_fill returned, or 0. */
void commands_payload_filled(struct connection *connection, size_t n, int error);

/* Continue the active zero job by one slice. */
void commands_zero_slice(struct connection *connection);

#endif
