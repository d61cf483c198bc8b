/* SPDX-License-Identifier: BSD-3-Clause */

/* node - what the page table is made of
 *
 * A level is the height of a node's slots.  Each slot of level L leads to 16^L pages; the slots
 * of level 0 hold the words of the pages themselves.
 */

#ifndef NBDRAM_DISK_PAGED_NODE_H
#define NBDRAM_DISK_PAGED_NODE_H

#include "disk/paged/entry.h"

#define NODE_BITS 4
#define NODE_SLOTS (1u << NODE_BITS)

struct node {
    slot_t slots[NODE_SLOTS];
};

/* A lone takes the place of the nodes on the way down to a page, if those would lead to no other
 * page. */
struct lone {
    uint64_t page; /* the page that the slot belongs to */
    slot_t slot;
};

/* The number of pages that a slot of this level leads to. */
static inline uint64_t level_pages(unsigned level)
{
    return (uint64_t)1 << (NODE_BITS * level);
}

/* The slot of this level that leads to `page` leads to a range of pages: the end of that
 * range. */
static inline uint64_t level_end(unsigned level, uint64_t page)
{
    return (page | (level_pages(level) - 1)) + 1;
}

/* The slot that leads to `page` in a node.  level is the level of the node's slots. */
static inline slot_t *node_slot(struct node *node, unsigned level, uint64_t page)
{
    return &node->slots[page >> (NODE_BITS * level) & (NODE_SLOTS - 1)];
}

#endif
