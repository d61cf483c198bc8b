/* SPDX-License-Identifier: BSD-3-Clause */

/* A node is 16 slots of 8 bytes, two cache lines: the slots of a node of level L lead to 16^L
 * pages each, those of level 0 are the pages' own.  Where one page is all there is below a slot,
 * a lone stands in for the nodes on the way down:
 *
 *     root (level 3 here)
 *      |
 *      v
 *     [ . . N . . . L . . . . . . . . . ]     L  lone {page, slot}: the one page in this 1/16 of
 *           |                                    the disk
 *           v
 *     [ N . . . . . . . . . . . . . . L ]     .  nothing here: a hole, whatever its size
 *       |
 *       v
 *     [ P P P L P P . . . . . . . . . . ]     P  word of a page; L one that stays in its lone
 *
 * So the height is fixed by the disk's size (5 for 1 GiB of 4 KiB pages, 13 for 2^63), yet
 * scattered pages cost what they are, not what the disk is: a million pages over 2^63 bytes take
 * some 60 bytes of index each.  Chains of nodes down to each page would take 1 KiB with 16 slots
 * to a node, and 2.9 KiB with 64.
 *
 * A second page below a lone's slot puts a node between: the lone itself moves nowhere, only the
 * word that leads to it gets a new place, one level down, before its old place is swapped for the
 * node.  A page's slot therefore stays where it is for as long as the page is in the table.
 *
 * Invariants:
 *
 *  1. A node, once published, changes only by compare-and-swap of its slots; a lone's page never.
 *  2. What is unlinked (its word gone from the slot that led to it) is released after a grace
 * period at the earliest.  What a late writer puts there meanwhile is released with it.  That
 * loses nothing: unlinking is for pages that a trim covers whole, and the writer runs beside it.
 *  3. What is not covered by a trim is unlinked only if it is empty, and only through a freeze.
 *     table_make, the only one that fills an empty node or lone, thaws on its way down.
 *
 * Who may run beside whom: everybody beside everybody.  What keeps them apart:
 *
 *               find     make                   unlink                 freeze_empty/unlink_empty
 *     find      -        publish by release     grace period           grace period
 *     make               one swap wins, the     rule 2                 make thaws: the exact word
 * is loser uses the other's                        gone, unlink_empty gives up unlink one swap
 * wins          one swap wins
 */

#include "disk/paged/table.h"

#include <errno.h>
#include <string.h>

#define NODE_BITS 4
#define NODE_SLOTS (1u << NODE_BITS)

struct node {
    slot_t slots[NODE_SLOTS];
};

static struct node *node_at(const struct table *table, uint64_t word)
{
    return pool_at(&table->nodes, entry_number(word));
}

static struct lone *lone_at(const struct table *table, uint64_t word)
{
    return pool_at(&table->lones, entry_number(word));
}

/* How many pages a slot of this level leads to: 16^level. */
static uint64_t level_pages(unsigned level)
{
    return (uint64_t)1 << (NODE_BITS * level);
}

/* The first page after those of the slot of this level that page lies in. */
static uint64_t level_end(unsigned level, uint64_t page)
{
    return (page | (level_pages(level) - 1)) + 1;
}

/* The slot of a node of this level (its slots' level, that is) that leads to page. */
static slot_t *node_slot(struct node *node, unsigned level, uint64_t page)
{
    return &node->slots[page >> (NODE_BITS * level) & (NODE_SLOTS - 1)];
}

int table_create(struct table *table, uint64_t pages, const struct pool_options *options)
{
    struct pool_options nodes = *options, lones = *options;
    nodes.cell = sizeof(struct node);
    lones.cell = sizeof(struct lone);
    lones.capacity /= 4; /* never more than one to a page, and no page costs less than 64 bytes */
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
            struct lone *lone = lone_at(table, word);
            *span = lone->page == page  ? 1
                    : lone->page > page ? lone->page - page
                                        : level_end(level, page) - page;
            return lone->page == page ? &lone->slot : NULL;
        }
        if (entry_kind(word) != ENTRY_NODE) {
            *span = level_end(level, page) - page;
            return NULL;
        }
        slot = node_slot(node_at(table, word), --level, page);
        if (level == 0) {
            *span = level_end(1, page) - page;
            return slot;
        }
    }
}

/* Put a new node where a hole or a lone is; *word is what stands there now in any case. */
static int make_node(struct table *table, slot_t *slot, uint64_t *word, unsigned level)
{
    uint64_t cell;
    int r = pool_take(&table->nodes, BUDGET_GROW, &cell);
    if (r < 0)
        return r;
    uint64_t made = entry_make(ENTRY_NODE, cell);
    struct node *node = node_at(table, made);
    for (unsigned i = 0; i < NODE_SLOTS; i++)
        atomic_init(&node->slots[i], 0);
    if (entry_kind(*word) == ENTRY_LONE)
        atomic_init(node_slot(node, level - 1, lone_at(table, *word)->page), *word);
    if (slot_swap(slot, word, made))
        *word = made;
    else
        pool_give(&table->nodes, cell);
    return 0;
}

static int make_lone(struct table *table, slot_t *slot, uint64_t *word, uint64_t page)
{
    uint64_t cell;
    int r = pool_take(&table->lones, BUDGET_GROW, &cell);
    if (r < 0)
        return r;
    uint64_t made = entry_make(ENTRY_LONE, cell);
    struct lone *lone = lone_at(table, made);
    lone->page = page;
    atomic_init(&lone->slot, 0);
    if (slot_swap(slot, word, made))
        *word = made;
    else
        pool_give(&table->lones, cell);
    return 0;
}

/* Whether a hole should become a lone: one page is wanted below it, and that is more than one
 * level down (on the last level the word itself can stand in the slot). */
static bool wants_lone(unsigned level, uint64_t page, uint64_t pages)
{
    return pages == 1 || level_end(level, page) - page == 1;
}

int table_make(struct table *table, uint64_t page, uint64_t pages, slot_t **found, uint64_t *span)
{
    slot_t *slot = &table->root;
    for (unsigned level = table->height; level > 0;) {
        uint64_t word = slot_load(slot);
        int r = 0;
        if (word & ENTRY_FROZEN) {
            slot_swap(slot, &word, entry_thawed(word));
        } else if (entry_kind(word) == ENTRY_NODE) {
            slot = node_slot(node_at(table, word), --level, page);
        } else if (entry_kind(word) == ENTRY_LONE && lone_at(table, word)->page == page) {
            *found = &lone_at(table, word)->slot;
            *span = 1;
            return 0;
        } else if (word == 0 && wants_lone(level, page, pages)) {
            r = make_lone(table, slot, &word, page);
        } else {
            r = make_node(table, slot, &word, level);
        }
        if (r < 0)
            return r;
    }
    *found = slot;
    *span = level_end(1, page) - page;
    return 0;
}

/* Take a word out of its slot: whatever is there, or, with only, no other than that. */
static bool take_out(slot_t *slot, uint64_t *word, bool only)
{
    while (*word != 0) {
        if (slot_swap(slot, word, 0))
            return true;
        if (only)
            return false;
    }
    return false;
}

uint64_t table_unlink(struct table *table, uint64_t first, uint64_t end, uint64_t *out,
                      unsigned max, unsigned *count)
{
    unsigned level = table->height;
    slot_t *slot = &table->root;
    if (end >= table->pages) /* nothing lies beyond: let the last nodes count as covered, too */
        end = level_end(level, 0);
    *count = 0;
    while (first < end && *count < max) {
        uint64_t word = slot_load(slot);
        uint64_t next = level_end(level, first);
        bool covered = first % level_pages(level) == 0 && next <= end;
        bool lone = entry_kind(word) == ENTRY_LONE;
        if (!covered && entry_kind(word) == ENTRY_NODE) {
            slot = node_slot(node_at(table, word), --level, first);
            continue;
        }
        if (!covered && lone) {
            uint64_t page = lone_at(table, word)->page;
            covered = page >= first && page < end;
        }
        if (covered && word != 0 && take_out(slot, &word, lone))
            out[(*count)++] = word;
        else if (covered && word != 0)
            continue; /* it has just changed: look again */
        first = next;
        slot = &table->root;
        level = table->height;
    }
    return first;
}

/* As deep as the table is high.  NOLINTNEXTLINE(misc-no-recursion) */
void table_release(struct table *table, uint64_t word, table_drop_fn *drop, void *opaque)
{
    switch (entry_kind(word)) {
    case ENTRY_HOLE:
        break;
    case ENTRY_NODE:
        for (unsigned i = 0; i < NODE_SLOTS; i++)
            table_release(table, slot_load(&node_at(table, word)->slots[i]), drop, opaque);
        pool_give(&table->nodes, entry_number(word));
        break;
    case ENTRY_LONE:
        table_release(table, slot_load(&lone_at(table, word)->slot), drop, opaque);
        pool_give(&table->lones, entry_number(word));
        break;
    case ENTRY_FRAME:
    case ENTRY_BLOB:
        drop(opaque, word);
        break;
    }
}

bool table_freeze(struct table *table, slot_t *slot, uint64_t *word)
{
    if (*word & ENTRY_FROZEN)
        return false;
    /* relaxed: it only has to differ from those before */
    uint32_t generation =
        1 + atomic_fetch_add_explicit(&table->generation, 1, memory_order_relaxed);
    uint64_t frozen = entry_frozen(*word, generation);
    if (!slot_swap(slot, word, frozen))
        return false;
    *word = frozen;
    return true;
}

static bool is_empty(const struct table *table, uint64_t word)
{
    if (entry_kind(word) == ENTRY_LONE)
        return slot_load(&lone_at(table, word)->slot) == 0;
    for (unsigned i = 0; i < NODE_SLOTS; i++)
        if (slot_load(&node_at(table, word)->slots[i]) != 0)
            return false;
    return true;
}

static bool is_inner(uint64_t word)
{
    return entry_kind(word) == ENTRY_NODE || entry_kind(word) == ENTRY_LONE;
}

/* The slot that leads to the lowest node or lone on the way to page; NULL if there is none.  A
 * lone of another page is none. */
static slot_t *lowest_inner(struct table *table, uint64_t page, uint64_t *word)
{
    slot_t *slot = &table->root, *lowest = NULL;
    for (unsigned level = table->height;; level--) {
        uint64_t next = slot_load(slot);
        if (!is_inner(next))
            return lowest;
        if (entry_kind(next) == ENTRY_LONE && lone_at(table, next)->page != page)
            return lowest;
        lowest = slot;
        *word = next;
        if (level == 0 || entry_kind(next) == ENTRY_LONE)
            return lowest;
        slot = node_slot(node_at(table, next), level - 1, page);
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
