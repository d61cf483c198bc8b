/* SPDX-License-Identifier: BSD-3-Clause */

/* text - a string that is put together by printing
 *
 * What open_memstream would do, but for one thing: without memory that goes on, and says that all
 * is well, with a part of the text.  Half a command is another command.
 */

#ifndef NBDRAM_TEXT_STRING_BUILDER_H
#define NBDRAM_TEXT_STRING_BUILDER_H

#include <stddef.h>
#include <stdio.h>

struct string_builder {
    char *bytes;
    size_t size;
};

/* NULL: no memory.  The text must outlive the stream. */
FILE *string_builder_open(struct string_builder *text);

/* The whole text, to be freed, and a zero byte behind it; or NULL.  The stream is closed. */
char *string_builder_close(struct string_builder *text, FILE *stream);

#endif
