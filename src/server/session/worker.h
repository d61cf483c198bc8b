/* SPDX-License-Identifier: BSD-3-Clause */

/* worker - the buffers, counters and turn that a connection borrows from its loop for a step
 *
 * A loop has one worker, and lends the worker to one connection after the other, each time for
 * one step.  All large buffers are here, so an idle connection takes only a few hundred bytes.  A
 * step leaves the scratch empty (scratch_is_empty).  Bytes that could not be sent or processed
 * are copied to the connection.
 *
 * Threads: a worker belongs to the thread of its loop, except that any thread may read
 * `counters`.
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

#define SCRATCH_IN (160u << 10)   /* the most bytes received at once */
#define SCRATCH_OUT (256u << 10)  /* bytes of headers, block states and decompressed pages */
#define SCRATCH_READS 512u        /* the most reads accepted before their replies are sent */
#define SCRATCH_VECTORS 1024u     /* IOV_MAX */
#define SCRATCH_LENT (512u << 10) /* a send with this many bytes gets no more data */

_Static_assert(SCRATCH_IN >= NBD_HANDSHAKE_IN, "the longest option does not fit");

struct disk_cache; /* disk/disk.h */

/* A read whose reply is being sent: in one piece (simple replies, DF), or chunk by chunk. */
struct read_job {
    struct nbd_request request;
    uint64_t offset, left; /* where the unsent data begin, and how many bytes they have */
    uint64_t promised;     /* the number of unsent bytes that a header has already announced */
};

struct scratch {
    struct iovec vectors[SCRATCH_VECTORS]; /* the bytes of the next send */
    struct read_job reads[SCRATCH_READS];  /* reads that the next flush answers */
    unsigned read_count;
    struct wire_writer replies; /* the writer that fills `out` */
    uint8_t out[SCRATCH_OUT];
    uint8_t in[SCRATCH_IN]; /* bytes that were received */
};

/* Drop the replies in `out`.  To be called also for a new scratch, which is all zeroes. */
static inline void scratch_clear_out(struct scratch *scratch)
{
    scratch->replies = wire_write(scratch->out, SCRATCH_OUT);
}

/* Whether the scratch holds no reply. */
static inline bool scratch_is_empty(const struct scratch *scratch)
{
    return scratch->replies.at == scratch->out && scratch->read_count == 0;
}

/* Counters of the work that the loop's thread has done so far.  All accesses have relaxed order,
 * because the counters are only for people, and guard nothing. */
struct counters {
    _Atomic uint64_t requests[NBD_COMMANDS];
    _Atomic uint64_t failed;   /* requests answered with an error */
    _Atomic uint64_t received; /* bytes of payload written to the disk */
    _Atomic uint64_t sent;     /* bytes read from the disk, including holes */
};

/* Add n to a counter.  Only the loop's thread adds to its counters, so a load and a store are
 * enough. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + n, memory_order_relaxed);
}

struct worker {
    struct scratch *scratch;
    struct disk_cache *cache; /* pages inflated by this loop; NULL if the disk needs no cache */
    struct counters counters;
    struct turn turn;
    unsigned requests_taken; /* requests since the loop's last wait; large ones count twice */
    bool stopping;           /* the server is stopping */
};

#define WORKER_SMALL_REQUEST (16u << 10) /* a small request moves at most this many bytes */

/* Count a request that moves `bytes` bytes.  A large request counts as two.  So if requests_taken
 * is 1, there was exactly one request, and it was small.  Only in this case loop.c spins. */
static inline void worker_count_request(struct worker *worker, uint64_t bytes)
{
    worker->requests_taken += bytes > WORKER_SMALL_REQUEST ? 2 : 1;
}

#endif
