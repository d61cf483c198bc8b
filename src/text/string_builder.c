/* SPDX-License-Identifier: BSD-3-Clause */

#include "text/string_builder.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The function that the stream calls to write.  If there is no memory, it returns 0, and ferror
 * then reports an error of the stream. */
static ssize_t append_bytes(void *opaque, const char *bytes, size_t size)
{
    struct string_builder *builder = opaque;
    char *longer = realloc(builder->bytes, builder->size + size + 1);
    if (!longer)
        return 0;
    memcpy(longer + builder->size, bytes, size);
    builder->bytes = longer;
    builder->size += size;
    longer[builder->size] = '\0';
    return (ssize_t)size;
}

FILE *string_builder_open(struct string_builder *builder)
{
    *builder = (struct string_builder){.bytes = NULL};
    return fopencookie(builder, "w", (cookie_io_functions_t){.write = append_bytes});
}

char *string_builder_close(struct string_builder *builder, FILE *stream)
{
    bool is_whole = fflush(stream) == 0 && !ferror(stream);
    if (fclose(stream) == 0 && is_whole)
        return builder->bytes;
    free(builder->bytes);
    return NULL;
}
