/* SPDX-License-Identifier: BSD-3-Clause */

/* why - one line that says what went wrong, for a function that answers -errno */

#ifndef NBDRAM_TEXT_REASON_H
#define NBDRAM_TEXT_REASON_H

#include <stddef.h>

/* Put the line together in why (cut off at why_size, always terminated) and return err, which is
 * negative.  A format that ends in ": " gets the system's words for err added. */
__attribute__((format(printf, 4, 5))) int why_say(int err, char *why, size_t why_size,
                                                  const char *format, ...);

#endif
