/* SPDX-License-Identifier: BSD-3-Clause */

/* node - what the page table is made of
 *
 * The page table is a tree of nodes.  The level of a slot is its height in the tree: a slot of
 * level 0 holds the word of a page, and a slot of level L leads to 16^L pages.
 */

#ifndef NBDRAM_DISK_PAGED_NODE_H
#define NBDRAM_DISK_PAGED_NODE_H

#include "disk/paged/entry.h"

#define NODE_BITS 4
#define NODE_SLOTS (1u << NODE_BITS)

struct node {
    slot_t slots[NODE_SLOTS];
};

/* A lone takes the place of a chain of nodes, if the chain would lead to one page only. */
struct lone {
    uint64_t page; /* the number of the page whose word is in slot */
    slot_t slot;
};

/* The number of pages that a slot of this level leads to. */
static inline uint64_t level_pages(unsigned level)
{
    return (uint64_t)1 << (NODE_BITS * level);
}

/* The number of the first page after the range to which a slot of this level leads.  `page` is
 * any page in that range. */
static inline uint64_t level_end(unsigned level, uint64_t page)
{
    return (page | (level_pages(level) - 1)) + 1;
}

/* The slot in `node` that leads to `page`.  level is the level of the node's slots. */
static inline slot_t *node_slot(struct node *node, unsigned level, uint64_t page)
{
    return &node->slots[page >> (NODE_BITS * level) & (NODE_SLOTS - 1)];
}

#endif
