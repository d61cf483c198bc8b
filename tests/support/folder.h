/* SPDX-License-Identifier: BSD-3-Clause */

/* folder - an empty folder of the test's own, current while the test runs
 *
 * For cmocka's setup and teardown, which call these by way of a program's own.  0, or not 0: the
 * test fails.
 */

#ifndef NBDRAM_TESTS_FOLDER_H
#define NBDRAM_TESTS_FOLDER_H

struct folder {
    char path[64];
    int back; /* where we were, open */
};

/* Make it, and go there: *state is a struct folder.  TMPDIR names it. */
int folder_enter(void **state);

/* Remove what may be in it (names ends with NULL; files, links and empty folders), then the
 * folder itself, which fails if the test left anything else, and go back. */
int folder_leave(void **state, const char *const names[]);

#endif
