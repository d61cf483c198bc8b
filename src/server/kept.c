/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int kept_store(struct kept *kept, const void *bytes, size_t size)
{
    kept->bytes = malloc(size);
    if (!kept->bytes)
        return -ENOMEM;
    memcpy(kept->bytes, bytes, size);
    kept->at = 0;
    kept->size = size;
    return 0;
}

void kept_drop(struct kept *kept)
{
    free(kept->bytes);
    *kept = (struct kept){0};
}
