/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* For fopencookie: 0 is an error, which the stream remembers. */
static ssize_t append(void *opaque, const char *bytes, size_t size)
{
    struct text *text = opaque;
    char *longer = realloc(text->bytes, text->size + size + 1);
    if (!longer)
        return 0;
    memcpy(longer + text->size, bytes, size);
    text->bytes = longer;
    text->size += size;
    longer[text->size] = '\0';
    return (ssize_t)size;
}

FILE *text_open(struct text *text)
{
    *text = (struct text){.bytes = NULL};
    return fopencookie(text, "w", (cookie_io_functions_t){.write = append});
}

char *text_close(struct text *text, FILE *stream)
{
    bool is_whole = fflush(stream) == 0 && !ferror(stream);
    if (fclose(stream) == 0 && is_whole)
        return text->bytes;
    free(text->bytes);
    return NULL;
}
