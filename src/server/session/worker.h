/* SPDX-License-Identifier: BSD-3-Clause */

/* worker - what a step of a connection borrows from its loop
 *
 * A loop has one worker, and lends it to the connection whose step it is making.  So a connection
 * that does nothing costs a few hundred bytes: all buffers are here.  A step leaves the scratch
 * empty (scratch_is_empty): what could not be sent or processed is copied to the connection.
 *
 * Passive: this header includes nothing that acts.
 *
 * Threads: the loop's own, but for `counters`, which any thread may read.
 */

#ifndef NBDRAM_SERVER_SESSION_WORKER_H
#define NBDRAM_SERVER_SESSION_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "nbd/command.h"
#include "nbd/handshake.h"
#include "nbd/wire.h"
#include "server/session/turn.h"

#define SCRATCH_IN (160u << 10)   /* bytes received in one piece */
#define SCRATCH_OUT (256u << 10)  /* bytes: headers, block states, decompressed pages */
#define SCRATCH_READS 512u        /* reads accepted before their replies go out */
#define SCRATCH_VECTORS 1024u     /* IOV_MAX */
#define SCRATCH_LENT (512u << 10) /* bytes sent in one piece */

_Static_assert(SCRATCH_IN >= NBD_HANDSHAKE_IN, "the longest option does not fit");

/* A read whose reply is on its way out, in one piece (simple replies, DF) or chunk by chunk. */
struct read_job {
    struct nbd_request request;
    uint64_t offset, left; /* the range of which no data were sent yet */
    uint64_t promised;     /* bytes of that range that a header sent before has announced */
};

struct scratch {
    struct iovec vectors[SCRATCH_VECTORS];
    struct read_job reads[SCRATCH_READS];
    unsigned read_count;
    struct wire_writer replies; /* into `out` */
    uint8_t out[SCRATCH_OUT];
    uint8_t in[SCRATCH_IN];
};

/* Forget the replies in `out`.  A fresh scratch, all zeroes, needs this too. */
static inline void scratch_clear_out(struct scratch *scratch)
{
    scratch->replies = wire_write(scratch->out, SCRATCH_OUT);
}

/* Whether no reply waits in it. */
static inline bool scratch_is_empty(const struct scratch *scratch)
{
    return scratch->replies.at == scratch->out && scratch->read_count == 0;
}

/* What the loop's thread has done.  Relaxed: numbers for people, which guard nothing. */
struct counters {
    _Atomic uint64_t requests[NBD_COMMANDS];
    _Atomic uint64_t failed;   /* requests answered with an error */
    _Atomic uint64_t received; /* bytes of payload written to the disk */
    _Atomic uint64_t sent;     /* bytes read from the disk, those in holes included */
};

/* Only the loop's thread writes, so a load and a store are enough. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + n, memory_order_relaxed);
}

struct worker {
    struct scratch *scratch;
    struct counters counters;
    struct turn turn;
    unsigned requests_taken; /* since the loop last waited; see worker_count_request */
    bool stopping;           /* the server stops */
};

#define WORKER_SMALL_REQUEST (16u << 10) /* bytes, at most */

/* A request that moves so many bytes was taken in.  A large one counts as two, so that
 * requests_taken is 1 after exactly one small request (loop.c spins then). */
static inline void worker_count_request(struct worker *worker, uint64_t bytes)
{
    worker->requests_taken += bytes > WORKER_SMALL_REQUEST ? 2 : 1;
}

#endif
