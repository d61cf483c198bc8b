/* SPDX-License-Identifier: BSD-3-Clause */

/* A node is 16 slots of 8 bytes, two cache lines.  A slot of level L leads to 16^L pages, and a
 * slot of level 0 holds the word of a page.  Where a chain of nodes would lead to one page only,
 * a lone takes the place of the chain:
 *
 *     root (level 3 here)
 *      |
 *      v
 *     [ . . N . . . L . . . . . . . . . ]     L  a lone {page, slot}: the only page in this 1/16
 *           |                                    of the disk
 *           v
 *     [ N . . . . . . . . . . . . . . L ]     .  a hole of any size
 *       |
 *       v
 *     [ P P P L P P . . . . . . . . . . ]     P  the word of a page
 *                                             L  a lone at level 0: its page was stored before
 *                                                any page near it
 *
 * The size of the disk fixes the height of the tree: 5 for 1 GiB of 4 KiB pages, 13 for 2^63
 * bytes.  But the memory of the table depends on the number of pages, not on the size of the
 * disk.  For a million pages scattered over 2^63 bytes, the table takes some 60 bytes for each
 * page.  A chain of nodes down to each page would take 1 KiB with 16 slots to a node, and 2.9 KiB
 * with 64.
 *
 * When a second page is stored below a slot that leads to a lone, a new node takes the slot.  The
 * lone stays where it is in memory.  First the lone's word is stored in the new node, one level
 * down.  Then the node's word replaces the lone's word in the slot.  So a page's slot does not
 * move as long as the page is in the table.
 *
 * Invariants:
 *
 *  1. A published node changes only by compare-and-swap of its slots.  The page of a lone never
 *     changes.
 *  2. To unlink a node or lone is to take its word out of the slot.  An unlinked node or lone is
 *     freed after a grace period.  If a late writer stores a page in it meanwhile, that page is
 *     freed with it.  Nothing is lost: a trim that covers all pages of the node or lone has
 *     unlinked it, and the write is concurrent with that trim.
 *  3. If no trim covers a node or lone, it is unlinked only when it is empty, and only after it
 *     was frozen.  Only table_make and table_make_reserved fill empty nodes and lones.  On their
 *     way down, both thaw all words.
 *
 * Any two operations may run concurrently.  The table shows what makes each pair safe:
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
 *     freeze_empty,                                                    each freeze has its own
 *     unlink_empty                                                     generation
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

/* Take a node from the reserve, or from the pool if reserve is NULL or empty. */
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
        pool_untake(&table->nodes, cell);
}

/* Swap a new node into slot, in place of the hole or lone whose word is *word.  Afterwards *word
 * is the word that slot holds: the word of the new node, or, if another thread was first, the
 * word of that thread.  Returns 0, or an error of pool_take. */
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

/* Swap a new lone for `page` into slot, in place of a hole.  Afterwards *word is the word that
 * slot holds: the word of the new lone, or, if another thread was first, the word of that thread.
 * Returns 0, or an error of pool_take. */
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
        pool_untake(&table->lones, cell);
    return 0;
}

/* Whether a hole of level 1 or above should become a lone for `page`, because `page` is the only
 * page that the caller will store below the hole.  This is so if the caller stores one page only,
 * or if `page` is the last page below the hole. */
static bool wants_lone(unsigned level, uint64_t page, uint64_t pages)
{
    return pages == 1 || level_end(level, page) - page == 1;
}

/* The body of table_make and table_make_reserved.  It is inlined into both, so that table_make is
 * as fast as without reserves.  reserve is NULL if there is no reserve.  If there is no room for
 * a lone, nodes are made instead of the lone: there may be free ones, or a reserve. */
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
            if (r == -ENOSPC || (r < 0 && reserve))
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
        pool_untake(&table->nodes, reserve->nodes[--reserve->count]);
}

/* Make the slot empty, whatever it holds.  *word becomes the word that was in the slot.  Returns
 * false if the slot was empty. */
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
    if (end >= table->pages) /* no page lies beyond the disk: let the range end with the tree */
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
        /* Take a lone out only if the slot still holds it.  Otherwise the slot can hold a node by
         * now, and it is not certain that the range covers all pages of that node. */
        if (covered && word != 0 &&
            (lone ? slot_swap(slot, &word, 0) : take_out_any(slot, &word)))
            out[(*count)++] = word;
        else if (covered && word != 0)
            continue; /* another thread has changed the word: examine the slot again */
        first = next;
        slot = &table->root;
        level = table->height;
    }
    return first;
}

/* The recursion is as deep as the table is high.  NOLINTNEXTLINE(misc-no-recursion) */
bool table_release(struct table *table, uint64_t word, table_page_fn *fn, void *opaque)
{
    bool goes_on = true;
    switch (entry_kind(word)) {
    case ENTRY_HOLE:
        break;
    case ENTRY_NODE:
        for (unsigned i = 0; goes_on && i < NODE_SLOTS; i++)
            goes_on =
                table_release(table, slot_load(&table_node(table, word)->slots[i]), fn, opaque);
        if (goes_on)
            pool_give(&table->nodes, entry_number(word));
        break;
    case ENTRY_LONE:
        goes_on = table_release(table, slot_load(&table_lone(table, word)->slot), fn, opaque);
        if (goes_on)
            pool_give(&table->lones, entry_number(word));
        break;
    case ENTRY_FRAME:
    case ENTRY_BLOB:
        goes_on = fn(opaque, word);
        break;
    }
    return goes_on;
}

/* Relaxed order is enough: a generation only has to differ from earlier ones. */
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

/* Find the lowest node or lone on the way from the root to `page`.  A lone that belongs to
 * another page does not count.  Returns the slot that leads to the node or lone, or NULL if there
 * is none.  *word becomes the word in that slot. */
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
