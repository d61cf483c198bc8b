/* SPDX-License-Identifier: BSD-3-Clause */

/* node - what the page table is made of
 *
 * A level is the height of a node's slots: each slot of level L leads to 16^L pages, and the slots
 * of level 0 are those of the pages themselves.
 */

#ifndef NBDRAM_DISK_PAGED_NODE_H
#define NBDRAM_DISK_PAGED_NODE_H

#include "disk/paged/entry.h"

#define NODE_BITS 4
#define NODE_SLOTS (1u << NODE_BITS)

struct node {
    slot_t slots[NODE_SLOTS];
};

/* Stands in for the nodes on the way down to a page, where no other page needs them. */
struct lone {
    uint64_t page; /* whose slot this is */
    slot_t slot;
};

/* The number of pages that a slot of this level leads to. */
static inline uint64_t level_pages(unsigned level)
{
    return (uint64_t)1 << (NODE_BITS * level);
}

/* The first page after those that the same slot of this level leads to as to `page`. */
static inline uint64_t level_end(unsigned level, uint64_t page)
{
    return (page | (level_pages(level) - 1)) + 1;
}

/* The slot that leads to page, in a node whose slots are of this level. */
static inline slot_t *node_slot(struct node *node, unsigned level, uint64_t page)
{
    return &node->slots[page >> (NODE_BITS * level) & (NODE_SLOTS - 1)];
}

#endif
