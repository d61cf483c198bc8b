/* SPDX-License-Identifier: BSD-3-Clause */

/* kept - bytes of a connection kept from one step to the next
 *
 * Allocated only while there are any: an idle connection keeps none.
 */

#ifndef NBDRAM_SERVER_KEPT_H
#define NBDRAM_SERVER_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kept {
    uint8_t *bytes;  /* NULL: none */
    size_t at, size; /* at < size while there are any */
};

static inline bool kept_any(const struct kept *kept)
{
    return kept->bytes != NULL;
}

/* How many there are still. */
static inline size_t kept_left(const struct kept *kept)
{
    return kept->size - kept->at;
}

/* Keep a copy of bytes where nothing is kept.  -ENOMEM. */
int kept_store(struct kept *kept, const void *bytes, size_t size);
void kept_drop(struct kept *kept);

#endif
