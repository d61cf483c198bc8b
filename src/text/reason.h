/* SPDX-License-Identifier: BSD-3-Clause */

/* reason - one line that says to a person why something failed
 *
 * A function whose failure a person should understand takes a struct reason, and fills it in when
 * it fails.  The caller owns the struct; it may live on the stack.  The line names what was given
 * and what is accepted and, where there is one, the next step.  It has no newline and no program
 * name: the code that prints it adds both.
 */

#ifndef NBDRAM_TEXT_REASON_H
#define NBDRAM_TEXT_REASON_H

struct reason {
    char text[320]; /* always terminated; fits a path and a sentence; longer lines are cut off */
};

/* Format the line.  Returns error, which must be negative.  If the format ends in ": ", the
 * system's message for error is appended.  Control characters become '?', so that text from a
 * person or a client cannot break the line or control a terminal. */
__attribute__((format(printf, 3, 4))) int reason_set(struct reason *reason, int error,
                                                     const char *format, ...);

/* Replace each control character, newlines among them, by '?'. */
void reason_make_one_line(char *text);

#endif
