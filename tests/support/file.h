/* SPDX-License-Identifier: BSD-3-Clause */

/* file - small files of a test */

#ifndef NBDRAM_TESTS_FILE_H
#define NBDRAM_TESTS_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Is there a file, a folder, a link... of that name? */
bool file_exists(const char *path);

/* Read all of a file, or of a pipe until its end, and end it with a NUL.  What does not fit is
 * left out; text is "" if nothing can be read. */
void file_read(const char *path, char *text, size_t size);
void file_read_fd(int fd, char *text, size_t size);

/* Write a file, in place of one that is there.  Fails the test if that cannot be done. */
void file_write(const char *path, const void *data, size_t size);
void file_write_text(const char *path, const char *text);

#endif
