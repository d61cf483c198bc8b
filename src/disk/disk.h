/* SPDX-License-Identifier: BSD-3-Clause */

/* disk - one RAM disk
 *
 * A disk is a virtual array of bytes [0, size), at first all zeroes, that lives in memory.  This
 * header is the whole of what plugin/ and server/ may know of it.  It knows no NBD, owns no
 * socket and never logs: it answers with errors, and the caller tells them to whom it concerns.
 *
 * ERRORS.  Functions return 0 or -errno.  An error of a write or a zero means that any part of
 * the range may hold the new bytes and the rest the old ones; nothing outside the range changes,
 * and what was acknowledged before is still there.
 *
 * THREADS.  disk_read, disk_write, disk_zero, disk_trim, disk_extents, disk_lend, disk_fill,
 * disk_stats and disk_settle may be called from any thread, at the same time, on the same bytes.
 * Requests that do not overlap in time see each other's results; requests that do overlap, in
 * time and in bytes, leave in each byte what one of them put there, and a sector that was seen to
 * be written over as a whole does not come back.  disk_create, disk_start and disk_destroy have
 * the disk to themselves.
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
#define DISK_LEVEL_DEFAULT 4 /* on 32 KiB as fast as 3, and 1 % smaller */
#define DISK_LIMIT_MIN ((uint64_t)1 << 20)

struct disk_options {
    uint64_t size;  /* 0 to DISK_SIZE_MAX */
    uint64_t limit; /* the most memory that content and index may take, at least
                     * DISK_LIMIT_MIN; 0: what the machine and the control group
                     * can give while a reserve stays free */
    const struct allocator *allocator; /* NULL: the default, the first of allocators[] */
    bool mlock; /* the memory is never swapped out; for an allocator that takes mlock */
    int level;  /* of compression; for an allocator that takes a level */
};

/* Fill in options->allocator, mlock and level from text, as in the command line's
 *
 *     sparse[,mlock=BOOL]   malloc[,mlock=BOOL]   zstd[,level=1..19]
 *
 * BOOL is parse_bool's (text/parse.h).  On an error, -EINVAL, the reason says what is wrong and
 * what is accepted, and options is as it was. */
int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason);

/* For help texts: print a line for each allocator, with indent before it. */
void disk_print_allocators(FILE *to, const char *indent);

/* For --dump-plugin: print a line NAME=yes for each allocator, and for each parameter that not every
 * memory plugin has. */
void disk_print_features(FILE *to);

/* Make a disk.  No thread is started, so the process may still fork.
 *
 * -EINVAL   an option is out of its range
 * -ENOMEM   malloc: the machine, the control group or the limit cannot give that much now;
 *           any: not even the index's first piece could be had
 * -EPERM    the locked-memory limit (RLIMIT_MEMLOCK) does not allow mlock */
int disk_create(const struct disk_options *options, struct disk **disk);

/* Say what an error of disk_create or disk_start means to the person who asked for such a disk. */
void disk_explain(const struct disk_options *options, int error, struct reason *reason);

/* Start the threads that give memory back and compress, and lock memory if that was asked for:
 * neither survives a fork.  To be called once, after the last fork, before the first request.
 * On an error the disk can only be destroyed. */
int disk_start(struct disk *disk);

/* Stop the threads and free everything.  NULL is accepted; so is a disk not yet started. */
void disk_destroy(struct disk *disk);

uint64_t disk_size(const struct disk *disk);

/* The unit in which the disk is allocated: requests aligned to it are the cheapest. */
uint32_t disk_page_size(const struct disk *disk);

/* Copy a range out of or into the disk.  The buffer stays the caller's.  A range that does not
 * lie within the disk is -EINVAL for a read and -ENOSPC for a write (NBD specification, "Error
 * values").  disk_write may also answer -ENOSPC when the memory it may take is used up. */
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

/* Loans: memory of the disk, lent to a call of the system that sends from it or receives into it,
 * so that no byte is copied on its way.  A loan ends with the read section in which it was made.
 * Memory that is taken away meanwhile waits for that, and so does whoever waits for memory: a
 * section is to be short, and must not block.
 *
 * Sending.  Between disk_lend_begin and disk_lend_end the thread may call disk_lend and
 * disk_read, and nothing else of the disk.
 *
 * disk_lend tells what stands at offset: of the range the longest part, from its beginning on,
 * that is of one kind and, if it is data, in one piece in memory.  (A very long one may be told
 * in several calls.)  -EINVAL: count is 0, or the range does not lie within the disk. */
enum disk_piece_kind {
    DISK_PIECE_DATA,   /* at base; others may change it while it is read, as with any read */
    DISK_PIECE_HOLE,   /* zeroes; base is NULL */
    DISK_PIECE_PACKED, /* compressed: get it with disk_read; base is NULL */
};
struct disk_piece {
    enum disk_piece_kind kind;
    const void *base; /* good until disk_lend_end */
    size_t count;     /* bytes, never 0 */
};
void disk_lend_begin(struct disk *disk);
void disk_lend_end(struct disk *disk);
int disk_lend(struct disk *disk, uint64_t offset, size_t count, struct disk_piece *piece);

/* Receiving.  disk_fill finds places for the range, or for a leading part of it, calls fn once
 * with them, in a read section (so fn must not block, nor call the disk), and makes what was
 * received the disk's, as disk_write does: zeroes over a hole leave a hole.
 *
 * *lent is the number of bytes offered.  fn returns how many it put there, in order and without
 * gaps, from 0 to *lent, or -errno and has put none; it must not touch the places behind those.
 * Bytes not received leave the disk as it was.  iov has iov_count entries, DISK_FILL_IOV_MAX at
 * the most, and room for one more, which fn may use: so it can receive, in the same call of the
 * system, what follows on the range.
 *
 * Returns what fn returned; or without having called fn
 *
 * -ENOBUFS  no place at offset can be lent now: write there with disk_write, up to the end of the
 *           page at least
 * -ENOSPC   the range does not lie within the disk
 *
 * or, having called it, -ENOSPC as disk_write: there was a place, but not the memory to make it
 * the disk's.  As fn has taken bytes from somewhere then, it is for fn to remember how many. */
#define DISK_FILL_IOV_MAX 64
typedef ssize_t disk_fill_fn(void *opaque, struct iovec *iov, int iov_count);
ssize_t disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                  disk_fill_fn *fn, void *opaque);

/* Make a range read as zeroes.  Whole pages are let go, and with them their memory, unless
 * DISK_NO_HOLE asks for memory to be provided instead, so that a later write of the range
 * cannot fail for lack of it: such pages stay until they are trimmed, or zeroed whole without it.
 * Errors as disk_write. */
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

/* Whether so many bytes could be provided at the very best: else disk_zero refuses DISK_NO_HOLE
 * for that many at once.  To be asked by who cuts a long range into slices. */
bool disk_could_provide(const struct disk *disk, uint64_t count);

/* As disk_zero, but never fails for lack of memory: part of a compressed page may then stay as it
 * was.  A range not within the disk is -EINVAL.  The
 * malloc allocator zeroes the range and keeps the memory. */
int disk_trim(struct disk *disk, uint64_t offset, uint64_t count);

/* Tell which parts of a range are holes: from offset on, in order, without gaps or overlap, none
 * empty, clipped to the range.  Neighbours differ, unless the range was told in several calls.  A
 * hole reads as zeroes.  If fn returns non-zero no more are told and that value is returned. */
typedef int disk_extent_fn(void *opaque, uint64_t offset, uint64_t count, bool hole);
int disk_extents(struct disk *disk, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                 void *opaque);

/* Wait until housekeeping has caught up with what was done before the call: trimmed memory is
 * given back, pages found all zero are holes, and what compresses is compressed (whether cold
 * or not).  For tests, measurements and people who are about to look at the resident size. */
int disk_settle(struct disk *disk);

/* Sizes of the moment.  What is just being compressed or let go may count twice or still; after
 * disk_settle, on a disk at rest, they are exact. */
struct disk_stats {
    uint64_t pages;      /* pages that hold data, however kept */
    uint64_t compressed; /* of these, compressed ones */
    uint64_t blob_bytes; /* what the compressed ones take */
    uint64_t memory;     /* all that counts towards the limit: pages, index, free pieces kept */
    uint64_t limit;      /* what memory may grow to; 0: no fixed limit */
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
