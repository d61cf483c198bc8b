/* SPDX-License-Identifier: BSD-3-Clause */

/* child - a part of a test that changes its process for good, in a child process
 *
 * cmocka's asserts do not work there; MUST does.  A child that hangs is ended after some time by
 * SIGALRM, which fails the test.
 */

#ifndef NBDRAM_TESTS_CHILD_H
#define NBDRAM_TESTS_CHILD_H

#include <errno.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* No measure of speed: it only turns a hang into a failure. */
#define HANG_SECONDS 60

/* In a child: if the condition is false, say where, and end with the status 99. */
#define MUST(condition)                                                                          \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);    \
            _exit(99);                                                                           \
        }                                                                                        \
    } while (0)

/* Call the function in a child, which ends with the status 0 if the function returns.  May be
 * called in a child, too. */
pid_t child_start(void (*function)(void *), void *argument);

/* Wait for a child (not only for one that child_start made), and return waitpid's status. */
int child_wait(pid_t child);

/* child_start and child_wait: the test fails if the child does not end with 0. */
void child_run(void (*function)(void *), void *argument);

/* As child_run, but the test is skipped if the child ends with CHILD_SKIP. */
#define CHILD_SKIP 77
void child_run_or_skip(void (*function)(void *), void *argument);

/* Setup of a test: folder_enter (folder.h), and processes whose parent has ended become children
 * of the test.  The test is ended if it hangs. */
int child_enter_folder(void **state);

#endif
