/* SPDX-License-Identifier: BSD-3-Clause */

/* disk - one RAM disk
 *
 * A disk is a virtual array of bytes [0, size), at first all zeroes, that is kept in memory.  This
 * header is all that plugin/ and server/ know of it.  The engine behind it knows no NBD, owns no
 * socket and never logs: it returns errors, and the caller reports them.
 *
 * ERRORS.  Functions return 0 or -errno.  After an error of a write or a zero, any part of the
 * range may hold the new bytes, and the rest holds the old ones.  Nothing outside the range
 * changes, and nothing that was acknowledged before is lost.
 *
 * THREADS.  disk_create, disk_start, disk_destroy and disk_check need the disk to themselves.
 * Every other function may be called from any thread, at the same time as any other, on the same
 * bytes.  A request that begins after another one has ended sees its result.  Two requests that
 * overlap in time and in bytes leave in each byte what one of them put there.  When a sector has
 * been seen to be overwritten as a whole, its old bytes do not come back.
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

#define DISK_SIZE_MAX ((uint64_t)INT64_MAX) /* NBD's own: offsets are signed in its clients */
#define DISK_LEVEL_MIN 1
#define DISK_LEVEL_MAX 19
#define DISK_LEVEL_DEFAULT 4 /* as fast as 3 on pages of 32 KiB, and 1 % smaller */
#define DISK_LIMIT_MIN ((uint64_t)1 << 20)

struct disk_options {
    uint64_t size; /* 0 to DISK_SIZE_MAX */

    /* The most memory that content and index may take, at least DISK_LIMIT_MIN.  0: what the
     * machine and the control groups can give while a reserve stays free. */
    uint64_t limit;

    const struct allocator *allocator; /* NULL: the default, the first of allocators[] */
    bool mlock; /* the memory is never swapped out; only for an allocator that takes mlock */
    int level;  /* of compression; only for an allocator that takes a level */
};

/* Set options->allocator, mlock and level from the text of the command line's allocator=, such as
 *
 *     sparse[,mlock=BOOL]   malloc[,mlock=BOOL]   zstd[,level=1..19]
 *
 * BOOL is parse_bool's (text/parse.h).  0; or -EINVAL, the reason says what is wrong and what is
 * accepted, and options is as it was. */
int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason);

/* For help texts: print a line for each allocator, with indent before it. */
void disk_print_allocators(FILE *to, const char *indent);

/* For --dump-plugin: print a line NAME=yes for each allocator, and for each parameter that not every
 * memory plugin has. */
void disk_print_features(FILE *to);

/* Make a disk.  No thread is started, so the process may still fork.
 *
 * -EINVAL   an option is out of its range, or the allocator does not take it
 * -ENOMEM   an allocator that takes all memory at once: the machine, the control group or the
 *           limit cannot give that much now; any allocator: there is no memory for a disk at all
 * -EPERM    the limit on locked memory (RLIMIT_MEMLOCK) does not allow mlock */
int disk_create(const struct disk_options *options, struct disk **disk);

/* Say what an error of disk_create or disk_start means to the person who asked for such a disk. */
void disk_explain(const struct disk_options *options, int error, struct reason *reason);

/* Start the threads that give memory back and compress, and lock memory if that was asked for:
 * neither survives a fork.  To be called once, after the last fork and before the first request.
 * After an error the disk can only be destroyed. */
int disk_start(struct disk *disk);

/* Stop the threads and free everything.  NULL is accepted, and so is a disk that was not started. */
void disk_destroy(struct disk *disk);

uint64_t disk_size(const struct disk *disk);

/* The unit in which the disk is allocated: requests aligned to it are the fastest. */
uint32_t disk_page_size(const struct disk *disk);

/* Copy a range out of the disk, or into it.  The buffer stays the caller's.  If the range does not
 * lie within the disk, a read returns -EINVAL and a write -ENOSPC (NBD specification, "Error
 * values").
 *
 * disk_read    -ENOMEM   there is no memory to unpack a compressed page
 * disk_write   -ENOSPC   the memory that the disk may take is used up */
int disk_read(struct disk *disk, uint64_t offset, size_t count, void *buf);
int disk_write(struct disk *disk, uint64_t offset, size_t count, const void *buf);

/* Caches of pages that were compressed, for reads that are smaller than a page: without one, each
 * such read inflates the whole page again.  A cache has the last 8 pages that were inflated through
 * it, and a decompression context of its own, so that a read through it needs no memory: some
 * 350 KiB.  It belongs to its caller, and one thread at a time may use it, for one disk.
 *
 * disk_cache_create sets *cache to NULL if the disk compresses nothing.  0 or -ENOMEM.  Caches are
 * destroyed before their disk. */
struct disk_cache;
int disk_cache_create(struct disk *disk, struct disk_cache **cache);
void disk_cache_destroy(struct disk *disk, struct disk_cache *cache); /* NULL is accepted */

/* As disk_read.  cache may be NULL. */
int disk_read_cached(struct disk *disk, struct disk_cache *cache, uint64_t offset, size_t count,
                     void *buf);

/* Loans: memory of the disk is lent to a system call that sends from it or receives into it, so
 * that no byte is copied on the way.  A loan ends with the read section in which it was made.  A
 * section holds up all memory that is freed meanwhile, and the threads that wait for memory.  So it
 * must be short, and must not block.
 *
 * Sending.  Between disk_lend_begin and disk_lend_end the thread may call disk_lend, disk_read and
 * disk_read_cached, and no other function of the disk.
 *
 * disk_lend describes what is at offset: the longest piece of the range, from its start, that is of
 * one kind and, if it is data, contiguous in memory.  (A very long one may take several calls.)
 * -EINVAL: count is 0, or the range does not lie within the disk. */
enum disk_piece_kind {
    DISK_PIECE_DATA,   /* at base; a concurrent request may change it while it is being sent */
    DISK_PIECE_HOLE,   /* zeroes; base is NULL */
    DISK_PIECE_PACKED, /* compressed, and to be read with disk_read; base is NULL */
};
struct disk_piece {
    enum disk_piece_kind kind;
    const void *base; /* the disk's; good until disk_lend_end */
    size_t count;     /* bytes, never 0 */
};
void disk_lend_begin(struct disk *disk);
void disk_lend_end(struct disk *disk);
int disk_lend(struct disk *disk, uint64_t offset, size_t count, struct disk_piece *piece);

/* Receiving.  disk_fill finds memory for the range, or for a part at its start, and calls fn once
 * with that, inside a read section: fn must not block, and must not call the disk.  Then it makes
 * what was received part of the disk, as disk_write does: zeroes over a hole leave a hole.
 *
 * *lent is the number of bytes that fn is offered.  fn returns how many bytes it has received, from
 * 0 to *lent, in order and without gaps; or -errno, and has received none.  It must not write to
 * the memory beyond those bytes.  Bytes that were not received leave the disk as it was.
 *
 * iov has iov_count entries, at most DISK_FILL_IOV_MAX, and room for one more, which fn may use:
 * the same system call can then receive into fn's own memory what follows the range.
 *
 * Returns what fn returned; or, without having called fn,
 *
 * -ENOBUFS  no memory can be lent at offset now: write there with disk_write, at least up to the
 *           end of the page
 * -ENOSPC   the range does not lie within the disk
 *
 * or, after having called fn,
 *
 * -ENOSPC   as disk_write: what was received could not be made part of the disk.  fn has taken
 *           bytes from somewhere, and must remember how many. */
#define DISK_FILL_IOV_MAX 64
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
ssize_t disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                  disk_fill_fn *fn, void *opaque);

/* Make a range read as zeroes.  flags is 0 or DISK_NO_HOLE.
 *
 * Without the flag, the memory of whole pages is freed.  With it, memory is provided for the whole
 * range, so that a later write there cannot fail for lack of it.  This promise holds for each byte
 * until the byte is trimmed, or zeroed without the flag.  A page keeps its memory until nothing of
 * it is promised any more; see paged/promise.h if it is trimmed in small pieces.  Errors are those
 * of disk_write. */
#define DISK_NO_HOLE 1u
int disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);

/* Forms that never wait, for a thread that has other clients to serve.  As disk_write, disk_zero
 * and disk_trim, and in addition
 *
 * -EAGAIN   the rest can only be done by waiting: for memory, for the compressor, for a grace
 *           period.  The first *done bytes of the range are done, and the others are as they were.
 *           Another thread is to do the rest in the form that waits.
 *
 * If all of the range lies in pages that are in memory uncompressed, disk_try_write does not return
 * -EAGAIN.  *done is count if 0 is returned, and undefined after other errors. */
int disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                   size_t *done);
int disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                  uint64_t *done);
int disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);

/* From now on no request waits for room: it fails with -ENOSPC at once if there is none, and so do
 * those that are waiting.  For a server that is about to stop. */
void disk_give_up_waiting(struct disk *disk);

/* Whether memory for that many bytes could be provided at the very best.  disk_zero refuses
 * DISK_NO_HOLE for more than that; a caller that cuts a long range into slices must ask before the
 * first one. */
bool disk_could_provide(const struct disk *disk, uint64_t count);

/* As disk_zero without flags, but never fails for lack of memory: where the range covers a part of
 * a compressed page, that part may then keep its bytes.  The malloc allocator zeroes the range and
 * keeps the memory.  -EINVAL: the range does not lie within the disk. */
int disk_trim(struct disk *disk, uint64_t offset, uint64_t count);

/* Report which parts of a range are holes, and which hold data.  fn is called for each extent from
 * offset to the end of the range, in order: without gaps or overlap, none empty, none beyond the
 * range.  Adjacent extents differ, unless the range was reported in several calls of disk_extents.
 * A hole reads as zeroes; data may.  If fn returns a value other than 0, the rest is not reported,
 * and that value is returned.  -EINVAL: the range does not lie within the disk. */
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);
int disk_extents(struct disk *disk, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                 void *opaque);

/* Wait until housekeeping has dealt with everything that was done before the call: freed memory is
 * back with the system, pages that are all zero are holes, and every page that compresses is
 * compressed, cold or not.  For tests, measurements and people who are about to look at the
 * resident size.  Never fails. */
int disk_settle(struct disk *disk);

/* Sizes of the moment.  A page that is being compressed may count twice, and one that is being
 * freed may still count.  After disk_settle, on a disk at rest, they are exact. */
struct disk_stats {
    uint64_t pages;      /* pages that hold data, compressed or not */
    uint64_t compressed; /* pages of these that are compressed */
    uint64_t blob_bytes; /* bytes that the compressed pages take */
    uint64_t memory;     /* bytes that count towards the limit: pages, index, free memory kept */
    uint64_t limit;      /* bytes that memory may grow to; 0: there is no fixed limit */
};
void disk_stats(struct disk *disk, struct disk_stats *stats);

/* For tests and debug builds: walk the whole disk and verify its invariants, while no request is
 * running.  Free memory may be given back first, as disk_settle does.
 *
 * 0          all of them hold
 * -EUCLEAN   one is broken, and *reason says which
 * -ENOMEM    there is no memory to find out
 *
 * In a build with self_check (os/check.h) disk_destroy does this, too, and aborts if one is
 * broken. */
int disk_check(struct disk *disk, struct reason *reason);

#endif
