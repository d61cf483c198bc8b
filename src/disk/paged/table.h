/* SPDX-License-Identifier: BSD-3-Clause */

/* table - where each page of a disk is
 *
 * The table is a radix tree of fixed height over page numbers.  It knows only the kind of a
 * page's word.  The frame or blob to which the word leads belongs to the caller.
 *
 * Any number of threads may call these functions inside their read sections (rcu.h).  Only
 * create, destroy, release and check are called outside.  If the caller finds a slot, it may use
 * the slot until the section ends.  No function waits.
 */

#ifndef NBDRAM_DISK_PAGED_TABLE_H
#define NBDRAM_DISK_PAGED_TABLE_H

#include <stdint.h>

#include "disk/memory/pool.h"
#include "disk/paged/entry.h"
#include "disk/paged/node.h"

struct reason; /* text/reason.h */

_Static_assert(POOL_CELLS_MAX - 1 == ENTRY_NUMBER_MAX, "a word has room for each cell's number");

struct table {
    struct pool nodes, lones;
    uint64_t pages;
    unsigned height; /* number of levels of nodes; the tree can hold 16^height pages */
    slot_t root;
    _Atomic uint32_t generation; /* of the last freeze */
};

/* Make a table for `pages` pages.  Its two pools get chunk, locked and budget from options.
 * The pool of nodes gets its capacity from options, too; the pool of lones gets lones_capacity.
 * Returns 0 or -ENOMEM.  On an error everything is undone. */
int table_create(struct table *table, uint64_t pages, const struct pool_options *options,
                 uint64_t lones_capacity);
void table_destroy(struct table *table); /* does nothing if *table is all zeroes */

/* Find the slot of a page.  The result covers *span pages, of which `page` is the first:
 *
 *     a slot   slot[0] to slot[*span - 1] are the slots of these pages; pass each of them through
 *              table_resolve
 *     NULL     these pages have no slot, and are holes
 *
 * *span can reach beyond the disk, but not beyond the tree.
 */
slot_t *table_find(struct table *table, uint64_t page, uint64_t *span);

/* Find the slot of a page, or make it if there is none.  The result covers *span pages, as that
 * of table_find does.  Pass each slot through table_resolve_thawed.  `pages` is the number of
 * pages, of which `page` is the first, for which the caller is going to call this function.
 * Returns 0, or an error of pool_take. */
int table_make(struct table *table, uint64_t page, uint64_t pages, slot_t **slot, uint64_t *span);

/* A reserve: nodes that are set aside for later calls of table_make_reserved.  A reserve of all
 * zeroes is empty.
 *
 * table_reserve sets aside as many nodes as the pages [first, end) can need.  The range must not
 * have more than TABLE_RESERVE_PAGES pages.  Returns 0, or an error of pool_take.  After an error
 * the reserve is empty.
 *
 * table_unreserve gives the nodes that are still in the reserve back to the pool.
 */
#define TABLE_RESERVE_PAGES 160
#define TABLE_RESERVE_MAX 64
struct table_reserve {
    unsigned count;
    uint64_t nodes[TABLE_RESERVE_MAX];
};
int table_reserve(struct table *table, uint64_t first, uint64_t end,
                  struct table_reserve *reserve);
void table_unreserve(struct table *table, struct table_reserve *reserve);

/* Do what table_make does, but take nodes from the reserve.  This fails only if a trim has
 * removed nodes from the table that had come from the reserve. */
int table_make_reserved(struct table *table, uint64_t page, uint64_t pages,
                        struct table_reserve *reserve, slot_t **slot, uint64_t *span);

/* Find the slot that holds a page's word.  `slot` is a slot that table_find or table_make has
 * returned.  If it leads to a lone, returns the slot inside the lone.  Otherwise returns `slot`
 * itself.  A thread that is going to turn a hole into a page must use table_resolve_thawed, which
 * also thaws the lone. */
static inline slot_t *table_resolve(const struct table *table, slot_t *slot);
static inline slot_t *table_resolve_thawed(const struct table *table, slot_t *slot);

/* Unlink the pages [first, end): take the words of whole subtrees in this range out of the table,
 * and put them into the array `out`, which can hold `max` words.  Stops when `out` is full.
 * *count is the number of words in `out`.  After a grace period, the caller must pass each of
 * these words to table_release.  Returns the page up to which the range is empty.  If that is
 * `end` or more, the whole range is empty. */
uint64_t table_unlink(struct table *table, uint64_t first, uint64_t end, uint64_t *out,
                      unsigned max, unsigned *count);

/* Free all nodes and lones to which an unlinked word leads.  The word of each page below them is
 * passed to fn, which frees the page.  If the unlinked word is itself the word of a page, only
 * this word is passed to fn.  If fn returns false, everything that is not freed yet stays
 * allocated, and table_release returns false.  The caller need not be in a section, because no
 * other thread knows the unlinked word any more. */
typedef bool table_page_fn(void *opaque, uint64_t word);
bool table_release(struct table *table, uint64_t word, table_page_fn *fn, void *opaque);

/* Freeze a word, as the first step of removing the page or node to which it leads.  slot must
 * hold *word, and *word becomes the frozen word.  Returns false if slot holds another word, or if
 * the word is frozen already.
 *
 * Then wait for a grace period.  If slot still holds the frozen word after that, no thread has
 * written to the page or node since the freeze, and none is about to write.
 */
bool table_freeze(struct table *table, slot_t *slot, uint64_t *word);

/* Remove an empty node or lone in two steps.  First its word is frozen; after a grace period the
 * node or lone is unlinked.
 *
 * table_freeze_empty finds the lowest node or lone on the way to `page`.  If the node or lone is
 * empty, this function freezes its word and returns true; *word is the frozen word.
 *
 * Call table_unlink_empty with the frozen word after a grace period.  If the node or lone is
 * still empty, and its word has not changed, this function unlinks it and returns true.  The
 * caller must then pass the word to table_release after another grace period.  Otherwise this
 * function thaws the word and returns false.
 */
bool table_freeze_empty(struct table *table, uint64_t page, uint64_t *word);
bool table_unlink_empty(struct table *table, uint64_t page, uint64_t word);

/* Verify the invariants of table_check.c.  Only tests and debug builds call this function.  No
 * other thread uses the table during the call, and no unlinked word waits for its release.  The
 * words of all pages are passed to fn, in ascending order of pages, so that the caller can verify
 * them.  If fn returns a value other than 0, the walk ends.  Returns 0; -EUCLEAN, and reason says
 * what is broken; -ENOMEM; or the value of fn. */
typedef int table_visit_fn(void *opaque, uint64_t page, uint64_t word, struct reason *reason);
int table_check(struct table *table, table_visit_fn *fn, void *opaque, struct reason *reason);

/* Definitions of the inline functions that are declared above, and of the functions that they
 * use. */

static inline struct node *table_node(const struct table *table, uint64_t word)
{
    return pool_at(&table->nodes, entry_number(word));
}

static inline struct lone *table_lone(const struct table *table, uint64_t word)
{
    return pool_at(&table->lones, entry_number(word));
}

static inline slot_t *table_resolve(const struct table *table, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    if (entry_kind(word) != ENTRY_LONE)
        return slot;
    return &table_lone(table, word)->slot;
}

static inline slot_t *table_resolve_thawed(const struct table *table, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    while (entry_kind(word) == ENTRY_LONE && (word & ENTRY_FROZEN))
        slot_swap(slot, &word, entry_thawed(word));
    return table_resolve(table, slot);
}

#endif
