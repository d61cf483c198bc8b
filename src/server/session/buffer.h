/* SPDX-License-Identifier: BSD-3-Clause */

/* kept - bytes of a connection kept from one step to the next
 *
 * Allocated only while there are any: an idle connection keeps none.
 */

#ifndef NBDRAM_SERVER_SESSION_BUFFER_H
#define NBDRAM_SERVER_SESSION_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes;  /* NULL: none */
    size_t at, size; /* at < size while there are any */
};

static inline bool buffer_any(const struct buffer *kept)
{
    return kept->bytes != NULL;
}

/* How many there are still. */
static inline size_t buffer_left(const struct buffer *kept)
{
    return kept->size - kept->at;
}

/* Keep a copy of bytes where nothing is kept.  -ENOMEM. */
int buffer_store(struct buffer *kept, const void *bytes, size_t size);
void buffer_drop(struct buffer *kept);

#endif
