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
 * any other, on the same bytes.  If one request ends before another one begins, the second sees
 * the result of the first.  If two writes overlap in time and in bytes, each byte afterwards has
 * the value that one of the two writes gave it.  Once a read has seen a whole sector of new
 * bytes, no later read sees the old bytes of that sector.
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

struct allocator; /* disk/allocator.h explains this type */
struct disk;
struct reason; /* text/reason.h */

#define DISK_SIZE_MAX ((uint64_t)INT64_MAX) /* the maximum of NBD: clients use signed offsets */
#define DISK_LEVEL_MIN 1
#define DISK_LEVEL_MAX 19
/* With pages of 32 KiB, level 4 is as fast as level 3, and the results are 1 % smaller. */
#define DISK_LEVEL_DEFAULT 4
#define DISK_LIMIT_MIN ((uint64_t)1 << 20)

struct disk_options {
    uint64_t size; /* 0 to DISK_SIZE_MAX */

    /* The most memory, in bytes, that the disk may take for its content and its index.  It is at
     * least DISK_LIMIT_MIN, or 0.  0 means that there is no fixed limit: the disk may then take
     * what the machine and its control groups can give, except a reserve that stays free. */
    uint64_t limit;

    const struct allocator *allocator; /* NULL means the default, which is allocators[0] */
    bool mlock; /* keep memory from being swapped out, if the allocator accepts mlock */
    int level;  /* the compression level, if the allocator accepts level */
};

/* Set options->allocator, mlock and level from the text of the command line's allocator=, such as
 *
 *     sparse[,mlock=BOOL]   malloc[,mlock=BOOL]   zstd[,level=1..19]
 *
 * BOOL is any text that parse_bool accepts (text/parse.h).  Returns 0 or -EINVAL.  If it returns
 * -EINVAL, *options is unchanged, and reason says what is wrong and what is accepted. */
int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason);

/* For help texts: print one line for each allocator.  Each line begins with `indent`. */
void disk_print_allocators(FILE *to, const char *indent);

/* For --dump-plugin: print a line NAME=yes for each allocator.  Then print mlock=yes and
 * limit=yes, too, because some memory plugins do not have these two parameters. */
void disk_print_features(FILE *to);

/* Make a disk.  No thread is started, so the process may still fork after this call.
 *
 * -EINVAL   an option is out of its range, or the allocator does not accept the option
 * -ENOMEM   there is no memory for the disk; or the allocator takes all memory at once, and the
 *           machine, the control group or the limit cannot give that much now
 * -EPERM    the limit on locked memory (RLIMIT_MEMLOCK) does not allow mlock */
int disk_create(const struct disk_options *options, struct disk **disk);

/* Write to reason why disk_create or disk_start failed, in words for the person who asked for the
 * disk. */
void disk_explain(const struct disk_options *options, int error, struct reason *reason);

/* Start the threads that give memory back and compress pages.  If mlock is set, lock memory.
 * Neither threads nor locks survive a fork, so call this once, after the last fork and before the
 * first request.  After an error the disk can only be destroyed. */
int disk_start(struct disk *disk);

/* Stop the threads and free everything.  disk may be NULL, or a disk that was not started. */
void disk_destroy(struct disk *disk);

uint64_t disk_size(const struct disk *disk);

/* Whether requests can make the disk take more memory from the system.  If not, the disk took all
 * of its memory when it was made. */
bool disk_grows(const struct disk *disk);

/* The size of a page, the unit in which the disk gets memory.  Requests that are aligned to pages
 * are the fastest. */
uint32_t disk_page_size(const struct disk *disk);

/* Copy a range of the disk to buf, or copy buf to a range of the disk.  buf belongs to the
 * caller.  If the range does not lie within the disk, disk_read returns -EINVAL, and disk_write
 * returns -ENOSPC (NBD specification, "Error values").
 *
 * disk_read    -ENOMEM   there is no memory to inflate a compressed page
 * disk_write   -ENOSPC   the memory that the disk may take is used up */
int disk_read(struct disk *disk, uint64_t offset, size_t count, void *buf);
int disk_write(struct disk *disk, uint64_t offset, size_t count, const void *buf);

/* Caches of inflated pages, for reads that are smaller than a page.  Without a cache, each such
 * read of a compressed page inflates the whole page again.  A cache holds the last 8 pages that
 * were inflated through it.  It also holds a decompression context, so a read through the cache
 * allocates no memory.  A cache takes some 350 KiB.  A cache belongs to its caller.  It may be
 * used with one disk only, and by one thread at a time.  A cache must be destroyed before its
 * disk.
 *
 * disk_cache_create charges the cache to the disk's limit.  If the limit does not allow a cache,
 * or if the disk compresses nothing, *cache becomes NULL and the result is 0.  -ENOMEM: there is
 * no memory for the cache. */
struct disk_cache;
int disk_cache_create(struct disk *disk, struct disk_cache **cache);
void disk_cache_destroy(struct disk *disk, struct disk_cache *cache); /* NULL is accepted */

/* Like disk_read, but compressed pages are inflated through the cache.  cache may be NULL. */
int disk_read_cached(struct disk *disk, struct disk_cache *cache, uint64_t offset, size_t count,
                     void *buf);

/* Loans.  The disk lends its memory to a system call, which sends from this memory or receives
 * into it, so that no byte is copied.  A loan is made inside a read section, and ends with it.
 * Until a section ends, memory that is freed cannot be reused, and threads that need memory may
 * have to wait.  So a section must be short, and must not block.
 *
 * Loans for sending begin with disk_lend_begin, and end with disk_lend_end.  In between, the
 * thread may call disk_lend, disk_read and disk_read_cached, and no other function of the disk.
 *
 * disk_lend stores in *piece a piece of the disk that begins at offset and ends within the range.
 * A piece is of one kind, and a piece of data is contiguous in memory.  The piece is as long as
 * possible, except that a very long one may be cut short.
 * -EINVAL: count is 0, or the range does not lie within the disk. */
enum disk_piece_kind {
    DISK_PIECE_DATA,   /* the piece is the bytes at base; concurrent requests may change them */
    DISK_PIECE_HOLE,   /* the piece is all zeroes; base is NULL */
    DISK_PIECE_PACKED, /* the piece is compressed: read it with disk_read; base is NULL */
};
struct disk_piece {
    enum disk_piece_kind kind;
    const void *base; /* the piece in the disk's memory; valid until disk_lend_end */
    size_t count;     /* bytes, never 0 */
};
void disk_lend_begin(struct disk *disk);
void disk_lend_end(struct disk *disk);
int disk_lend(struct disk *disk, uint64_t offset, size_t count, struct disk_piece *piece);

/* Loans for receiving.  disk_fill finds memory for the range, or for the first part of the range.
 * It calls fn once with that memory, inside a read section.  So fn must not block, and must not
 * call the disk.  Then disk_fill makes the received bytes part of the disk, as disk_write does.
 * (If these bytes are all zero and the page is a hole, the page stays a hole.)
 *
 * disk_fill sets *lent to the number of bytes that fn is offered.  fn returns the number of bytes
 * that it has received, from 0 to *lent, in order and without gaps.  If it has received none, it
 * may return -errno instead.  fn must not write to the memory beyond the received bytes.  Where
 * no bytes were received, the disk is unchanged.
 *
 * iov has iov_count entries, at most DISK_FILL_IOV_MAX.  The array is one entry longer, and fn
 * may set that last entry to memory of its own.  One system call can then receive the range and,
 * into that memory, the bytes that follow the range.
 *
 * disk_fill returns what fn returned, or an error of its own:
 *
 * -ENOBUFS  fn was not called: no memory can be lent at offset now.  Write there with disk_write
 *           or disk_try_write, at least up to the end of the page.
 * -ENOSPC   fn was not called: the range does not lie within the disk.  *lent is 0.
 *
 * disk_fill never waits.  It takes all the memory that it needs before it calls fn. */
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
 * if a page is trimmed in small pieces.)  disk_zero returns the same errors as disk_write. */
#define DISK_NO_HOLE 1u
int disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);

/* disk_try_write, disk_try_zero and disk_try_trim do the same as disk_write, disk_zero and
 * disk_trim, but do not wait.  They are for a thread that has other clients to serve.  They can
 * return one more error:
 *
 * -EAGAIN   the first *done bytes of the range are done, and the other bytes are unchanged.
 *           Another thread may do the rest with the function that waits.  It must wait
 *             - for memory: until something is freed or compressed, until a grace period ends, or
 *               until the machine has been asked how much memory it has; or
 *             - for the compressor, if writers have made new pages faster than it compresses; or
 *             - for memory from malloc, which the list of items in reclaim.h needs.
 *
 * If every page of the range is in memory and not compressed, disk_try_write does not return
 * -EAGAIN.  After any error other than -EAGAIN, waiting does not help, and *done is undefined.
 * If a function returns 0, *done is count.
 *
 * disk_try_trim takes any number of pages out of the disk.  A thread of the disk frees them
 * later. */
int disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                   size_t *done);
int disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                  uint64_t *done);
int disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);

/* From now on no request waits for free memory.  If there is none, a request fails with -ENOSPC
 * at once.  A request that is already waiting for memory fails, too, even while many pages are
 * being freed.  A server calls this when it is about to stop. */
void disk_give_up_waiting(struct disk *disk);

/* Whether the disk could ever provide memory for count bytes.  If not, disk_zero with
 * DISK_NO_HOLE refuses a range of count bytes.  A caller that cuts a long range into slices must
 * call disk_could_provide for the long range first, because disk_zero sees only a slice. */
bool disk_could_provide(const struct disk *disk, uint64_t count);

/* Like disk_zero without flags, except that a lack of memory is not an error.  If there is too
 * little memory, and the range covers only a part of a compressed page, the bytes in that part
 * may stay as they were.  The malloc allocator zeroes the range and keeps the memory.  -EINVAL:
 * the range does not lie within the disk. */
int disk_trim(struct disk *disk, uint64_t offset, uint64_t count);

/* Call fn for each extent of the range, in order.  An extent is a hole or data.  A hole always
 * reads as zeroes; data can also be zeroes.  Every extent lies within the range, and none is
 * empty.  Between two extents there is no gap, and they do not overlap.  In one call of
 * disk_extents, an extent is never followed by one of the same kind.  If fn returns a value other
 * than 0, the rest of the range is not reported, and disk_extents returns that value.
 * -EINVAL: the range does not lie within the disk. */
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);
int disk_extents(struct disk *disk, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                 void *opaque);

/* Wait until background threads have finished the work that earlier calls caused.  Then freed
 * memory has been given back to the system, pages that are all zero are holes, and every other
 * page that shrinks by compression is compressed, even if it was just used.  Never fails.  This
 * is for tests, for measurements, and for people who want to know how much memory the disk
 * needs. */
int disk_settle(struct disk *disk);

/* Numbers about the disk at this moment.  While requests are running, they are approximate: a
 * page that is being compressed may count twice, and a page that is being freed may still count.
 * After disk_settle, if no request is running, the numbers are exact. */
struct disk_stats {
    uint64_t pages;      /* pages that hold data, compressed or not */
    uint64_t compressed; /* pages that are compressed; `pages` includes them */
    uint64_t blob_bytes; /* bytes that the compressed pages take in memory */
    uint64_t memory; /* bytes that count towards the limit: pages, index, free cells, overhead */
    uint64_t overhead; /* bytes of overhead (memory/budget.h); `memory` includes them */
    uint64_t limit;    /* the most bytes that the disk may take; 0: no fixed limit */
};
void disk_stats(struct disk *disk, struct disk_stats *stats);

/* For tests and debug builds: verify the invariants of the whole disk.  No request may be
 * running.  As a side effect, this can give free memory back to the system, as disk_settle does.
 *
 * 0          all invariants hold
 * -EUCLEAN   an invariant is broken, and *reason says which
 * -ENOMEM    there is too little memory for the check
 *
 * In a build with self_check (os/check.h), disk_destroy calls disk_check, and aborts if an
 * invariant is broken. */
int disk_check(struct disk *disk, struct reason *reason);

#endif
