/* SPDX-License-Identifier: BSD-3-Clause */

/* buffer - bytes that a connection keeps while other connections are served
 *
 * A buffer has memory only while it holds bytes, so an idle connection takes no memory for its
 * buffers.  The owner consumes the first bytes by advancing `at`.  When `at` reaches `size`, the
 * owner drops the buffer.
 */

#ifndef NBDRAM_SERVER_SESSION_BUFFER_H
#define NBDRAM_SERVER_SESSION_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes; /* from malloc; NULL if the buffer is empty */
    size_t at;   /* the number of bytes consumed; less than `size`, or 0 if the buffer is empty */
    size_t size; /* the number of bytes in `bytes`, including the consumed ones */
};

static inline bool buffer_is_empty(const struct buffer *buffer)
{
    return !buffer->bytes;
}

/* Returns the number of bytes that are not consumed yet. */
static inline size_t buffer_left(const struct buffer *buffer)
{
    return buffer->size - buffer->at;
}

/* Store a copy of the bytes in an empty buffer.  `size` must not be 0.  Returns 0, or -ENOMEM.
 * After -ENOMEM the buffer is still empty. */
int buffer_store(struct buffer *buffer, const void *bytes, size_t size);

/* Free the bytes of the buffer.  Afterwards the buffer is empty. */
void buffer_drop(struct buffer *buffer);

#endif
