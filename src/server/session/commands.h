/* SPDX-License-Identifier: BSD-3-Clause */

/* commands - carry out requests
 *
 * nbd/command.h says which requests are legal.  Each command has a handler in commands.c, which
 * carries out a request and adds its answer to the replies.  Some requests are not complete when
 * their handler returns, and become jobs:
 *
 *     read_job      a read: replies.h sends its data, with the other replies of the batch
 *     payload_job   a write or a refused request whose payload is still arriving:
 *                   commands_feed_payload and commands_payload_filled continue the job
 *     zero_job      a trim or a write zeroes of a long range: commands_zero_slice continues the
 *                   job, and other connections have their turns between the slices
 *
 * While a payload job or a zero job is active, no further request of the connection is processed.
 *
 * Each function here adds at most one reply, for which there must be room (replies_are_full).
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

/* Bytes of the first slice of a long range to zero or trim.  A range that is not longer than this
 * is zeroed or trimmed at once. */
#define COMMANDS_ZERO_SLICE ((uint64_t)1 << 20)

/* Carry out a request that nbd_request_check accepts, and that is at replies_request_slot.  If
 * the request has a payload, `payload` must hold all of it, and the payload is consumed. */
void commands_carry_out(struct connection *connection, struct nbd_request *request,
                        struct input *payload);

/* Answer a request without a payload with an error (-errno), and log the refusal (-v). */
void commands_refuse(struct connection *connection, const struct nbd_request *request, int error);

/* Begin a payload job: for a legal write of which only a part has arrived (error is 0), or for
 * any refused request with a payload (error is -errno).  Consumes the part of the payload that is
 * in input. */
void commands_begin_payload(struct connection *connection, const struct nbd_request *request,
                            int error, struct input *input);

/* Continue the active payload job.  Consumes the part of the payload that is in input. */
void commands_feed_payload(struct connection *connection, struct input *input);

/* Count n bytes of the active payload job as received into the disk's memory.  error is the
 * result of disk_fill if that was negative, else 0. */
void commands_payload_filled(struct connection *connection, size_t n, int error);

/* Continue the active zero job by one slice. */
void commands_zero_slice(struct connection *connection);

#endif
