/* SPDX-License-Identifier: BSD-3-Clause */

/* listening - options of listen_open, and what is so whatever it opens or refuses
 *
 * A function that cannot do its job fails the test.
 */

#ifndef NBDRAM_TESTS_LISTENING_H
#define NBDRAM_TESTS_LISTENING_H

#include <stdbool.h>

#include "server/net/listen.h"
#include "support/folder.h"

/* TCP on the loopbacks and any free port, and a Unix socket. */
struct listen_options tcp_options(void);
struct listen_options unix_options(const char *path);

/* Open, and check each socket's flags and the URI. */
void assert_opens(const struct listen_options *options, struct listeners *listeners);

/* listen_open refuses, with this error (0: with any) and one line that has these words in it, and
 * leaves no descriptor open. */
void assert_refuses(const struct listen_options *options, int err, const char *words);

/* The URI is this start, the port that was bound, and "/". */
void assert_uri_with_port(const struct listen_options *options, const char *start);

int count_descriptors(void);

/* A Unix socket that somebody else listens on (or has only bound, if it is one of datagrams).
 * Once it is closed its file is a leftover.  Returns -1 on an error, and so can be called in a
 * child. */
int foreign_socket(const char *path, int type);

/* Try to connect to a Unix socket: 0 or -errno. */
int try_to_connect(const char *path);

/* Setup and teardown of each test: a temporary folder that is current.  The test may leave in it
 * "s", "other", "link" and "folder". */
#define TEST_IN_FOLDER(function)                                                                 \
    cmocka_unit_test_setup_teardown(function, folder_enter, listening_leave_folder)
int listening_leave_folder(void **state);

#endif
