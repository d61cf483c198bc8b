/* SPDX-License-Identifier: BSD-3-Clause */

/* commands - carry out requests
 *
 * The functions expect that a request was checked (nbd/command.h).  Each command has a handler in
 * commands.c.  The handler carries out the request, and adds the reply to the scratch
 * (replies.h).  If a request is not complete when its handler returns, it becomes a job:
 *
 *     read_job      a read.  replies.h sends the data later, with the other replies of the batch
 *     payload_job   a request whose payload is still arriving: a write, or a request that was
 *                   refused.  commands_feed_payload and commands_payload_filled continue the job
 *     zero_job      a trim or a write zeroes of a long range.  commands_zero_slice continues the
 *                   job by one slice.  Other connections may be served between two slices
 *     park_job      a write, trim or write zeroes that has to wait.  The threads of the park
 *                   carry it out (park.h), and commands_end_parked answers it.  Parts of a
 *                   payload job or a zero job are parked in the same way.  The job goes on when
 *                   the part has returned
 *
 * While a payload job or a zero job is active, the next request of the connection is not
 * processed.  The connection is HELD while a part of such a job is parked, or too many
 * requests are.
 *
 * Each function adds at most one reply.  The caller has to make sure that the reply fits into the
 * scratch (replies_are_full).
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

/* A range with more bytes than this is zeroed or trimmed in slices, and the first slice has at
 * most this many bytes.  A shorter range is zeroed or trimmed at once. */
#define COMMANDS_ZERO_SLICE ((uint64_t)256 << 10)

/* Carry out the request in replies_request_slot.  The request must have been accepted by
 * nbd_request_check.  If the request has a payload, `payload` must hold all of it.  The function
 * consumes the payload. */
void commands_carry_out(struct connection *connection, struct nbd_request *request,
                        struct input *payload);

/* Answer a request with an error, and do not carry it out.  The request must not have a payload.
 * `error` is -errno.  If -v is given, the refusal is logged. */
void commands_refuse(struct connection *connection, const struct nbd_request *request, int error);

/* Begin a payload job, which receives the rest of a request's payload.  If `error` is 0, the
 * request must be a legal write whose payload is not complete.  If `error` is -errno, the request
 * is refused with that error, and its payload is thrown away.  A refused request can be of any
 * type.  The function consumes the bytes of the payload that are in `input`. */
void commands_begin_payload(struct connection *connection, const struct nbd_request *request,
                            int error, struct input *input);

/* Continue the payload job that is active.  The function consumes the bytes of the payload that
 * are in `input`. */
void commands_feed_payload(struct connection *connection, struct input *input);

/* Continue the payload job that is active, after disk_fill has received n bytes of the payload.
 * `error` is 0, or the -errno that disk_fill returned. */
void commands_payload_filled(struct connection *connection, size_t n, int error);

/* Zero or trim the next slice of the zero job that is active. */
void commands_zero_slice(struct connection *connection);

/* Answer the first parked request that has finished, or continue the job of which it is a part.
 * The connection is released if nothing holds it any more. */
void commands_end_parked(struct connection *connection);

#endif
