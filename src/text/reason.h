/* SPDX-License-Identifier: BSD-3-Clause */

/* reason - one line that says to a person why something failed
 *
 * A function whose failure a person should understand takes a struct reason, and fills it in when
 * the function fails.  The caller owns the struct, which may live on the stack.  The line says
 * what was given, what is accepted and, where possible, what to do next.  The line has no newline
 * and no program name: the code that prints the line adds both.
 */

#ifndef NBDRAM_TEXT_REASON_H
#define NBDRAM_TEXT_REASON_H

struct reason {
    /* A string.  It is long enough for a path and a sentence.  A longer line is cut off. */
    char text[320];
};

/* Format the line.  Returns error, which must be negative.  If the format ends in ": ", the
 * system's message for error is appended.  Control characters are replaced by '?'.  So text from
 * a person or a client cannot add a line, and cannot control a terminal. */
__attribute__((format(printf, 3, 4))) int reason_set(struct reason *reason, int error,
                                                     const char *format, ...);

/* Replace each control character by '?'.  A newline is a control character, too. */
void reason_make_one_line(char *text);

#endif
