/* SPDX-License-Identifier: BSD-3-Clause */

/* allocator - the strategy that keeps a disk's bytes in memory
 *
 * An allocator is one constant struct allocator, defined in the file that implements it, and one
 * row of allocators[] (allocators.c).  No other code of src/ names the allocator: the grammar of
 * allocator=, the help texts and both fronts read the row.  The struct has a pointer to a
 * function for each kind of request.  disk.c checks a request, and then calls the function for
 * its kind: disk_read calls read.  The comment above a function is its contract.
 *
 * UNITS.    Offsets and counts are bytes.  A range is (offset, count), half-open.  disk.c has
 *           checked that the range lies within the disk, and that count is not 0.
 * STATE.    create makes the state of one disk, and destroy frees it.  Every other function gets
 *           the state as its first argument.  Two disks share nothing.
 * THREADS.  While create, start or destroy runs, no other function runs on the same state.  Every
 *           other function may be called from any thread, at the same time as any other, on the
 *           same bytes.
 * ERRORS.   A function returns 0 or -errno, and only the values that its contract lists.  Running
 *           out of memory is an ordinary error: no stored data is lost.  An allocator that uses a
 *           file or a device may also return -EIO from any function that returns int.  The server
 *           and the plugin pass that error on to the client.
 * WAITING.  A function waits if it blocks for a grace period, for the compressor, for a device,
 *           or for memory that other threads give back.  Three kinds of calls must not wait: the
 *           functions whose names begin with try_, the function `lend`, and a `read` between
 *           lend_begin and lend_end.  The thread that makes such a call also serves other
 *           clients, and they would have to wait, too.
 */

#ifndef NBDRAM_DISK_ALLOCATOR_H
#define NBDRAM_DISK_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct budget; /* disk/memory/budget.h explains this type */

/* disk.h explains these types.  They are declared again here, because this header does not
 * include disk.h.  So neither of the two headers needs the other. */
struct disk_cache;
struct disk_options;
struct disk_piece;
struct disk_stats;
struct reason; /* text/reason.h */
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);

struct allocator {
    /* The allocator's name and properties. */

    const char *name;    /* the word that a person types after allocator=; lower case, no comma */
    const char *summary; /* a line for help texts: at most 51 columns, no full stop */
    uint32_t
        page_size; /* bytes, a power of two, at most 64 KiB; requests aligned to it are fastest */

    bool takes_mlock; /* mlock=BOOL is accepted; it keeps memory from being swapped out */
    bool takes_level; /* level=N is accepted, from DISK_LEVEL_MIN to DISK_LEVEL_MAX */
    bool takes_all;   /* the memory for the whole disk is taken when the disk is made */
    bool packs; /* pages are compressed in order to free memory; the budget then has a keepback */

    /* Life. */

    /* Make the state of a disk of options->size bytes, and store it in *state.  Memory for the
     * content and the index of the disk is taken from budget, and given back to budget when it is
     * freed.  An allocator that needs no such memory may ignore the budget.  The budget outlives
     * the state.  options need not outlive the call.  It is possible that the process forks after
     * this call, so create must neither start threads nor lock memory.  Returns 0 or -errno.
     * After an error nothing is left allocated.
     * -ENOMEM: too little memory.  -EPERM: the process is not allowed to lock that much
     * memory. */
    int (*create)(const struct disk_options *options, struct budget *budget, void **state);

    /* Start threads and lock memory.  Called at most once, after the last fork and before the
     * first request.  After an error only destroy may be called.
     * -ENOMEM: too little memory.  -EAGAIN: a thread cannot be started.  -EPERM: the process is
     * not allowed to lock that much memory. */
    int (*start)(void *state);

    /* Stop the threads, free everything, and give all memory back to the budget.  No request is
     * running, and none will follow.  destroy is also called if start failed or was never
     * called. */
    void (*destroy)(void *state);

    /* Requests. */

    /* Make and free a cache of inflated pages, as disk_cache_create and disk_cache_destroy do.
     * cache_create sets *cache to NULL if the allocator compresses nothing, or if the budget does
     * not have enough memory for a cache.  -ENOMEM is the only error. */
    int (*cache_create)(void *state, struct disk_cache **cache);
    void (*cache_destroy)(void *state, struct disk_cache *cache);

    /* Copy the range to buf, which holds count bytes and belongs to the caller.  cache may be
     * NULL.  No other thread may use the cache during the call.
     * -ENOMEM: there is no memory to inflate a compressed page.  A part of buf may then hold
     * bytes of the disk already; the rest of buf is unchanged. */
    int (*read)(void *state, struct disk_cache *cache, uint64_t offset, size_t count, void *buf);

    /* Copy count bytes from buf, which belongs to the caller, to the range.
     * -ENOSPC: the budget is used up, and no memory could be freed.  Each page of the range then
     * holds either only its old bytes or all of the new ones. */
    int (*write)(void *state, uint64_t offset, size_t count, const void *buf);

    /* Like write, but without waiting.  *done is 0 on entry.
     * -EAGAIN: the first *done bytes are written.  The other bytes of the range are unchanged,
     * because they cannot be written without waiting. */
    int (*try_write)(void *state, uint64_t offset, size_t count, const void *buf, size_t *done);

    /* Begin and end a read section in which memory is lent for sending.  A section belongs to the
     * thread that began it.  Until the section ends, its thread may call only lend and read.
     * Sections do not nest.  Memory that is freed during a section is not reused before the
     * section ends.  So what lend returns stays valid that long. */
    void (*lend_begin)(void *state);
    void (*lend_end)(void *state);

    /* Store in *piece a piece of the disk that begins at offset and ends within the range.  Call
     * this only between lend_begin and lend_end.  A piece is of one kind (enum disk_piece_kind),
     * and a piece of data is contiguous in memory.  The piece is as long as possible, except that
     * a long one may be cut short.  Its count is never 0.  If the kind is DISK_PIECE_PACKED, the
     * bytes are compressed and cannot be lent: the caller reads them with read, one page at a
     * time.  piece->base belongs to the allocator, and is valid until lend_end. */
    void (*lend)(void *state, uint64_t offset, size_t count, struct disk_piece *piece);

    /* Call fn with memory for the range, or for the first part of the range, so that fn receives
     * bytes into this memory.  The received bytes then become part of the disk, as if by write.
     * fn has to keep the rules of disk_fill (disk.h).  fn is called at most once, on the caller's
     * thread, inside a read section.  fill does not wait, and does not fail after fn was called.
     * *lent is 0 on entry; fill sets it to the number of bytes that fn is offered.
     * -ENOBUFS: no memory can be lent at offset without waiting, and fn was not called.  Any
     * other negative result is the result of fn. */
    ssize_t (*fill)(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                    void *opaque);

    /* Make the range read as zeroes.  flags is 0 or DISK_NO_HOLE.  Without DISK_NO_HOLE, whole
     * pages are freed, if the allocator ever frees memory.  With DISK_NO_HOLE, memory is provided
     * for the whole range.  The memory for a byte is then kept until that byte is trimmed, or is
     * zeroed without the flag.
     * -ENOSPC: as in write. */
    int (*zero)(void *state, uint64_t offset, uint64_t count, unsigned flags);

    /* Like zero without flags, except that a lack of memory is not an error.  If there is too
     * little memory, and the range covers only a part of a compressed page, the bytes in that
     * part may stay as they were. */
    int (*trim)(void *state, uint64_t offset, uint64_t count);

    /* Like zero, but without waiting.  -EAGAIN means the same as in try_write.  A trim that must
     * not wait calls try_zero without flags. */
    int (*try_zero)(void *state, uint64_t offset, uint64_t count, unsigned flags, uint64_t *done);

    /* Call fn for each extent of the range, in order.  An extent is a hole or data.  No extent is
     * empty, no two extents overlap, and there is no gap between them.  fn is called on the
     * caller's thread, outside of any read section.  If fn returns a value other than 0, the rest
     * of the range is not reported, and extents returns that value.  Otherwise extents returns
     * 0. */
    int (*extents)(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                   void *opaque);

    /* The whole disk. */

    /* From now on no request waits for free memory: if there is none, the request fails with
     * -ENOSPC. */
    void (*give_up_waiting)(void *state);

    /* Wait until background threads have finished the work that earlier requests caused.  Then
     * freed memory has been given back to the system, and every page that can be compressed is
     * compressed.  Returns 0: this cannot fail. */
    int (*settle)(void *state);

    /* Fill in stats->pages, compressed and blob_bytes.  disk.c has set these three to 0, and
     * fills in the other fields itself.  While requests are running, the counts may be out of
     * date when stats returns.  After settle, if no request is running, they are exact. */
    void (*stats)(void *state, struct disk_stats *stats);

    /* For tests and debug builds: verify the allocator's invariants, and that the budget is
     * charged for exactly the memory that the allocator has.  No request may be running.  As a
     * side effect, the check can give free memory back to the system.  Returns 0, -EUCLEAN or
     * -ENOMEM.  If it returns -EUCLEAN, reason names the broken invariant. */
    int (*check)(void *state, struct reason *reason);
};

/* All allocators, in the order in which the help texts list them.  The first one is the default.
 * NULL ends the list. */
extern const struct allocator *const allocators[];

extern const struct allocator allocator_sparse; /* paged/sparse.c */
extern const struct allocator allocator_malloc; /* flat.c */
extern const struct allocator allocator_zstd;   /* zstd/zstd.c */

#endif
