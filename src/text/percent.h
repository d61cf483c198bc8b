/* SPDX-License-Identifier: BSD-3-Clause */

/* percent - percent-encoding (RFC 3986, section 2.1) */

#ifndef NBDRAM_TEXT_PERCENT_H
#define NBDRAM_TEXT_PERCENT_H

#include <stddef.h>
#include <stdio.h>

/* Write `length` bytes of text with percent-encoding.  Slashes, and the characters that RFC 3986
 * calls unreserved, are written unchanged.  Slashes are common in paths and export names, and
 * need no encoding there. */
void percent_encode(FILE *out, const char *text, size_t length);

#endif
