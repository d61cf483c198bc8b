/* SPDX-License-Identifier: BSD-3-Clause */

/* table - which page of a disk is where
 *
 * A radix tree of fixed height over page numbers.  The table says nothing of what a page's word
 * means beyond its kind: frames and blobs are the caller's.
 *
 * Everything here but create, destroy and release runs inside one read section (rcu.h) of the
 * caller, from any number of threads; a slot found is good until that section ends.  Nothing here
 * waits.
 */

#ifndef NBDRAM_DISK_PAGED_TABLE_H
#define NBDRAM_DISK_PAGED_TABLE_H

#include <stdint.h>

#include "disk/paged/entry.h"
#include "disk/memory/pool.h"

struct table {
    struct pool nodes, lones;
    uint64_t pages;
    unsigned height; /* levels of nodes; the tree holds 16^height pages */
    slot_t root;
    _Atomic uint32_t generation; /* of the last freeze */
};

/* A table for `pages` pages.  options gives chunk, capacity, locked and budget of its pools. */
int table_create(struct table *table, uint64_t pages, const struct pool_options *options);
void table_destroy(struct table *table);

/* The slot of a page, and in *span for how many pages from there on this answer is good: of a
 * slot, slot[0] to slot[span - 1] are those of the pages from page on, each to be passed through
 * table_resolve; of NULL, the next span pages have no slot, and are holes.  *span reaches to the
 * end of the tree at the most, not of the disk. */
slot_t *table_find(struct table *table, uint64_t page, uint64_t *span);

/* As table_find, but makes the slot if there is none, to be passed through table_resolve_thawed;
 * `pages` tells how many pages from `page` on are going to be asked for.  -ENOSPC, -ENOMEM: as
 * pool_take. */
int table_make(struct table *table, uint64_t page, uint64_t pages, slot_t **slot, uint64_t *span);

/* The slot where the word of a page stands: the given one, or the lone's to which it leads.  Who
 * is going to turn a hole into something wants the second form, which thaws the lone. */
static inline slot_t *table_resolve(const struct table *table, slot_t *slot);
static inline slot_t *table_resolve_thawed(const struct table *table, slot_t *slot);

/* Take what lies wholly in the pages [first, end) out of the table, as far as it fits into out
 * (max words): *count words were taken, and the caller must hand each to table_release after a
 * grace period.  Returns the page up to which nothing is left, end or more when all is done. */
uint64_t table_unlink(struct table *table, uint64_t first, uint64_t end, uint64_t *out,
                      unsigned max, unsigned *count);

/* Give back what an unlinked word stood for.  Pages' words, down to the last one below it, are
 * handed to drop.  No section is needed: nobody else knows the word any more. */
typedef void table_drop_fn(void *opaque, uint64_t word);
void table_release(struct table *table, uint64_t word, table_drop_fn *drop, void *opaque);

/* Freeze the word in a slot, so that it can be taken away because of what it holds: after a grace
 * period, if the slot still holds the very word that was left in *word, nobody has written, nor
 * is writing, what it leads to.  False if the word is frozen or has changed from *word. */
bool table_freeze(struct table *table, slot_t *slot, uint64_t *word);

/* An empty node is taken away the same way.  table_freeze_empty freezes the lowest node on the
 * way to page if that is empty: true, and *word for table_unlink_empty after a grace period,
 * which unlinks it if it is still the same and still empty, and else thaws it. */
bool table_freeze_empty(struct table *table, uint64_t page, uint64_t *word);
bool table_unlink_empty(struct table *table, uint64_t page, uint64_t word);

/* Inside. */

struct lone {
    uint64_t page;
    slot_t slot;
};

static inline slot_t *table_resolve(const struct table *table, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    if (entry_kind(word) != ENTRY_LONE)
        return slot;
    struct lone *lone = pool_at(&table->lones, entry_number(word));
    return &lone->slot;
}

static inline slot_t *table_resolve_thawed(const struct table *table, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    while (entry_kind(word) == ENTRY_LONE && (word & ENTRY_FROZEN))
        slot_swap(slot, &word, entry_thawed(word));
    return table_resolve(table, slot);
}

#endif
