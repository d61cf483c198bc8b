/* SPDX-License-Identifier: BSD-3-Clause */

/* folder - an empty temporary folder of the test's own, which is current while the test runs
 *
 * These are setup and teardown functions of cmocka, or are called by a program's own.  They
 * return 0, or another value, which fails the test.
 */

#ifndef NBDRAM_TESTS_FOLDER_H
#define NBDRAM_TESTS_FOLDER_H

struct folder {
    char path[64];
    int back; /* the folder that was current before, open */
};

/* Make the folder and go there: *state becomes a struct folder.  TMPDIR names it. */
int folder_enter(void **state);

/* Remove the named files, links and empty folders (names ends with NULL; they need not exist),
 * then the folder itself, which fails if the test left anything else, and go back. */
int folder_leave(void **state, const char *const names[]);

/* Remove the folder with all that is in it, and go back. */
int folder_leave_full(void **state);

#endif
