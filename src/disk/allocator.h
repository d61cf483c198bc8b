/* SPDX-License-Identifier: BSD-3-Clause */

/* allocator - the strategy that keeps a disk's bytes in memory
 *
 * An allocator is one constant struct allocator, defined in the file that implements it, and one
 * row of allocators[] (allocators.c).  No other code of src/ names it: the grammar of allocator=,
 * the help texts and both fronts read the row.  disk.c checks each request and calls the slot of
 * the same name; the contract of each slot is written beside it.
 *
 * UNITS.    Offsets and counts are bytes.  A range is (offset, count), half-open.  disk.c has
 *           checked it: it lies within the disk, and count is not 0.
 * STATE.    create makes the state of one disk, and destroy ends it.  Every other slot gets it as
 *           its first argument.  Nothing is shared between two disks.
 * THREADS.  create, start and destroy have the state to themselves.  Every other slot may be
 *           called from any thread, at the same time as any other, on the same bytes.
 * ERRORS.   A slot returns 0 or -errno, and only the values that its contract lists.  Running out
 *           of memory is an ordinary error, and loses nothing that was stored before.  Where a
 *           file or a device can fail, -EIO may be added to any slot that returns int: the server
 *           and the plugin pass it on to the client.
 * WAITING.  To wait is to stay for a grace period, for the compressor, for a device, or until
 *           somebody gives memory back.  The try_ slots, lend, and read inside a section must
 *           not: all other clients of the thread would stay as well.
 */

#ifndef NBDRAM_DISK_ALLOCATOR_H
#define NBDRAM_DISK_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct budget; /* disk/memory/budget.h */

/* disk.h explains these types.  It is not included here: disk.c uses both headers, and if one
 * included the other, they would make a circle. */
struct disk_cache;
struct disk_options;
struct disk_piece;
struct disk_stats;
struct reason; /* text/reason.h */
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);

struct allocator {
    /* Names and properties. */

    const char *name;    /* what a person types after allocator=; lower case, no comma */
    const char *summary; /* for help texts, whose lines have 51 columns for it; no full stop */
    uint32_t page_size;  /* bytes, a power of two, at most 64 KiB: aligned requests are fastest */

    bool takes_mlock; /* accepts mlock=BOOL: memory that is never swapped out */
    bool takes_level; /* accepts level=N, from DISK_LEVEL_MIN to DISK_LEVEL_MAX */
    bool takes_all;   /* takes the memory for the whole disk when the disk is made */
    bool packs;       /* frees memory by packing pages: the budget keeps some back for packing */

    /* Life. */

    /* Make the state of a disk of options->size bytes.  budget is the disk's and outlives the
     * state: all memory that grows with the disk is taken from the budget and given back to it.
     * An allocator that takes no memory may ignore the budget.  options need not outlive the
     * call.  The process may still fork, so create must start no thread, and must not lock memory
     * where a lock does not survive a fork.  Returns 0 and the state in *state; or an error,
     * after giving back everything that it took.
     * -ENOMEM: too little memory.  -EPERM: the process may not lock that much memory. */
    int (*create)(const struct disk_options *options, struct budget *budget, void **state);

    /* Start threads and lock memory, after the last fork and before the first request.  Called at
     * most once.  After an error only destroy may be called.
     * -ENOMEM, -EAGAIN: no memory, or no thread.  -EPERM: memory may not be locked. */
    int (*start)(void *state);

    /* Stop the threads, free everything, and give all memory back to the budget.  No request is
     * running and none will follow.  start may not have been called, or may have failed. */
    void (*destroy)(void *state);

    /* Requests. */

    /* Make and free a cache of unpacked pages, as disk_cache_create and disk_cache_destroy.  An
     * allocator that packs nothing makes NULL, and so does one whose budget has no room for a
     * cache. */
    int (*cache_create)(void *state, struct disk_cache **cache);
    void (*cache_destroy)(void *state, struct disk_cache *cache);

    /* Copy the range to buf, which holds count bytes and stays the caller's.  cache is NULL, or a
     * cache of the caller's, which no other thread uses during the call.
     * -ENOMEM: a packed page could not be unpacked.  Each byte of buf then is a byte of the disk,
     * or is as it was before the call. */
    int (*read)(void *state, struct disk_cache *cache, uint64_t offset, size_t count, void *buf);

    /* Copy count bytes from buf, which stays the caller's, to the range.
     * -ENOSPC: the budget is used up, and no room could be made.  Each page's part of the range
     * then holds the old bytes or the new ones. */
    int (*write)(void *state, uint64_t offset, size_t count, const void *buf);

    /* As write, but without waiting.  *done is 0 on entry.
     * -EAGAIN: the first *done bytes are written.  The other bytes of the range are as they were,
     * and writing them needs a wait. */
    int (*try_write)(void *state, uint64_t offset, size_t count, const void *buf, size_t *done);

    /* Begin and end a section in which memory may be lent for sending.  A section belongs to the
     * thread that began it.  Until it ends, that thread may call only lend and read.  Sections do
     * not nest.  A section keeps the memory of every page in place: memory that is freed during a
     * section is not reused before the section ends. */
    void (*lend_begin)(void *state);
    void (*lend_end)(void *state);

    /* Inside a section for sending: describe the longest piece at the start of the range that is
     * of one kind (enum disk_piece_kind) and, if it is data, contiguous in memory.
     * DISK_PIECE_PACKED is for any bytes that cannot be lent: the caller gets them by read, one
     * page at a time.  A long piece may be cut short, but never to 0 bytes.  piece->base stays
     * the allocator's and is good until lend_end. */
    void (*lend)(void *state, uint64_t offset, size_t count, struct disk_piece *piece);

    /* Lend memory for the range, or for a part at its start, to fn, which receives bytes into
     * that memory.  Then make the received bytes part of the disk, as write does.  The contract
     * is that of disk_fill.  fn is called at most once, on the caller's thread, inside a section.
     * *lent is 0 on entry.
     * -ENOBUFS: fn was not called, because no memory can be lent at offset.
     * -ENOSPC: as write, after fn was called.  Any other negative value is what fn returned. */
    ssize_t (*fill)(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                    void *opaque);

    /* Make the range read as zeroes.  flags is 0 or DISK_NO_HOLE.  Without DISK_NO_HOLE whole
     * pages are freed, if the allocator frees memory at all.  With DISK_NO_HOLE memory is
     * provided for the whole range.  The memory of each byte is then kept until that byte is
     * trimmed, or is zeroed without the flag.
     * -ENOSPC: as write. */
    int (*zero)(void *state, uint64_t offset, uint64_t count, unsigned flags);

    /* As zero without flags, but a lack of memory is not an error: if the range covers a part of
     * a packed page, that part may keep its bytes. */
    int (*trim)(void *state, uint64_t offset, uint64_t count);

    /* As zero, but without waiting.  -EAGAIN: as in try_write.  try_zero without flags also
     * serves as the trim that does not wait. */
    int (*try_zero)(void *state, uint64_t offset, uint64_t count, unsigned flags, uint64_t *done);

    /* Report the range to fn as holes and data, in order, without gap or overlap; no extent is
     * empty.  fn is called on the caller's thread, outside of any section.  If fn returns a value
     * other than 0, the rest of the range is not reported and that value is returned; otherwise
     * 0. */
    int (*extents)(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                   void *opaque);

    /* The whole disk. */

    /* From now on no request waits for room: a request that finds no room fails with -ENOSPC. */
    void (*give_up_waiting)(void *state);

    /* Wait until housekeeping has dealt with everything that requests left to it before the call:
     * freed memory is back with the system, and what can be packed is packed.  Never fails. */
    int (*settle)(void *state);

    /* Fill in stats->pages, compressed and blob_bytes.  disk.c has set these three to 0, and
     * fills in the other fields.  The counts may be out of date at once.  They are exact after
     * settle, while no request is running. */
    void (*stats)(void *state, struct disk_stats *stats);

    /* For tests and debug builds: verify the allocator's invariants, and that the budget is
     * charged for exactly the memory that the allocator has.  No request is running.  This may
     * give free memory back first.  Returns 0; -EUCLEAN, and reason names the broken invariant;
     * or -ENOMEM. */
    int (*check)(void *state, struct reason *reason);
};

/* Every allocator, in the order in which the help texts list them; NULL ends the list.  The first
 * is the default. */
extern const struct allocator *const allocators[];

extern const struct allocator allocator_sparse; /* paged/sparse.c */
extern const struct allocator allocator_malloc; /* flat.c */
extern const struct allocator allocator_zstd;   /* zstd/zstd.c */

#endif
