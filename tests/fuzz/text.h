/* SPDX-License-Identifier: BSD-3-Clause */

/* text - an input as strings, and reasons as they have to be */

#ifndef NBDRAM_TESTS_TEXT_H
#define NBDRAM_TESTS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reason; /* text/reason.h */

/* A copy that ends with a NUL, in memory of exactly that size, so that reading beyond the end is
 * seen.  To be freed. */
char *text_copy(const uint8_t *data, size_t size);

/* A reason is there, ends within its buffer, and is one line that a terminal can be shown. */
void text_check_reason(const struct reason *reason);

/* A size, by a second reading of nbdkit's grammar.  False: none. */
bool text_is_size(const char *text, uint64_t *size);

/* A number as in C, decimal, octal or hexadecimal, up to max.  *end is behind it. */
bool text_is_number(const char *text, uint64_t max, uint64_t *number, const char **end);

#endif
