/* SPDX-License-Identifier: BSD-3-Clause */

/* parse - numbers, sizes, times and booleans, as a person types them
 *
 * Each function parses the whole text, so any character after the value is an error.  A function
 * returns 0 and stores the value, or returns -EINVAL and stores nothing.
 */

#ifndef NBDRAM_TEXT_PARSE_H
#define NBDRAM_TEXT_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/* Parse a size in bytes, in nbdkit's grammar: a decimal number, and at most one of the suffixes b
 * s k m g t p e, in upper or lower case.  The suffix s means 512; the others are powers of 1024.
 * The size is at most 2^63-1. */
int parse_size(const char *text, uint64_t *size);

enum parse_base {
    PARSE_DECIMAL, /* decimal digits and nothing else */
    PARSE_OCTAL,   /* octal digits and nothing else */
    PARSE_AS_IN_C, /* 31, 0x1f or 037; blanks or a plus sign may precede the number */
};

/* Parse a whole number from min to max. */
int parse_number(const char *text, enum parse_base base, unsigned min, unsigned max,
                 unsigned *number);

/* Parse a time from 0 to max seconds: a whole number as in C, and at most one of the units s ms
 * us ns.  A number without a unit is in seconds.  A part of a second is rounded up to a whole
 * second. */
int parse_seconds(const char *text, unsigned max, unsigned *seconds);

/* Parse one of the words 1 0 true false t f yes no y n on off, in upper or lower case. */
int parse_bool(const char *text, bool *value);

#endif
