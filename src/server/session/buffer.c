/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int buffer_store(struct buffer *kept, const void *bytes, size_t size)
{
    kept->bytes = malloc(size);
    if (!kept->bytes)
        return -ENOMEM;
    memcpy(kept->bytes, bytes, size);
    kept->at = 0;
    kept->size = size;
    return 0;
}

void buffer_drop(struct buffer *kept)
{
    free(kept->bytes);
    *kept = (struct buffer){0};
}
