/* SPDX-License-Identifier: BSD-3-Clause */

/* commands - carrying out requests
 *
 * nbd/command.h says which requests are legal.  Each command has a handler in commands.c, which
 * carries out a request and adds its answer to the replies.  Some requests are not complete when
 * their handler returns, and become jobs:
 *
 *     read_job      a read: replies.h sends its data, with the others of the batch
 *     payload_job   a write whose payload is still arriving: commands_feed_payload and
 *                   commands_payload_filled go on with it
 *     zero_job      a trim or a write zeroes of a long range: commands_zero_slice goes on with
 *                   it, and other connections have their turns between the slices
 *
 * While a payload job or a zero job is active, no further request of the connection is processed.
 *
 * Each function here adds at most one reply, for which there must be room (replies_are_full).
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

/* The first slice of a long range to zero or trim, bytes; a shorter range is done at once. */
#define COMMANDS_ZERO_SLICE ((uint64_t)1 << 20)

/* Carry out a request that nbd_request_check accepts, and that is at replies_request_slot.  If it
 * has a payload, all of that is in `payload`, and is consumed. */
void commands_carry_out(struct connection *connection, struct nbd_request *request,
                        struct input *payload);

/* Answer a request without a payload with an error (-errno), and log that (-v). */
void commands_refuse(struct connection *connection, const struct nbd_request *request, int error);

/* Begin a payload job: for a legal write of which only a part has arrived (error is 0), or for
 * any refused request with a payload (error is -errno).  The part of the payload that is in input
 * is consumed. */
void commands_begin_payload(struct connection *connection, const struct nbd_request *request,
                            int error, struct input *input);

/* Go on with the active payload job.  The part of the payload that is in input is consumed. */
void commands_feed_payload(struct connection *connection, struct input *input);

/* Count n bytes of the active payload job as received into the disk's memory.  error is what
 * disk_fill returned, if that was negative, and otherwise 0. */
void commands_payload_filled(struct connection *connection, size_t n, int error);

/* Go on with the active zero job, by one slice. */
void commands_zero_slice(struct connection *connection);

#endif
