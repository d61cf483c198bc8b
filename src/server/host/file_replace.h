/* SPDX-License-Identifier: BSD-3-Clause */

/* file_replace - write small files
 *
 * Paths are relative to the folder whose descriptor is passed.  AT_FDCWD means the current
 * folder.  A caller that keeps the descriptor can find the same folder after the process has
 * changed its current folder.  Any thread may call these functions.
 */

#ifndef NBDRAM_SERVER_HOST_FILE_REPLACE_H
#define NBDRAM_SERVER_HOST_FILE_REPLACE_H

#include <stdbool.h>
#include <stddef.h>

/* Write the bytes to a new file called .NAME.PID, and then rename that file to path.  A reader of
 * path finds either the old content or the new content, never a part.  A link or a device at path
 * is replaced, too.
 *
 * If held is not NULL, the new file is locked (flock) before it appears at path, and *held
 * becomes a descriptor that keeps the lock.  Some file systems have no locks; the file is then
 * not locked.
 *
 * Returns 0 or -errno.  On an error the file at path is unchanged, and *held is not set. */
int file_replace(int folder, const char *path, const void *bytes, size_t size, int *held);

/* Is there a symbolic link at path?  An attacker may have put a link there, to make us write to
 * the file to which it leads.  Links that the kernel makes, such as /dev/fd/3, do not count. */
bool file_is_link(int folder, const char *path);

/* Write the bytes to the plain file, FIFO or device at path.  If nothing is at path, a plain file
 * is created.  If a FIFO has no reader, the function waits until there is one.  A symbolic link
 * (file_is_link) is not followed.
 *
 * Returns 0; -ELOOP if there is a symbolic link at path; or another -errno.  After an error, a
 * part of the bytes may have been written. */
int file_write_in_place(int folder, const char *path, const void *bytes, size_t size);

#endif
