/* SPDX-License-Identifier: BSD-3-Clause */

/* table - which page of a disk is where
 *
 * A radix tree of fixed height over page numbers.  Of a page's word the table knows only the kind:
 * frames and blobs belong to the caller.
 *
 * Everything here except create, destroy and release runs inside a read section (rcu.h) of the
 * caller, from any number of threads.  A slot that was found is good until that section ends.
 * Nothing here waits.
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

/* Make a table for `pages` pages.  options gives chunk, capacity, locked and budget of its pools.
 * 0, or -ENOMEM, and nothing is left. */
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
 * table_resolve_thawed.  `pages` is the number of pages, from this one on, for which the caller is
 * going to ask.  0, or an error of pool_take. */
int table_make(struct table *table, uint64_t page, uint64_t pages, slot_t **slot, uint64_t *span);

/* The slot that holds a page's word: the given slot, or the slot inside the lone to which it
 * leads.  A thread that is going to turn a hole into a page must use the second form, which thaws
 * the lone. */
static inline slot_t *table_resolve(const struct table *table, slot_t *slot);
static inline slot_t *table_resolve_thawed(const struct table *table, slot_t *slot);

/* Take the words of whole subtrees that lie in the pages [first, end) out of the table, until out
 * is full: it has room for max words, and *count are put into it.  The caller must pass each of
 * them to table_release after a grace period.  Returns the page up to which nothing is left; end
 * or more means that all is done. */
uint64_t table_unlink(struct table *table, uint64_t first, uint64_t end, uint64_t *out,
                      unsigned max, unsigned *count);

/* Free what an unlinked word leads to.  The words of pages, down to the last one below it, are
 * passed to fn.  Needs no section: no other thread knows the word any more. */
typedef void table_page_fn(void *opaque, uint64_t word);
void table_release(struct table *table, uint64_t word, table_page_fn *fn, void *opaque);

/* Freeze the word in a slot, which must be *word, in order to take away what it leads to; *word
 * becomes the frozen word.  If the slot still holds that very word after a grace period, no
 * thread has written what it leads to since, and none is about to.  False if the word is frozen
 * already, or is not *word any more. */
bool table_freeze(struct table *table, slot_t *slot, uint64_t *word);

/* Take away an empty node or lone, in the same way.  The first freezes the lowest one on the way
 * to page, if that is empty: true, and *word for the second, which is to be called after a grace
 * period.  The second unlinks it if its word is still the same and it is still empty: true, and
 * the caller must pass the word to table_release after another grace period.  Otherwise it thaws
 * the word. */
bool table_freeze_empty(struct table *table, uint64_t page, uint64_t *word);
bool table_unlink_empty(struct table *table, uint64_t page, uint64_t word);

/* For tests and debug builds, while no other thread uses the table, and nothing that was unlinked
 * waits to be released: verify the invariants of table_check.c.  Each page's word is passed to fn,
 * in ascending order of pages, for the caller to verify it; a value other than 0 ends the walk.
 * 0; -EUCLEAN, and in reason what is broken; -ENOMEM; or what fn returned. */
typedef int table_visit_fn(void *opaque, uint64_t page, uint64_t word, struct reason *reason);
int table_check(struct table *table, table_visit_fn *fn, void *opaque, struct reason *reason);

/* Inside. */

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
