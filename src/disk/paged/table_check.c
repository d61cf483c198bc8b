/* SPDX-License-Identifier: BSD-3-Clause */

/* The invariants of the page table while no thread uses it:
 *
 *  1. A word is all zeroes, or its kind is a frame, a blob, a node or a lone.
 *  2. The word of a node is in a slot of level 1 or above.  No node or lone is below a lone.
 *  3. The slot that leads to a lone is on the way to the lone's page.
 *  4. Every page is within the disk.
 *  5. Exactly one word leads to each node and lone that is in use in its pool.  No word leads to
 *     any other cell of these pools.
 *  6. Only the word of a frame has an age or is pinned.  A pinned frame has age 0 and is not
 *     frozen.  The word of a blob has nothing but its kind and number.
 *
 * The comment above a function gives the numbers of the invariants that it verifies.
 */

#include <errno.h>
#include <inttypes.h>

#include "disk/memory/pool_marks.h"
#include "disk/paged/table.h"
#include "text/reason.h"

#define BROKEN(reason, number, ...)                                                              \
    reason_set(reason, -EUCLEAN, "table: invariant " #number ": " __VA_ARGS__)

struct walk {
    struct table *table;
    struct pool_marks nodes, lones;
    table_visit_fn *fn;
    void *opaque;
    struct reason *reason;
};

/* Verify invariants 4 and 6 (top of this file) for the word of a page: the page is within the
 * disk, and the word has no bits that words of its kind must not have. */
static int check_page(struct walk *walk, uint64_t page, uint64_t word)
{
    if (page >= walk->table->pages)
        return BROKEN(walk->reason, 4, "page %" PRIu64 " is not within the disk", page);
    if (entry_kind(word) == ENTRY_BLOB && word != entry_make(ENTRY_BLOB, entry_number(word)))
        return BROKEN(walk->reason, 6, "page %" PRIu64 " is a blob with flags: %#" PRIx64, page,
                      word);
    if ((word & ENTRY_PINNED) && !entry_writable(word))
        return BROKEN(walk->reason, 6,
                      "page %" PRIu64 " is pinned, and frozen or aged: %#" PRIx64, page, word);
    return walk->fn(walk->opaque, page, word, walk->reason);
}

/* Verify invariants 1 and 6 (top of this file) for a word that does not lead to a page: the word
 * has a kind, is not pinned and has no age. */
static int check_inner(struct walk *walk, uint64_t page, uint64_t word)
{
    if (entry_kind(word) == ENTRY_HOLE && word != 0)
        return BROKEN(walk->reason, 1, "the hole at page %" PRIu64 " is %#" PRIx64, page, word);
    if (entry_kind(word) > ENTRY_LONE)
        return BROKEN(walk->reason, 1, "page %" PRIu64 ": %#" PRIx64 " has no kind", page, word);
    if (word & (ENTRY_AGE_MASK | ENTRY_PINNED))
        return BROKEN(walk->reason, 6, "page %" PRIu64 ": %#" PRIx64 " is no frame's", page,
                      word);
    return 0;
}

/* Verify invariants 2 and 3 (top of this file) for a lone: no node or lone is below it, and the
 * slot that leads to it is on the way to its page.  `level` is the level of that slot, and
 * `first` is the first page to which the slot leads. */
static int check_lone(struct walk *walk, uint64_t word, unsigned level, uint64_t first)
{
    int r = pool_marks_add(&walk->lones, entry_number(word), walk->reason);
    if (r < 0)
        return r;
    const struct lone *lone = table_lone(walk->table, word);
    uint64_t below = slot_load(&lone->slot);
    if (lone->page < first || lone->page - first >= level_pages(level))
        return BROKEN(walk->reason, 3, "lone %" PRIu64 " is of page %" PRIu64 ", under %" PRIu64,
                      entry_number(word), lone->page, first);
    if (entry_kind(below) == ENTRY_FRAME || entry_kind(below) == ENTRY_BLOB)
        return check_page(walk, lone->page, below);
    if (entry_kind(below) != ENTRY_HOLE)
        return BROKEN(walk->reason, 2, "%#" PRIx64 " is below lone %" PRIu64, below,
                      entry_number(word));
    return check_inner(walk, lone->page, below);
}

static int check_node(struct walk *walk, uint64_t word, unsigned level, uint64_t first);

/* Verify the word in a slot, and everything below it.  level is the level of the slot, and first
 * is the first page to which the slot leads.  The recursion is as deep as the table is high.
 * NOLINTNEXTLINE(misc-no-recursion) */
static int check_word(struct walk *walk, uint64_t word, unsigned level, uint64_t first)
{
    bool is_page = entry_kind(word) == ENTRY_FRAME || entry_kind(word) == ENTRY_BLOB;
    if (is_page && level > 0)
        return BROKEN(walk->reason, 2, "%#" PRIx64 " is at level %u", word, level);
    if (is_page)
        return check_page(walk, first, word);
    int r = check_inner(walk, first, word);
    if (r < 0 || word == 0)
        return r;
    return entry_kind(word) == ENTRY_LONE ? check_lone(walk, word, level, first)
                                          : check_node(walk, word, level, first);
}

/* The recursion is as deep as the table is high.  NOLINTNEXTLINE(misc-no-recursion) */
static int check_node(struct walk *walk, uint64_t word, unsigned level, uint64_t first)
{
    if (level == 0)
        return BROKEN(walk->reason, 2, "node %" PRIu64 " is at level 0", entry_number(word));
    int r = pool_marks_add(&walk->nodes, entry_number(word), walk->reason);
    const struct node *node = table_node(walk->table, word);
    for (unsigned i = 0; r == 0 && i < NODE_SLOTS; i++)
        r = check_word(walk, slot_load(&node->slots[i]), level - 1,
                       first + i * level_pages(level - 1));
    return r;
}

int table_check(struct table *table, table_visit_fn *fn, void *opaque, struct reason *reason)
{
    struct walk walk = {.table = table, .fn = fn, .opaque = opaque, .reason = reason};
    int r = pool_marks_make(&walk.nodes, &table->nodes, "node");
    if (r == 0)
        r = pool_marks_make(&walk.lones, &table->lones, "lone");
    if (r == 0)
        r = check_word(&walk, slot_load(&table->root), table->height, 0);
    if (r == 0)
        r = pool_marks_compare(&walk.nodes, reason);
    if (r == 0)
        r = pool_marks_compare(&walk.lones, reason);
    pool_marks_free(&walk.nodes);
    pool_marks_free(&walk.lones);
    return r;
}
