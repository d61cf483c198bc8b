/* SPDX-License-Identifier: BSD-3-Clause */

/* worker - the buffers, the counters and the turn that a loop lends to the connection that is
 * being served
 *
 * A loop has one worker.  It lends the worker to one connection after the other, each time for
 * one call of connection_step.  All large buffers are here, so an idle connection takes only a
 * few hundred bytes.  After each call the scratch is empty (scratch_is_empty).  Bytes that could
 * not be sent or processed are then in the connection.
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
#include "server/session/park.h"
#include "server/session/turn.h"

#define SCRATCH_IN (160u << 10)  /* the most bytes that one receive call takes */
#define SCRATCH_OUT (256u << 10) /* bytes for reply headers, descriptors and decompressed pages */
#define SCRATCH_READS 512u       /* the most reads that are collected before replies are sent */
#define SCRATCH_VECTORS 1024u    /* IOV_MAX */
#define SCRATCH_LENT (512u << 10) /* once a send has this many bytes, no data are added to it */

_Static_assert(SCRATCH_IN >= NBD_HANDSHAKE_IN, "the longest option does not fit");

struct disk_cache; /* disk/disk.h */

/* A read whose reply is not completely sent.  The data are sent as a whole (simple replies, DF),
 * or in chunks. */
struct read_job {
    struct nbd_request request;
    uint64_t offset, left; /* the range of the data that are not sent yet */
    uint64_t promised;     /* how many of the `left` bytes a header has announced already */
};

struct scratch {
    struct iovec vectors[SCRATCH_VECTORS]; /* the buffers of the next send */
    struct read_job reads[SCRATCH_READS];  /* reads that replies_flush will answer */
    unsigned read_count;
    struct wire_writer replies; /* a writer that puts replies into `out` */
    uint8_t out[SCRATCH_OUT];
    uint8_t in[SCRATCH_IN]; /* received bytes that are being processed */
};

/* Remove all replies from `out`.  A new scratch is all zeroes, and this function has to be called
 * before its first use. */
static inline void scratch_clear_out(struct scratch *scratch)
{
    scratch->replies = wire_write(scratch->out, SCRATCH_OUT);
}

/* Whether the scratch holds no replies and no reads. */
static inline bool scratch_is_empty(const struct scratch *scratch)
{
    return scratch->replies.at == scratch->out && scratch->read_count == 0;
}

/* Counters of the work of one loop.  They are for statistics only, and no other data depend on
 * them.  So relaxed order is enough for all accesses. */
struct counters {
    _Atomic uint64_t requests[NBD_COMMANDS];
    _Atomic uint64_t failed;   /* requests that were answered with an error */
    _Atomic uint64_t parked;   /* jobs of the park (park.h) */
    _Atomic uint64_t received; /* bytes of payload written to the disk */
    _Atomic uint64_t sent;     /* bytes read from the disk, including holes */
};

/* Add n to a counter.  Only the thread of one loop adds to this counter, so the addition need not
 * be atomic. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + n, memory_order_relaxed);
}

struct worker {
    struct scratch *scratch;
    struct disk_cache *cache; /* the pages that this loop decompressed last; NULL: not needed */
    struct park *park;
    struct park_returns returns; /* jobs of the park that return to this loop */
    struct counters counters;
    struct turn turn;
    unsigned requests_taken; /* requests since the last epoll_wait; a large one counts as 2 */
    bool stopping;           /* the server is stopping */
};

#define WORKER_SMALL_REQUEST (16u << 10) /* a request that moves more bytes than this is large */

/* Count a request that moves `bytes` bytes.  A small request counts as 1, and a large one as 2.
 * So requests_taken is 1 only if there was exactly one request, and it was small.  Only then does
 * the loop spin before it sleeps (SPIN_NANOSECONDS in loop.c). */
static inline void worker_count_request(struct worker *worker, uint64_t bytes)
{
    worker->requests_taken += bytes > WORKER_SMALL_REQUEST ? 2 : 1;
}

#endif
