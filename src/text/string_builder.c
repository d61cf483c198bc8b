/* SPDX-License-Identifier: BSD-3-Clause */

#include "text/string_builder.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* For fopencookie: 0 is an error, which the stream remembers. */
static ssize_t append(void *opaque, const char *bytes, size_t size)
{
    struct string_builder *text = opaque;
    char *longer = realloc(text->bytes, text->size + size + 1);
    if (!longer)
        return 0;
    memcpy(longer + text->size, bytes, size);
    text->bytes = longer;
    text->size += size;
    longer[text->size] = '\0';
    return (ssize_t)size;
}

FILE *string_builder_open(struct string_builder *text)
{
    *text = (struct string_builder){.bytes = NULL};
    return fopencookie(text, "w", (cookie_io_functions_t){.write = append});
}

char *string_builder_close(struct string_builder *text, FILE *stream)
{
    bool is_whole = fflush(stream) == 0 && !ferror(stream);
    if (fclose(stream) == 0 && is_whole)
        return text->bytes;
    free(text->bytes);
    return NULL;
}
