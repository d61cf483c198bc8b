/* SPDX-License-Identifier: BSD-3-Clause */

/* string_builder - a string that is built by printing to a stream
 *
 * This replaces open_memstream.  When memory runs out, open_memstream drops a part of the text
 * and reports success.  That would be dangerous for a string that is a shell command, because
 * half of a command can be a different command.
 */

#ifndef NBDRAM_TEXT_STRING_BUILDER_H
#define NBDRAM_TEXT_STRING_BUILDER_H

#include <stddef.h>
#include <stdio.h>

struct string_builder {
    char *bytes; /* NULL until something is printed */
    size_t size; /* the length of the string, without the terminating zero */
};

/* Open a stream.  Everything that is printed to the stream is appended to the string.  The
 * builder must outlive the stream.  Returns NULL if there is no memory. */
FILE *string_builder_open(struct string_builder *builder);

/* Close the stream and return the whole string, with a terminating zero.  The caller frees the
 * string.  Returns NULL if nothing was printed, or if there was no memory for the whole
 * string. */
char *string_builder_close(struct string_builder *builder, FILE *stream);

#endif
