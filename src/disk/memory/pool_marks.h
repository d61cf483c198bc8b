/* SPDX-License-Identifier: BSD-3-Clause */

/* pool_marks - finds cells that have leaked or were freed too early
 *
 * The pool knows which cells are in use, but not which structure uses them.  To find that out, a
 * check walks over all structures, and marks each cell that a structure uses.  Then the marks are
 * compared with the pool.  If a cell is in use and not marked, it has leaked.  If a cell is
 * marked and not in use, it was freed too early.
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
    const char *what; /* what error messages call a cell, such as "node" */
    uint64_t count;   /* number of cells in the chunks that were ever used */
    uint64_t *bits;   /* one bit for each cell: whether the cell is marked */
};

/* Set up the marks.  At first no cell is marked.  The string `what` must outlive the marks.
 * Returns 0 or -ENOMEM. */
int pool_marks_make(struct pool_marks *marks, struct pool *pool, const char *what);
void pool_marks_free(struct pool_marks *marks); /* `marks` may be all zeroes */

/* Mark a cell.  Returns 0 or -EUCLEAN.  -EUCLEAN means that the pool never had such a cell, or
 * that the cell is marked already because two structures use it. */
int pool_marks_add(struct pool_marks *marks, uint64_t cell, struct reason *reason);

/* Verify the pool (pool_check), and compare the marks with the cells that the pool has in use. */
int pool_marks_compare(struct pool_marks *marks, struct reason *reason);

#endif
