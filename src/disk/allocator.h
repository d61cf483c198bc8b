/* SPDX-License-Identifier: BSD-3-Clause */

/* allocator - the strategy that keeps a disk's bytes in memory
 *
 * An allocator is one constant struct allocator, defined in the file that implements it, and one
 * row of allocators[] (allocators.c).  No other code of src/ names the allocator: the grammar of
 * allocator=, the help texts and both fronts read the row.  disk.c checks each request and calls
 * the slot of the same name.  The comment above a slot is its contract.
 *
 * UNITS.    Offsets and counts are bytes.  A range is (offset, count), half-open.  disk.c has
 *           checked that the range lies within the disk, and that count is not 0.
 * STATE.    create makes the state of one disk, and destroy ends it.  Every other slot gets the
 *           state as its first argument.  Two disks share nothing.
 * THREADS.  create, start and destroy have the state to themselves.  Every other slot may be
 *           called from any thread, at the same time as any other, on the same bytes.
 * ERRORS.   A slot returns 0 or -errno, and only the values that its contract lists.  Running out
 *           of memory is an ordinary error: no stored data is lost.  An allocator that uses a
 *           file or a device may also return -EIO from any slot that returns int; the server and
 *           the plugin pass that error on to the client.
 * WAITING.  To wait is to block: for a grace period, for the compressor, for a device, or for
 *           memory that others give back.  The try_ slots, lend, and read inside a section must
 *           not wait.  Their thread has other clients, which would have to wait, too.
 */

#ifndef NBDRAM_DISK_ALLOCATOR_H
#define NBDRAM_DISK_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct budget; /* declared here, explained in disk/memory/budget.h */

/* These types are declared here, and explained in disk.h.  This header does not include disk.h,
 * so that neither of the two headers needs the other. */
struct disk_cache;
struct disk_options;
struct disk_piece;
struct disk_stats;
struct reason; /* text/reason.h */
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);

struct allocator {
    /* The allocator's name and properties. */

    const char *name;    /* what a person types after allocator=; lower case, no comma */
    const char *summary; /* for help texts: at most 51 columns, no full stop */
    uint32_t page_size;  /* bytes, a power of two, at most 64 KiB; aligned requests are fastest */

    bool takes_mlock; /* accepts mlock=BOOL, which keeps memory from being swapped out */
    bool takes_level; /* accepts level=N, from DISK_LEVEL_MIN to DISK_LEVEL_MAX */
    bool takes_all;   /* takes the memory for the whole disk when the disk is made */
    bool packs;       /* packs pages in order to free memory; the budget then has a keepback */

    /* Life. */

    /* Make the state of a disk of options->size bytes, and store it in *state.  Memory that grows
     * with the disk is taken from budget and given back to it; an allocator that takes no memory
     * may ignore the budget.  The budget outlives the state.  options need not outlive the call.
     * The process may still fork after this call, so create must neither start threads nor lock
     * memory.  Returns 0 or -errno.  On an error everything is undone.
     * -ENOMEM: too little memory.  -EPERM: the process may not lock that much memory. */
    int (*create)(const struct disk_options *options, struct budget *budget, void **state);

    /* Start threads and lock memory.  Called at most once, after the last fork and before the
     * first request.  After an error only destroy may be called.
     * -ENOMEM: too little memory.  -EAGAIN: a thread cannot be started.  -EPERM: the process may
     * not lock that much memory. */
    int (*start)(void *state);

    /* Stop the threads, free everything, and give all memory back to the budget.  No request is
     * running, and none will follow.  destroy is also called if start failed or was never
     * called. */
    void (*destroy)(void *state);

    /* Requests. */

    /* Make and free a cache of unpacked pages, as disk_cache_create and disk_cache_destroy do.
     * cache_create sets *cache to NULL if the allocator packs nothing, or if the budget has no
     * room for a cache. */
    int (*cache_create)(void *state, struct disk_cache **cache);
    void (*cache_destroy)(void *state, struct disk_cache *cache);

    /* Copy the range to buf, which holds count bytes and belongs to the caller.  cache may be
     * NULL.  No other thread may use the cache during the call.
     * -ENOMEM: a packed page could not be unpacked.  Some bytes of buf may then be bytes of the
     * disk; the others are unchanged. */
    int (*read)(void *state, struct disk_cache *cache, uint64_t offset, size_t count, void *buf);

    /* Copy count bytes from buf, which belongs to the caller, to the range.
     * -ENOSPC: the budget is used up, and no room could be made.  In each page, the range then
     * holds either the old bytes or the new ones. */
    int (*write)(void *state, uint64_t offset, size_t count, const void *buf);

    /* As write, but without waiting.  *done is 0 on entry.
     * -EAGAIN: the first *done bytes are written.  The other bytes of the range are unchanged,
     * and writing them needs a wait. */
    int (*try_write)(void *state, uint64_t offset, size_t count, const void *buf, size_t *done);

    /* Begin and end a section in which memory may be lent for sending.  A section belongs to the
     * thread that began it.  Until the section ends, its thread may call only lend and read.
     * Sections do not nest.  A section keeps the memory of every page in place: memory that is
     * freed during a section is not reused before the section ends. */
    void (*lend_begin)(void *state);
    void (*lend_end)(void *state);

    /* Called inside a section for sending.  Describes a piece at the start of the range in
     * *piece.  A piece is of one kind (enum disk_piece_kind), and a piece of data is contiguous
     * in memory.  The piece is as long as possible, but a long one may be cut short; its count is
     * never 0.  The kind DISK_PIECE_PACKED means that the bytes cannot be lent: the caller reads
     * them with read, one page at a time.  piece->base belongs to the allocator, and is valid
     * until lend_end. */
    void (*lend)(void *state, uint64_t offset, size_t count, struct disk_piece *piece);

    /* Lend memory to fn: for the whole range, or for a part at its start.  fn receives bytes into
     * this memory.  The received bytes then become part of the disk, as if by write.  The
     * contract is that of disk_fill.  fn is called at most once, on the caller's thread, inside a
     * section.  fill waits for nothing, and does not fail after fn was called.  *lent is 0 on
     * entry.
     * -ENOBUFS: no memory can be lent at offset without waiting, and fn was not called.  Any
     * other negative value is what fn returned. */
    ssize_t (*fill)(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                    void *opaque);

    /* Make the range read as zeroes.  flags is 0 or DISK_NO_HOLE.  Without DISK_NO_HOLE, whole
     * pages are freed, if the allocator ever frees memory.  With DISK_NO_HOLE, memory is provided
     * for the whole range.  The memory of each byte is then kept until that byte is trimmed, or
     * is zeroed without the flag.
     * -ENOSPC: as in write. */
    int (*zero)(void *state, uint64_t offset, uint64_t count, unsigned flags);

    /* As zero without flags, except that a lack of memory is not an error.  Instead, if the range
     * covers only a part of a packed page, that part may keep its bytes. */
    int (*trim)(void *state, uint64_t offset, uint64_t count);

    /* As zero, but without waiting.  -EAGAIN: as in try_write.  A trim that must not wait is a
     * try_zero without flags. */
    int (*try_zero)(void *state, uint64_t offset, uint64_t count, unsigned flags, uint64_t *done);

    /* Report the range to fn as holes and data, in order, without gap or overlap.  No extent is
     * empty.  fn is called on the caller's thread, outside of any section.  If fn returns a value
     * other than 0, the rest of the range is not reported, and extents returns that value.
     * Otherwise extents returns 0. */
    int (*extents)(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                   void *opaque);

    /* The whole disk. */

    /* From now on no request waits for room: a request that finds no room fails with -ENOSPC. */
    void (*give_up_waiting)(void *state);

    /* Wait until background work has caught up with all earlier requests.  Freed memory is then
     * back with the system, and every page that can be packed is packed.  Never fails. */
    int (*settle)(void *state);

    /* Fill in stats->pages, compressed and blob_bytes.  disk.c has set these three to 0, and
     * fills in the other fields itself.  While requests are running, the counts may be out of
     * date when stats returns.  After settle, if no request is running, they are exact. */
    void (*stats)(void *state, struct disk_stats *stats);

    /* For tests and debug builds: verify the allocator's invariants, and that the budget is
     * charged for exactly the memory that the allocator has.  No request may be running.  Free
     * memory may be given back first.  Returns 0, -EUCLEAN or -ENOMEM.  If it returns -EUCLEAN,
     * reason names the broken invariant. */
    int (*check)(void *state, struct reason *reason);
};

/* Every allocator, in the order in which the help texts list them.  The first is the default.
 * NULL ends the list. */
extern const struct allocator *const allocators[];

extern const struct allocator allocator_sparse; /* paged/sparse.c */
extern const struct allocator allocator_malloc; /* flat.c */
extern const struct allocator allocator_zstd;   /* zstd/zstd.c */

#endif
