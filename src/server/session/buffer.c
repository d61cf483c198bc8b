/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int buffer_store(struct buffer *buffer, const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, bytes, size);
    *buffer = (struct buffer){.bytes = copy, .size = size};
    return 0;
}

void buffer_drop(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
