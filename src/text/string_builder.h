/* SPDX-License-Identifier: BSD-3-Clause */

/* string_builder - a string that is built by printing to a stream
 *
 * open_memstream is not used, because it drops a part of the text and reports success when memory
 * runs out.  A string can be a shell command, and half of a command is another command.
 */

#ifndef NBDRAM_TEXT_STRING_BUILDER_H
#define NBDRAM_TEXT_STRING_BUILDER_H

#include <stddef.h>
#include <stdio.h>

struct string_builder {
    char *bytes; /* NULL while nothing is printed */
    size_t size; /* the length of the string, without the terminating zero */
};

/* Open a stream.  Everything printed to the stream is appended to the string.  The builder must
 * outlive the stream.  Returns NULL if there is no memory. */
FILE *string_builder_open(struct string_builder *builder);

/* Close the stream and return the whole string, terminated, for the caller to free.  Returns NULL
 * if nothing was printed, or if there was no memory for all of the string. */
char *string_builder_close(struct string_builder *builder, FILE *stream);

#endif
