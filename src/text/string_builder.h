/* SPDX-License-Identifier: BSD-3-Clause */

/* string_builder - a string that is built by printing to a stream
 *
 * open_memstream would do the same, except that when memory runs out it drops a part of the text
 * and reports success.  Half of a shell command is another command.
 */

#ifndef NBDRAM_TEXT_STRING_BUILDER_H
#define NBDRAM_TEXT_STRING_BUILDER_H

#include <stddef.h>
#include <stdio.h>

struct string_builder {
    char *bytes; /* NULL while nothing is printed */
    size_t size; /* without the terminating zero */
};

/* Open a stream; everything printed to it is appended to the string.  The builder must outlive the
 * stream.  NULL: no memory. */
FILE *string_builder_open(struct string_builder *builder);

/* Close the stream and return the whole string, terminated, for the caller to free.  NULL: nothing
 * was printed, or there was no memory for all of it. */
char *string_builder_close(struct string_builder *builder, FILE *stream);

#endif
