/* SPDX-License-Identifier: BSD-3-Clause */

/* pool_marks - finds cells that have leaked or were freed too early
 *
 * The pool knows which cells are in use, but not which structure uses them.  A walk over these
 * structures marks each cell that it meets.  Then the marks are compared with the pool.  A cell
 * that is in use and not marked has leaked.  A cell that is marked and not in use was freed too
 * early.
 *
 * This is for tests and debug builds.  From pool_marks_make to pool_marks_compare no thread may
 * take or give cells.  Errors are -ENOMEM and -EUCLEAN.  With -EUCLEAN, the reason names the
 * cell.
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_MARKS_H
#define NBDRAM_DISK_MEMORY_POOL_MARKS_H

#include "disk/memory/pool.h"

struct pool_marks {
    struct pool *pool;
    const char *what; /* what reasons call a cell, such as "node" */
    uint64_t count;   /* number of cells that were ever made */
    uint64_t *bits;   /* bitmap of the marked cells */
};

/* Begin with no cell marked.  `what` must outlive the marks.  Returns 0 or -ENOMEM. */
int pool_marks_make(struct pool_marks *marks, struct pool *pool, const char *what);
void pool_marks_free(struct pool_marks *marks); /* accepts marks that are all zeroes */

/* Mark a cell.  Returns 0 or -EUCLEAN.  -EUCLEAN means that the cell was never made, or that it
 * is marked already because two structures lead to it. */
int pool_marks_add(struct pool_marks *marks, uint64_t cell, struct reason *reason);

/* Verify the pool (pool_check), and compare its cells in use with the marks. */
int pool_marks_compare(struct pool_marks *marks, struct reason *reason);

#endif
