/* SPDX-License-Identifier: BSD-3-Clause */

/* disk - one RAM disk
 *
 * A disk is an array of bytes [0, size) that is kept in memory; at first all bytes are zero.
 * plugin/ and server/ know no other header of the engine.  The engine knows no NBD, owns no
 * socket and never logs: it returns errors, and the caller reports them.
 *
 * ERRORS.  Functions return 0 or -errno.  After an error of a write or a zero, any part of the
 * range may hold the new bytes, and the other parts hold the old ones.  No byte outside the range
 * changes, and no write that was acknowledged before is lost.
 *
 * THREADS.  disk_create, disk_start, disk_destroy and disk_check need the disk to themselves.
 * Every other function may be called from any thread, at the same time as any other, on the same
 * bytes.  A request that begins after another one has ended sees its result.  If two requests
 * overlap in time and in bytes, each byte is afterwards what one of the two put there.  Once a
 * read has seen a whole sector of new bytes, no later read sees the old bytes of that sector.
 *
 * UNITS.  Everything is in bytes.  A range is (offset, count), half-open.
 */

#ifndef NBDRAM_DISK_DISK_H
#define NBDRAM_DISK_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

struct allocator; /* disk/allocator.h: the strategy that keeps a disk's bytes in memory */
struct disk;
struct reason; /* text/reason.h */

#define DISK_SIZE_MAX ((uint64_t)INT64_MAX) /* NBD's limit: its clients use signed offsets */
#define DISK_LEVEL_MIN 1
#define DISK_LEVEL_MAX 19
#define DISK_LEVEL_DEFAULT 4 /* as fast as 3 on pages of 32 KiB, and 1 % smaller */
#define DISK_LIMIT_MIN ((uint64_t)1 << 20)

struct disk_options {
    uint64_t size; /* 0 to DISK_SIZE_MAX */

    /* The most memory that content and index may take, at least DISK_LIMIT_MIN.  0: as much as
     * the machine and the control groups can give while a reserve stays free. */
    uint64_t limit;

    const struct allocator *allocator; /* NULL: the default, the first of allocators[] */
    bool mlock; /* never swap the memory out; only for an allocator that takes mlock */
    int level;  /* compression level; only for an allocator that takes a level */
};

/* Set options->allocator, mlock and level from the text of the command line's allocator=, such as
 *
 *     sparse[,mlock=BOOL]   malloc[,mlock=BOOL]   zstd[,level=1..19]
 *
 * BOOL is parse_bool's (text/parse.h).  Returns 0 or -EINVAL.  After -EINVAL options is
 * unchanged, and reason says what is wrong and what is accepted. */
int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason);

/* For help texts: print a line for each allocator, with indent before it. */
void disk_print_allocators(FILE *to, const char *indent);

/* For --dump-plugin: print a line NAME=yes for each allocator, and for each parameter that some
 * memory plugins do not have. */
void disk_print_features(FILE *to);

/* Make a disk.  No thread is started, so the process may still fork.
 *
 * -EINVAL   an option is out of its range, or the allocator does not take it
 * -ENOMEM   there is no memory for the disk; or the allocator takes all memory at once, and the
 *           machine, the control group or the limit cannot give that much now
 * -EPERM    the limit on locked memory (RLIMIT_MEMLOCK) does not allow mlock */
int disk_create(const struct disk_options *options, struct disk **disk);

/* Explain an error of disk_create or disk_start to the person who asked for such a disk. */
void disk_explain(const struct disk_options *options, int error, struct reason *reason);

/* Start the threads that give memory back and compress pages, and lock memory if mlock is set:
 * neither threads nor locks survive a fork.  Call this once, after the last fork and before the
 * first request.  After an error the disk can only be destroyed. */
int disk_start(struct disk *disk);

/* Stop the threads and free everything.  disk may be NULL, or a disk that was not started. */
void disk_destroy(struct disk *disk);

uint64_t disk_size(const struct disk *disk);

/* Whether requests may take memory from the system.  Otherwise the disk has all that it needs. */
bool disk_grows(const struct disk *disk);

/* The size of a page: the disk is allocated in pages, and requests aligned to it are the
 * fastest. */
uint32_t disk_page_size(const struct disk *disk);

/* Copy a range out of the disk, or into the disk.  The buffer stays the caller's.  If the range
 * does not lie within the disk, disk_read returns -EINVAL and disk_write -ENOSPC (NBD
 * specification, "Error values").
 *
 * disk_read    -ENOMEM   there is no memory to unpack a compressed page
 * disk_write   -ENOSPC   the memory that the disk may take is used up */
int disk_read(struct disk *disk, uint64_t offset, size_t count, void *buf);
int disk_write(struct disk *disk, uint64_t offset, size_t count, const void *buf);

/* Caches of inflated pages, for reads that are smaller than a page.  Without a cache, each such
 * read of a compressed page inflates the whole page again.  A cache holds the last 8 pages that
 * were inflated through it.  It also has a decompression context of its own, so that a read
 * through the cache needs no further memory.  A cache takes some 350 KiB.  It belongs to its
 * caller, and serves one disk and one thread at a time.
 *
 * disk_cache_create charges the cache to the disk's limit.  It sets *cache to NULL if the limit
 * has no room for it, or if the disk compresses nothing.  It returns 0 or -ENOMEM.
 * A cache must be destroyed before its disk. */
struct disk_cache;
int disk_cache_create(struct disk *disk, struct disk_cache **cache);
void disk_cache_destroy(struct disk *disk, struct disk_cache *cache); /* NULL is accepted */

/* As disk_read.  cache may be NULL. */
int disk_read_cached(struct disk *disk, struct disk_cache *cache, uint64_t offset, size_t count,
                     void *buf);

/* Loans: memory of the disk is lent to a system call that sends from it or receives into it, so
 * that no byte is copied on the way.  A loan ends with the read section in which it was made.
 * While a section is open, no memory that was freed during it can be reused, and threads that
 * need memory may have to wait.  So a section must be short, and must not block.
 *
 * Sending.  Between disk_lend_begin and disk_lend_end the thread may call disk_lend, disk_read
 * and disk_read_cached, and no other function of the disk.
 *
 * disk_lend describes the longest piece at the start of the range that is of one kind and, if it
 * is data, contiguous in memory.  (A very long piece may take several calls.)
 * -EINVAL: count is 0, or the range does not lie within the disk. */
enum disk_piece_kind {
    DISK_PIECE_DATA,   /* bytes at base; concurrent requests may change them during sending */
    DISK_PIECE_HOLE,   /* zeroes; base is NULL */
    DISK_PIECE_PACKED, /* compressed bytes, to be read with disk_read; base is NULL */
};
struct disk_piece {
    enum disk_piece_kind kind;
    const void *base; /* memory of the disk, good until disk_lend_end */
    size_t count;     /* bytes, never 0 */
};
void disk_lend_begin(struct disk *disk);
void disk_lend_end(struct disk *disk);
int disk_lend(struct disk *disk, uint64_t offset, size_t count, struct disk_piece *piece);

/* Receiving.  disk_fill finds memory for the range, or for a part at its start, and calls fn once
 * with that memory, inside a read section.  So fn must not block, and must not call the disk.
 * Then disk_fill makes the received bytes part of the disk, as disk_write does: zeroes over a
 * hole leave a hole.
 *
 * *lent is the number of bytes that fn is offered.  fn returns the number of bytes that it has
 * received, from 0 to *lent, in order and without gaps; or -errno if it has received none.  fn
 * must not write to the memory beyond the received bytes.  Where no bytes were received, the disk
 * stays as it was.
 *
 * iov has iov_count entries, at most DISK_FILL_IOV_MAX, and room for one more entry, which fn may
 * fill in.  With that entry, the same system call can receive the bytes that follow the range
 * into memory of fn's own.
 *
 * disk_fill returns what fn returned, or an error of its own.  If it did not call fn:
 *
 * -ENOBUFS  no memory can be lent at offset now: write there with disk_write, at least up to the
 *           end of the page
 * -ENOSPC   the range does not lie within the disk
 *
 * If it called fn:
 *
 * -ENOSPC   as disk_write: the received bytes could not be made part of the disk.  fn has taken
 *           these bytes from their source, and must remember how many. */
#define DISK_FILL_IOV_MAX 64
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
ssize_t disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                  disk_fill_fn *fn, void *opaque);

/* Make a range read as zeroes.  flags is 0 or DISK_NO_HOLE.
 *
 * Without the flag, the memory of whole pages is freed.  With the flag, memory is provided for
 * the whole range, so that a later write there cannot fail for lack of memory.  This promise
 * holds for each byte until the byte is trimmed, or is zeroed without the flag.  A page keeps its
 * memory until the promise holds for none of its bytes; paged/promise.h says what happens if a
 * page is trimmed in small pieces.  Errors are those of disk_write. */
#define DISK_NO_HOLE 1u
int disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);

/* Variants of disk_write, disk_zero and disk_trim that never wait, for a thread that has other
 * clients to serve.  They have one more error:
 *
 * -EAGAIN   the first *done bytes of the range are done, and the other bytes are as they were.
 *           The rest of the range needs a wait: for memory, for the compressor or for a grace
 *           period.  Another thread must do the rest with the function that waits.
 *
 * One wait is left: if malloc has no memory for reclaim's list, they wait for a grace period.
 *
 * disk_try_write does not return -EAGAIN if the whole range lies in pages that are in memory
 * uncompressed.  *done is count if the function returns 0, and is undefined after other errors
 * than -EAGAIN. */
int disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                   size_t *done);
int disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                  uint64_t *done);
int disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);

/* From now on no request waits for room.  A request that finds no room fails with -ENOSPC at
 * once, and so does each request that is waiting for room now.  For a server that is about to
 * stop. */
void disk_give_up_waiting(struct disk *disk);

/* Whether memory for that many bytes could be provided at best.  disk_zero with DISK_NO_HOLE
 * refuses a longer range.  A caller that cuts a long range into slices must call this before the
 * first slice. */
bool disk_could_provide(const struct disk *disk, uint64_t count);

/* As disk_zero without flags, but a lack of memory is not an error: if the range covers a part of
 * a compressed page, that part may keep its bytes.  The malloc allocator zeroes the range and
 * keeps the memory.  -EINVAL: the range does not lie within the disk. */
int disk_trim(struct disk *disk, uint64_t offset, uint64_t count);

/* Report which parts of a range are holes, and which hold data.  fn is called for each extent, in
 * order, from offset to the end of the range.  No extent is empty or reaches beyond the range,
 * and there is no gap or overlap between two.  Adjacent extents differ in kind, unless they were
 * reported by different calls of disk_extents.  A hole always reads as zeroes; data may also
 * happen to be zeroes.  If fn returns a value other than 0, the rest is not reported, and
 * disk_extents returns that value.  -EINVAL: the range does not lie within the disk. */
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);
int disk_extents(struct disk *disk, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                 void *opaque);

/* Wait until housekeeping has dealt with everything that was done before the call.  Then freed
 * memory is back with the system, pages that are all zero are holes, and every page that
 * compresses is compressed, cold or not.  For tests, for measurements and for people who are
 * about to look at the resident size.  Never fails. */
int disk_settle(struct disk *disk);

/* The disk's sizes at this moment.  A page that is being compressed may count twice, and a page
 * that is being freed may still count.  After disk_settle, while no request runs, the sizes are
 * exact. */
struct disk_stats {
    uint64_t pages;      /* pages that hold data, compressed or not */
    uint64_t compressed; /* pages that are compressed; pages includes them */
    uint64_t blob_bytes; /* bytes that the compressed pages take */
    uint64_t memory;     /* bytes that count towards the limit: pages, index, free memory kept */
    uint64_t limit;      /* the most bytes that the disk may take; 0: there is no fixed limit */
};
void disk_stats(struct disk *disk, struct disk_stats *stats);

/* For tests and debug builds: walk the whole disk and verify its invariants, while no request is
 * running.  Free memory may be given back first, as disk_settle does.
 *
 * 0          all invariants hold
 * -EUCLEAN   an invariant is broken, and *reason says which
 * -ENOMEM    there is no memory to find out
 *
 * In a build with self_check (os/check.h) disk_destroy calls disk_check, too, and aborts if an
 * invariant is broken. */
int disk_check(struct disk *disk, struct reason *reason);

#endif
