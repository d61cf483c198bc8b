/* SPDX-License-Identifier: BSD-3-Clause */

/* buffer - bytes that a connection keeps from one step to the next
 *
 * A buffer has memory only while it holds bytes, so an idle connection takes no memory for its
 * buffers.  The owner consumes the bytes from the front, by advancing `at`.  Once `at` reaches
 * `size`, the owner drops the buffer.
 */

#ifndef NBDRAM_SERVER_SESSION_BUFFER_H
#define NBDRAM_SERVER_SESSION_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes; /* from malloc; NULL if the buffer is empty */
    size_t at;   /* the number of bytes consumed; less than `size` unless the buffer is empty */
    size_t size; /* bytes stored */
};

static inline bool buffer_is_empty(const struct buffer *buffer)
{
    return !buffer->bytes;
}

/* The number of bytes that are not consumed yet. */
static inline size_t buffer_left(const struct buffer *buffer)
{
    return buffer->size - buffer->at;
}

/* Store a copy of `size` bytes (at least one) in an empty buffer.  Returns 0 or -ENOMEM.  After
 * -ENOMEM the buffer is still empty. */
int buffer_store(struct buffer *buffer, const void *bytes, size_t size);

/* Free the bytes.  The buffer is empty afterwards. */
void buffer_drop(struct buffer *buffer);

#endif
