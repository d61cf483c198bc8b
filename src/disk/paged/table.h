/* SPDX-License-Identifier: BSD-3-Clause */

/* table - where each page of a disk is
 *
 * A radix tree of fixed height over page numbers.  The table knows only the kind of a page's
 * word: the frame or blob that the word leads to belongs to the caller.
 *
 * Everything here except create, destroy and release runs inside a read section (rcu.h) of the
 * caller, on any number of threads.  A slot that the caller has found is good until that section
 * ends.  Nothing here waits.
 */

#ifndef NBDRAM_DISK_PAGED_TABLE_H
#define NBDRAM_DISK_PAGED_TABLE_H

#include <stdint.h>

#include "disk/memory/pool.h"
#include "disk/paged/entry.h"
#include "disk/paged/node.h"

struct reason; /* text/reason.h */

struct table {
    struct pool nodes, lones;
    uint64_t pages;
    unsigned height; /* levels of nodes; the tree has room for 16^height pages */
    slot_t root;
    _Atomic uint32_t generation; /* of the last freeze */
};

/* Make a table for `pages` pages.  Its pools get chunk, capacity, locked and budget from options.
 * Returns 0 or -ENOMEM.  On an error everything is undone. */
int table_create(struct table *table, uint64_t pages, const struct pool_options *options);
void table_destroy(struct table *table); /* a table of all zeroes is accepted */

/* Find the slot of a page.  *span is the number of pages, from this one on, for which the answer
 * holds:
 *
 *     a slot   slot[0] to slot[*span - 1] are the slots of these pages; pass each of them through
 *              table_resolve
 *     NULL     these pages have no slot, and are holes
 *
 * *span may reach beyond the disk, but not beyond the tree. */
slot_t *table_find(struct table *table, uint64_t page, uint64_t *span);

/* As table_find, but make the slot if there is none.  Pass the slots through
 * table_resolve_thawed.  `pages` is the number of pages, from this one on, for which the caller
 * is going to call this function.  Returns 0, or an error of pool_take. */
int table_make(struct table *table, uint64_t page, uint64_t pages, slot_t **slot, uint64_t *span);

/* The slot that holds a page's word: the given slot or, if that leads to a lone, the slot inside
 * the lone.  A thread that is going to turn a hole into a page must use table_resolve_thawed,
 * which thaws the lone. */
static inline slot_t *table_resolve(const struct table *table, slot_t *slot);
static inline slot_t *table_resolve_thawed(const struct table *table, slot_t *slot);

/* Take the words of whole subtrees that lie in the pages [first, end) out of the table, until
 * `out`, which has room for max words, is full.  *count is the number of words put into `out`.
 * The caller must pass each of them to table_release after a grace period.  Returns a page: up to
 * that page the range is empty.  If the page is `end` or more, the whole range is. */
uint64_t table_unlink(struct table *table, uint64_t first, uint64_t end, uint64_t *out,
                      unsigned max, unsigned *count);

/* Free what an unlinked word leads to, down to the last page below it.  The words of pages are
 * passed to fn.  Needs no section: no other thread knows the word any more. */
typedef void table_page_fn(void *opaque, uint64_t word);
void table_release(struct table *table, uint64_t word, table_page_fn *fn, void *opaque);

/* Freeze the word in a slot, which must be *word, in order to take away the page or node that it
 * leads to.  *word becomes the frozen word.  If the slot still holds the frozen word after a
 * grace period, no thread has written to the page or node since, and none is about to write.
 * Returns false if the word was frozen already, or was not *word any more. */
bool table_freeze(struct table *table, slot_t *slot, uint64_t *word);

/* Take away an empty node or lone, in the same way as table_freeze, in two steps.
 *
 * table_freeze_empty looks for the lowest node or lone on the way to page.  If it is empty, this
 * freezes its word and returns true, and *word is the frozen word.
 *
 * table_unlink_empty is called with that word after a grace period.  If the node or lone is still
 * empty and its word is the same, this unlinks it and returns true.  The caller must then pass
 * the word to table_release after another grace period.  Otherwise this thaws the word. */
bool table_freeze_empty(struct table *table, uint64_t page, uint64_t *word);
bool table_unlink_empty(struct table *table, uint64_t page, uint64_t word);

/* For tests and debug builds: verify the invariants of table_check.c.  No other thread may use
 * the table, and no unlinked word may wait for its release.  The word of each page is passed to
 * fn, in ascending order of pages, so that the caller can verify it; if fn returns a value other
 * than 0, the walk ends.  Returns 0; -EUCLEAN, and reason says what is broken; -ENOMEM; or the
 * value of fn. */
typedef int table_visit_fn(void *opaque, uint64_t page, uint64_t word, struct reason *reason);
int table_check(struct table *table, table_visit_fn *fn, void *opaque, struct reason *reason);

/* The bodies of the inline functions above, and what they use. */

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
