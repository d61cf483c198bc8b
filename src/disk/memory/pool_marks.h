/* SPDX-License-Identifier: BSD-3-Clause */

/* pool_marks - finds cells that have leaked or were freed too early
 *
 * The pool knows which cells are in use, but not by which structure.  A walk over the structures
 * that use cells marks each cell that it meets.  Then the marks are compared with the pool: a
 * cell that is in use and not marked has leaked, and a cell that is marked and not in use was
 * freed too early.
 *
 * For tests and debug builds.  From pool_marks_make to pool_marks_compare no thread may take or
 * give cells.  Errors are -EUCLEAN, and the reason names the cell, or -ENOMEM.
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_MARKS_H
#define NBDRAM_DISK_MEMORY_POOL_MARKS_H

#include "disk/memory/pool.h"

struct pool_marks {
    struct pool *pool;
    const char *what; /* name of a cell in reasons, such as "node" */
    uint64_t count;   /* number of cells that were ever made */
    uint64_t *bits;   /* bitmap of the marked cells */
};

/* Begin with no cell marked.  `what` must outlive the marks.  Returns 0 or -ENOMEM. */
int pool_marks_make(struct pool_marks *marks, struct pool *pool, const char *what);
void pool_marks_free(struct pool_marks *marks); /* marks that are all zeroes are accepted */

/* Mark a cell.  Returns -EUCLEAN if the cell was never made, or if it is marked already because
 * two structures lead to it. */
int pool_marks_add(struct pool_marks *marks, uint64_t cell, struct reason *reason);

/* Verify the pool (pool_check), and compare its cells in use with the marks. */
int pool_marks_compare(struct pool_marks *marks, struct reason *reason);

#endif
