/* SPDX-License-Identifier: BSD-3-Clause */

/* disk - one RAM disk
 *
 * A disk is an array of bytes [0, size) that is kept in memory.  At first all bytes are zero.
 * plugin/ and server/ include no other header of the engine.  The engine knows nothing of NBD,
 * owns no socket and never logs: it returns errors, and the caller reports them.
 *
 * ERRORS.  Functions return 0 or -errno.  After a write or a zero has failed, some parts of the
 * range may hold the new bytes, and the other parts hold the old ones.  No byte outside the range
 * changes, and no write that was acknowledged before is lost.
 *
 * THREADS.  While disk_create, disk_start, disk_destroy or disk_check runs, no other function may
 * run on the same disk.  Every other function may be called from any thread, at the same time as
 * any other, on the same bytes.  A request that begins after another one has ended sees its
 * result.  If two requests overlap in time and in bytes, each byte afterwards has the value that
 * one of the two gave it.  Once a read has seen a whole sector of new bytes, no later read sees
 * the old bytes of that sector.
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

struct allocator; /* the strategy that keeps a disk's bytes in memory: disk/allocator.h */
struct disk;
struct reason; /* text/reason.h */

#define DISK_SIZE_MAX ((uint64_t)INT64_MAX) /* NBD's limit: clients use signed offsets */
#define DISK_LEVEL_MIN 1
#define DISK_LEVEL_MAX 19
#define DISK_LEVEL_DEFAULT 4 /* on pages of 32 KiB as fast as level 3, with results 1 % smaller */
#define DISK_LIMIT_MIN ((uint64_t)1 << 20)

struct disk_options {
    uint64_t size; /* 0 to DISK_SIZE_MAX */

    /* The most memory that content and index may take, at least DISK_LIMIT_MIN.  0 means no fixed
     * limit: the disk may take what the machine and the control groups can give while a reserve
     * stays free. */
    uint64_t limit;

    const struct allocator *allocator; /* NULL: the default, which is allocators[0] */
    bool mlock; /* keep memory from being swapped out, if the allocator takes mlock */
    int level;  /* compression level, if the allocator takes a level */
};

/* Set options->allocator, mlock and level from the text of the command line's allocator=, such as
 *
 *     sparse[,mlock=BOOL]   malloc[,mlock=BOOL]   zstd[,level=1..19]
 *
 * BOOL is any text that parse_bool accepts (text/parse.h).  Returns 0 or -EINVAL.  If it returns
 * -EINVAL, *options is unchanged, and reason says what is wrong and what is accepted. */
int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason);

/* For help texts: print a line for each allocator, with indent at its start. */
void disk_print_allocators(FILE *to, const char *indent);

/* For --dump-plugin: print a line NAME=yes for each allocator.  mlock and limit get such a line,
 * too, because some memory plugins do not have these parameters. */
void disk_print_features(FILE *to);

/* Make a disk.  No thread is started, so the process may still fork.
 *
 * -EINVAL   an option is out of its range, or the allocator does not take the option
 * -ENOMEM   there is no memory for the disk; or the allocator takes all memory at once, and the
 *           machine, the control group or the limit cannot give that much now
 * -EPERM    the limit on locked memory (RLIMIT_MEMLOCK) does not allow mlock */
int disk_create(const struct disk_options *options, struct disk **disk);

/* Explain in reason why disk_create or disk_start failed, for the person who asked for the
 * disk. */
void disk_explain(const struct disk_options *options, int error, struct reason *reason);

/* Start the threads that give memory back and compress pages.  If mlock is set, lock memory.
 * Neither threads nor locks survive a fork, so call this once, after the last fork and before the
 * first request.  After an error the disk can only be destroyed. */
int disk_start(struct disk *disk);

/* Stop the threads and free everything.  disk may be NULL, or a disk that was not started. */
void disk_destroy(struct disk *disk);

uint64_t disk_size(const struct disk *disk);

/* Whether requests can take more memory from the system.  If not, the disk took all of its memory
 * when it was made. */
bool disk_grows(const struct disk *disk);

/* The size of a page, the unit in which the disk gets memory.  Requests that are aligned to pages
 * are the fastest. */
uint32_t disk_page_size(const struct disk *disk);

/* Copy a range out of the disk, or into the disk.  The buffer belongs to the caller.  If the
 * range does not lie within the disk, disk_read returns -EINVAL, and disk_write returns -ENOSPC
 * (NBD specification, "Error values").
 *
 * disk_read    -ENOMEM   there is no memory to unpack a compressed page
 * disk_write   -ENOSPC   the memory that the disk may take is used up */
int disk_read(struct disk *disk, uint64_t offset, size_t count, void *buf);
int disk_write(struct disk *disk, uint64_t offset, size_t count, const void *buf);

/* Caches of inflated pages, for reads that are smaller than a page.  Without a cache, each such
 * read of a compressed page inflates the whole page again.  A cache holds the last 8 pages that
 * were inflated through it.  It also has its own decompression context, so that a read through
 * the cache needs no further memory.  A cache takes some 350 KiB.  A cache belongs to its caller,
 * and serves one disk and one thread at a time.  A cache must be destroyed before its disk.
 *
 * disk_cache_create charges the cache to the disk's limit.  If the limit has no room for a cache,
 * or if the disk compresses nothing, *cache becomes NULL and the result is 0.  -ENOMEM: there is
 * no memory for the cache. */
struct disk_cache;
int disk_cache_create(struct disk *disk, struct disk_cache **cache);
void disk_cache_destroy(struct disk *disk, struct disk_cache *cache); /* NULL is accepted */

/* As disk_read, but compressed pages are inflated through the cache.  cache may be NULL. */
int disk_read_cached(struct disk *disk, struct disk_cache *cache, uint64_t offset, size_t count,
                     void *buf);

/* Loans.  The disk lends its memory to a system call, which sends from this memory or receives
 * into it, so that no byte is copied.  A loan ends with the read section in which it was made.
 * While a section is open, memory that is freed cannot be reused, and threads that need memory
 * may have to wait.  So a section must be short, and must not block.
 *
 * Sending.  Between disk_lend_begin and disk_lend_end the thread may call disk_lend, disk_read
 * and disk_read_cached, and no other function of the disk.
 *
 * disk_lend describes a piece at the start of the range.  A piece is of one kind, and a piece of
 * data is contiguous in memory.  The piece is as long as possible, but a very long one may be cut
 * short.
 * -EINVAL: count is 0, or the range does not lie within the disk. */
enum disk_piece_kind {
    DISK_PIECE_DATA,   /* bytes at base; concurrent requests may change them during sending */
    DISK_PIECE_HOLE,   /* zeroes; base is NULL */
    DISK_PIECE_PACKED, /* compressed bytes: read them with disk_read; base is NULL */
};
struct disk_piece {
    enum disk_piece_kind kind;
    const void *base; /* memory of the disk, valid until disk_lend_end */
    size_t count;     /* bytes, never 0 */
};
void disk_lend_begin(struct disk *disk);
void disk_lend_end(struct disk *disk);
int disk_lend(struct disk *disk, uint64_t offset, size_t count, struct disk_piece *piece);

/* Receiving.  disk_fill finds memory for the range, or for a part at its start.  It calls fn once
 * with that memory, inside a read section.  So fn must not block, and must not call the disk.
 * Then disk_fill makes the received bytes part of the disk, as disk_write does: zeroes over a
 * hole leave a hole.
 *
 * *lent is the number of bytes that fn is offered.  fn returns the number of bytes that it has
 * received, from 0 to *lent, in order and without gaps.  If it has received none, it may return
 * -errno instead.  fn must not write to the memory beyond the received bytes.  Where no bytes
 * were received, the disk is unchanged.
 *
 * iov has iov_count entries, at most DISK_FILL_IOV_MAX.  There is room for one more entry, which
 * fn may fill in with memory of its own.  The same system call can then receive the bytes that
 * follow the range into that memory.
 *
 * disk_fill returns what fn returned, or an error of its own:
 *
 * -ENOBUFS  fn was not called: no memory can be lent at offset now.  Write there with disk_write
 *           or disk_try_write, at least up to the end of the page.
 * -ENOSPC   fn was not called: the range does not lie within the disk.  *lent is 0.
 *
 * disk_fill never waits.  All the memory that it may need is there before it calls fn. */
#define DISK_FILL_IOV_MAX 64
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
ssize_t disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                  disk_fill_fn *fn, void *opaque);

/* Make a range read as zeroes.  flags is 0 or DISK_NO_HOLE.
 *
 * Without the flag, the memory of whole pages is freed.  With the flag, memory is provided for
 * the whole range, so that a later write there cannot fail for lack of memory.  This promise
 * holds for each byte until the byte is trimmed, or is zeroed without the flag.  A page keeps its
 * memory as long as the promise holds for any of its bytes.  (paged/promise.h says what happens
 * if a page is trimmed in small pieces.)  Errors are those of disk_write. */
#define DISK_NO_HOLE 1u
int disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);

/* Variants of disk_write, disk_zero and disk_trim that do not wait, for a thread that has other
 * clients to serve.  They have one more error:
 *
 * -EAGAIN   the first *done bytes of the range are done, and the other bytes are unchanged.
 *           Another thread may do the rest with the function that waits.  The rest needs
 *             - memory, and there is none before something is freed or compressed, before freed
 *               memory has passed its grace period, or before the machine was asked for more; or
 *             - a new page in memory, while writers have outrun the compressor; or
 *             - memory from malloc, for the list of items in reclaim.h.
 *
 * If the whole range lies in pages that are in memory uncompressed, disk_try_write does not
 * return -EAGAIN.  No other error means that a wait could help.  If a function returns 0, *done
 * is count.  After errors other than -EAGAIN, *done is undefined.
 *
 * disk_try_trim takes pages out of the disk, however many, and leaves it to a thread of the disk
 * to free them. */
int disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                   size_t *done);
int disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                  uint64_t *done);
int disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);

/* From now on no request waits for room.  A request that finds no room fails with -ENOSPC at
 * once, and so does each request that is waiting for room now.  A server calls this when it is
 * about to stop. */
void disk_give_up_waiting(struct disk *disk);

/* Whether the disk could ever provide memory for count bytes.  If not, disk_zero with
 * DISK_NO_HOLE refuses a range of count bytes.  If a caller cuts a long range into slices,
 * disk_zero sees only the slices.  So such a caller must call disk_could_provide before the first
 * slice. */
bool disk_could_provide(const struct disk *disk, uint64_t count);

/* As disk_zero without flags, except that a lack of memory is not an error.  Instead, if the
 * range covers only a part of a compressed page, that part may keep its bytes.  The malloc
 * allocator zeroes the range and keeps the memory.  -EINVAL: the range does not lie within the
 * disk. */
int disk_trim(struct disk *disk, uint64_t offset, uint64_t count);

/* Report which parts of a range are holes, and which hold data.  fn is called for each extent, in
 * order, from offset to the end of the range.  No extent is empty or reaches beyond the range.
 * Between two extents there is no gap, and they do not overlap.  Adjacent extents that were
 * reported by the same call differ in kind.  A hole always reads as zeroes; data may also happen
 * to be zeroes.  If fn returns a value other than 0, the rest is not reported, and disk_extents
 * returns that value.
 * -EINVAL: the range does not lie within the disk. */
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);
int disk_extents(struct disk *disk, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                 void *opaque);

/* Wait until background work has caught up with everything that was done before the call.  Then
 * freed memory is back with the system, pages that are all zero are holes, and every page that
 * compresses is compressed, cold or not.  Never fails.  This is for tests, for measurements, and
 * for people who are about to look at the resident size. */
int disk_settle(struct disk *disk);

/* The disk's sizes at this moment.  While requests are running, they are approximate: a page that
 * is being compressed may count twice, and a page that is being freed may still count.  After
 * disk_settle, if no request is running, they are exact. */
struct disk_stats {
    uint64_t pages;      /* pages that hold data, compressed or not */
    uint64_t compressed; /* pages that are compressed; `pages` includes them */
    uint64_t blob_bytes; /* bytes that the compressed pages take in memory */
    uint64_t memory;     /* bytes that count towards the limit: pages, index, unused memory */
    uint64_t limit;      /* the most bytes that the disk may take; 0: no fixed limit */
};
void disk_stats(struct disk *disk, struct disk_stats *stats);

/* For tests and debug builds: walk the whole disk and verify its invariants.  No request may be
 * running.  Free memory may be given back first, as in disk_settle.
 *
 * 0          all invariants hold
 * -EUCLEAN   an invariant is broken, and *reason says which
 * -ENOMEM    there is too little memory for the check
 *
 * In a build with self_check (os/check.h), disk_destroy calls disk_check, too, and aborts if an
 * invariant is broken. */
int disk_check(struct disk *disk, struct reason *reason);

#endif
