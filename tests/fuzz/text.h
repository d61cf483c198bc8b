/* SPDX-License-Identifier: BSD-3-Clause */

/* text - the input as strings, second parsers, and the form of a reason */

#ifndef NBDRAM_TESTS_TEXT_H
#define NBDRAM_TESTS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reason; /* text/reason.h */

/* A copy that ends with a NUL, in memory of exactly this size, so that a sanitizer finds reads
 * beyond the end.  The caller frees it. */
char *text_copy(const uint8_t *data, size_t size);

/* The reason is not empty, ends within its buffer, and is one line of printable characters. */
void text_check_reason(const struct reason *reason);

/* Parse a size, by nbdkit's grammar.  False: this is none. */
bool text_is_size(const char *text, uint64_t *size);

/* Parse a number as in C: decimal, octal or hexadecimal, up to max.  *end is after it. */
bool text_is_number(const char *text, uint64_t max, uint64_t *number, const char **end);

#endif
