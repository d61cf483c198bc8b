/* SPDX-License-Identifier: BSD-3-Clause */

/* A node is 16 slots of 8 bytes, two cache lines.  The slots of level L lead to 16^L pages each;
 * those of level 0 are the pages' own.  Where a slot leads to one page only, a lone stands in for
 * the nodes on the way down:
 *
 *     root (level 3 here)
 *      |
 *      v
 *     [ . . N . . . L . . . . . . . . . ]     L  a lone {page, slot}: the only page in this 1/16
 *           |                                    of the disk
 *           v
 *     [ N . . . . . . . . . . . . . . L ]     .  a hole, of whatever size
 *       |
 *       v
 *     [ P P P L P P . . . . . . . . . . ]     P  the word of a page;  L  one that is still in the
 *                                                lone in which it was stored first
 *
 * So the height is fixed by the size of the disk (5 for 1 GiB of 4 KiB pages, 13 for 2^63 bytes),
 * yet the index of scattered pages grows with their number, not with the size of the disk: a
 * million pages over 2^63 bytes take some 60 bytes of index each.  Chains of nodes down to each
 * page would take 1 KiB with 16 slots to a node, and 2.9 KiB with 64.
 *
 * When a second page is stored below a lone's slot, a node is put in between.  The lone itself
 * stays where it is in memory.  The word that leads to it is first stored one level down, in the
 * new node, and then the node's word replaces it in its old slot.  So a page's slot does not move
 * for as long as the page is in the table.
 *
 * Invariants:
 *
 *  1. A published node changes only by compare-and-swap of its slots.  The page of a lone never
 *     changes.
 *  2. A node or lone that was unlinked (its word is gone from the slot that led to it) is
 *     released after a grace period at the earliest.  If a late writer stores a page in it
 *     meanwhile, that page is released with it.  Nothing is lost: a trim that covers all pages of
 *     the node or lone has unlinked it, and the write is concurrent with that trim.
 *  3. A node or lone that no trim covers is unlinked only when it is empty, and only after it was
 *     frozen.  Only table_make fills an empty node or lone, and it thaws words on its way down.
 *
 * Any operation may run concurrently with any other.  The table shows what makes each pair safe:
 *
 *                     find     make                unlink              freeze_empty, unlink_empty
 *
 *     find            -        slot_swap           grace period        grace period
 *                              publishes
 *
 *     make                     one swap wins, the  invariant 2         make thaws: the exact word
 *                              loser uses what                         is gone, and unlink_empty
 *                              the winner made                         gives up
 *
 *     unlink                                       one swap wins       one swap wins
 *
 *     freeze_empty,                                                    the generation of each
 *     unlink_empty                                                     freeze is another
 */

#include "disk/paged/table.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "disk/memory/sabotage.h"

int table_create(struct table *table, uint64_t pages, const struct pool_options *options,
                 uint64_t lones_capacity)
{
    struct pool_options nodes = *options, lones = *options;
    nodes.cell = sizeof(struct node);
    lones.cell = sizeof(struct lone);
    lones.capacity = lones_capacity;
    _Static_assert(sizeof(struct node) == 128 && sizeof(struct lone) == 16, "powers of two");
    memset(table, 0, sizeof *table);
    table->pages = pages;
    while (table->height == 0 || level_pages(table->height) < pages)
        table->height++;
    int r = pool_create(&nodes, &table->nodes);
    if (r == 0)
        r = pool_create(&lones, &table->lones);
    if (r < 0)
        table_destroy(table);
    return r;
}

void table_destroy(struct table *table)
{
    pool_destroy(&table->nodes);
    pool_destroy(&table->lones);
}

slot_t *table_find(struct table *table, uint64_t page, uint64_t *span)
{
    slot_t *slot = &table->root;
    for (unsigned level = table->height;;) {
        uint64_t word = slot_load(slot);
        if (entry_kind(word) == ENTRY_LONE) {
            struct lone *lone = table_lone(table, word);
            *span = lone->page == page  ? 1
                    : lone->page > page ? lone->page - page
                                        : level_end(level, page) - page;
            return lone->page == page ? &lone->slot : NULL;
        }
        if (entry_kind(word) != ENTRY_NODE) {
            *span = level_end(level, page) - page;
            return NULL;
        }
        slot = node_slot(table_node(table, word), --level, page);
        if (level == 0) {
            *span = level_end(1, page) - page;
            return slot;
        }
    }
}

/* reserve may be NULL, as in the functions below. */
static int take_node(struct table *table, struct table_reserve *reserve, uint64_t *cell)
{
    if (!reserve || reserve->count == 0)
        return pool_take(&table->nodes, BUDGET_GROW, cell);
    *cell = reserve->nodes[--reserve->count];
    return 0;
}

static void give_node(struct table *table, struct table_reserve *reserve, uint64_t cell)
{
    if (reserve)
        reserve->nodes[reserve->count++] = cell;
    else
        pool_give(&table->nodes, cell);
}

/* Put a new node in place of the hole or lone in slot.  *word becomes the word that is in slot
 * then, whether this thread or another one put it there. */
static int make_node(struct table *table, struct table_reserve *reserve, slot_t *slot,
                     uint64_t *word, unsigned level)
{
    uint64_t cell;
    int r = take_node(table, reserve, &cell);
    if (r < 0)
        return r;
    uint64_t made = entry_make(ENTRY_NODE, cell);
    struct node *node = table_node(table, made);
    for (unsigned i = 0; i < NODE_SLOTS; i++)
        atomic_init(&node->slots[i], 0);
    if (entry_kind(*word) == ENTRY_LONE)
        atomic_init(node_slot(node, level - 1, table_lone(table, *word)->page), *word);
    if (slot_swap(slot, word, made))
        *word = made;
    else
        give_node(table, reserve, cell);
    return 0;
}

/* Put a new lone for `page` in place of the hole in slot.  *word is set as by make_node. */
static int make_lone(struct table *table, slot_t *slot, uint64_t *word, uint64_t page)
{
    uint64_t cell;
    int r = pool_take(&table->lones, BUDGET_GROW, &cell);
    if (r < 0)
        return r;
    uint64_t made = entry_make(ENTRY_LONE, cell);
    struct lone *lone = table_lone(table, made);
    lone->page = page;
    atomic_init(&lone->slot, 0);
    if (slot_swap(slot, word, made))
        *word = made;
    else
        pool_give(&table->lones, cell);
    return 0;
}

/* Whether a hole at level 1 or above should become a lone.  It should if only one page is going
 * to be stored below it now: because the caller asked for one page, or because `page` is the last
 * page below the hole. */
static bool wants_lone(unsigned level, uint64_t page, uint64_t pages)
{
    return pages == 1 || level_end(level, page) - page == 1;
}

/* table_make and table_make_reserved.  Inline, so that a reserve costs the former nothing.
 * With a reserve, nodes take the place of a lone for which there is no memory. */
__attribute__((always_inline)) static inline int make(struct table *table, uint64_t page,
                                                      uint64_t pages,
                                                      struct table_reserve *reserve,
                                                      slot_t **found, uint64_t *span)
{
    slot_t *slot = &table->root;
    for (unsigned level = table->height; level > 0;) {
        uint64_t word = slot_load(slot);
        int r = 0;
        if (word & ENTRY_FROZEN) {
            slot_swap(slot, &word, entry_thawed(word));
        } else if (entry_kind(word) == ENTRY_NODE) {
            slot = node_slot(table_node(table, word), --level, page);
        } else if (entry_kind(word) == ENTRY_LONE && table_lone(table, word)->page == page) {
            *found = &table_lone(table, word)->slot;
            *span = 1;
            return 0;
        } else if (word == 0 && wants_lone(level, page, pages)) {
            r = make_lone(table, slot, &word, page);
            if (r < 0 && reserve)
                r = make_node(table, reserve, slot, &word, level);
        } else {
            r = make_node(table, reserve, slot, &word, level);
        }
        if (r < 0)
            return r;
    }
    *found = slot;
    *span = level_end(1, page) - page;
    return 0;
}

int table_make(struct table *table, uint64_t page, uint64_t pages, slot_t **slot, uint64_t *span)
{
    return make(table, page, pages, NULL, slot, span);
}

int table_make_reserved(struct table *table, uint64_t page, uint64_t pages,
                        struct table_reserve *reserve, slot_t **slot, uint64_t *span)
{
    return make(table, page, pages, reserve, slot, span);
}

int table_reserve(struct table *table, uint64_t first, uint64_t end,
                  struct table_reserve *reserve)
{
    uint64_t wanted = 0;
    for (unsigned level = 1; level <= table->height; level++)
        wanted += ((end - 1) >> (NODE_BITS * level)) - (first >> (NODE_BITS * level)) + 1;
    assert(wanted <= TABLE_RESERVE_MAX);
    while (reserve->count < wanted) {
        int r = pool_take(&table->nodes, BUDGET_GROW, &reserve->nodes[reserve->count]);
        if (r < 0) {
            table_unreserve(table, reserve);
            return r;
        }
        reserve->count++;
    }
    return 0;
}

void table_unreserve(struct table *table, struct table_reserve *reserve)
{
    while (reserve->count)
        pool_give(&table->nodes, reserve->nodes[--reserve->count]);
}

/* Make a slot empty.  *word becomes the word that was in the slot.  Returns false if that was a
 * hole. */
static bool take_out_any(slot_t *slot, uint64_t *word)
{
    while (*word != 0)
        if (slot_swap(slot, word, 0))
            return true;
    return false;
}

uint64_t table_unlink(struct table *table, uint64_t first, uint64_t end, uint64_t *out,
                      unsigned max, unsigned *count)
{
    unsigned level = table->height;
    slot_t *slot = &table->root;
    if (end >= table->pages) /* no page lies beyond the end, so the last nodes count as covered */
        end = level_end(level, 0);
    *count = 0;
    while (first < end && *count < max) {
        uint64_t word = slot_load(slot);
        uint64_t next = level_end(level, first);
        bool covered = first % level_pages(level) == 0 && next <= end;
        bool lone = entry_kind(word) == ENTRY_LONE;
        if (!covered && entry_kind(word) == ENTRY_NODE) {
            slot = node_slot(table_node(table, word), --level, first);
            continue;
        }
        if (!covered && lone) {
            uint64_t page = table_lone(table, word)->page;
            covered = page >= first && page < end;
        }
        /* If a lone is not there any more, it may have become a node that the range does not
         * cover. */
        if (covered && word != 0 &&
            (lone ? slot_swap(slot, &word, 0) : take_out_any(slot, &word)))
            out[(*count)++] = word;
        else if (covered && word != 0)
            continue; /* the word has just changed: look again */
        first = next;
        slot = &table->root;
        level = table->height;
    }
    return first;
}

/* Recurses as deep as the table is high.  NOLINTNEXTLINE(misc-no-recursion) */
void table_release(struct table *table, uint64_t word, table_page_fn *fn, void *opaque)
{
    switch (entry_kind(word)) {
    case ENTRY_HOLE:
        break;
    case ENTRY_NODE:
        for (unsigned i = 0; i < NODE_SLOTS; i++)
            table_release(table, slot_load(&table_node(table, word)->slots[i]), fn, opaque);
        pool_give(&table->nodes, entry_number(word));
        break;
    case ENTRY_LONE:
        table_release(table, slot_load(&table_lone(table, word)->slot), fn, opaque);
        pool_give(&table->lones, entry_number(word));
        break;
    case ENTRY_FRAME:
    case ENTRY_BLOB:
        fn(opaque, word);
        break;
    }
}

/* Relaxed order: a generation only has to differ from earlier ones. */
static uint32_t next_generation(struct table *table)
{
    return sabotage_generation(
        1 + atomic_fetch_add_explicit(&table->generation, 1, memory_order_relaxed));
}

bool table_freeze(struct table *table, slot_t *slot, uint64_t *word)
{
    if (*word & ENTRY_FROZEN)
        return false;
    uint64_t frozen = entry_frozen(*word, next_generation(table));
    if (!slot_swap(slot, word, frozen))
        return false;
    *word = frozen;
    return true;
}

static bool is_empty(const struct table *table, uint64_t word)
{
    if (entry_kind(word) == ENTRY_LONE)
        return slot_load(&table_lone(table, word)->slot) == 0;
    for (unsigned i = 0; i < NODE_SLOTS; i++)
        if (slot_load(&table_node(table, word)->slots[i]) != 0)
            return false;
    return true;
}

static bool is_inner(uint64_t word)
{
    return entry_kind(word) == ENTRY_NODE || entry_kind(word) == ENTRY_LONE;
}

/* The slot that leads to the lowest node or lone on the way to `page`; *word becomes the word in
 * that slot.  Returns NULL if there is none.  The lone of another page does not count. */
static slot_t *lowest_inner(struct table *table, uint64_t page, uint64_t *word)
{
    slot_t *slot = &table->root, *lowest = NULL;
    for (unsigned level = table->height;; level--) {
        uint64_t next = slot_load(slot);
        if (!is_inner(next))
            return lowest;
        if (entry_kind(next) == ENTRY_LONE && table_lone(table, next)->page != page)
            return lowest;
        lowest = slot;
        *word = next;
        if (level == 0 || entry_kind(next) == ENTRY_LONE)
            return lowest;
        slot = node_slot(table_node(table, next), level - 1, page);
    }
}

bool table_freeze_empty(struct table *table, uint64_t page, uint64_t *word)
{
    slot_t *slot = lowest_inner(table, page, word);
    return slot && is_empty(table, *word) && table_freeze(table, slot, word);
}

bool table_unlink_empty(struct table *table, uint64_t page, uint64_t word)
{
    uint64_t now;
    slot_t *slot = lowest_inner(table, page, &now);
    if (!slot || now != word)
        return false;
    uint64_t instead = is_empty(table, word) ? 0 : entry_thawed(word);
    return slot_swap(slot, &now, instead) && instead == 0;
}
