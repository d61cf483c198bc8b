/* SPDX-License-Identifier: BSD-3-Clause */

/* loan_stage - a disk that is filled by loans, and what it has to hold
 *
 * A function that finds something wrong fails the test.  The test's thread only.
 */

#ifndef NBDRAM_TESTS_LOAN_STAGE_H
#define NBDRAM_TESTS_LOAN_STAGE_H

#include "support/loan.h"
#include "support/support.h"

#define LOAN_STAGE_PAGES 40
#define LOAN_STAGE_ODD 777 /* bytes that the disk has of one more page */

struct loan_stage {
    struct disk *disk;
    const struct allocator *allocator;
    size_t page, size;
    uint8_t *wanted; /* what the disk has to hold */
    uint8_t *found;  /* scratch, for comparing */
    uint8_t *fresh;  /* what a fill receives; like the two above it has `size` bytes */
    uint8_t *text;   /* twice the size */
    struct prng prng;
};

void loan_stage_make(struct loan_stage *stage, const struct allocator *allocator);
void loan_stage_free(struct loan_stage *stage);

/* What the disk holds before a fill.  With zstd any page of text may be compressed at any time; a
 * fill that begins in the middle of it is refused from then on. */
enum loan_ground {
    HOLES,            /* no page */
    PAGES_IN_ORDER,   /* text in each page but the last, which is a part */
    EVERY_OTHER_PAGE, /* text in pages 0, 2, 4... */
    PACKED,           /* as PAGES_IN_ORDER, and compressed if this allocator does that */
    GROUNDS,          /* how many there are */
};
/* Trimmed frames wait for a grace period, and a small disk has address space for some 32 MiB of
 * frames only; if that ends, fills are offered less.  So this settles the disk in time. */
void loan_stage_lay(struct loan_stage *stage, enum loan_ground ground);

/* Write text. */
void loan_stage_write_text(struct loan_stage *stage, size_t offset, size_t count);

/* loan_fill from stage->fresh; what it received is wanted from then on. */
ssize_t loan_stage_fill(struct loan_stage *stage, size_t offset, size_t count,
                        struct source *source);

/* Compare all of the disk, read both ways, with what is wanted; `when` is for the message. */
void loan_stage_check(struct loan_stage *stage, const char *when);

#endif
