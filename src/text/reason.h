/* SPDX-License-Identifier: BSD-3-Clause */

/* reason - one line that says what went wrong, for the person who asked for it
 *
 * A function that can fail for reasons a person should read takes a struct reason and fills it in
 * when it fails.  The caller owns the struct; it may live on the stack.  A line names what was
 * given, what is accepted and, where it helps, what to do next.  It has no newline and no program
 * name: whoever prints it adds both.
 */

#ifndef NBDRAM_TEXT_REASON_H
#define NBDRAM_TEXT_REASON_H

/* Long enough for a path and a sentence; longer lines are cut off. */
struct reason {
    char text[320]; /* always terminated */
};

/* Format the line and return error, which is negative.  A format that ends in ": " gets the
 * system's words for error appended.  Bytes that are not printable become '?', so that what a
 * person typed cannot break the line or the terminal. */
__attribute__((format(printf, 3, 4))) int reason_set(struct reason *reason, int error,
                                                     const char *format, ...);

/* Replace each control character, newlines among them, by '?'. */
void reason_make_one_line(char *text);

#endif
