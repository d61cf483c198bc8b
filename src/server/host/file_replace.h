/* SPDX-License-Identifier: BSD-3-Clause */

/* file_replace - write a small file whole
 *
 * A path is relative to the folder that a descriptor stands for (AT_FDCWD: the current one).  A
 * caller that keeps the descriptor finds the same folder again after the process has changed its
 * current folder.  Any thread may call.
 */

#ifndef NBDRAM_SERVER_HOST_FILE_REPLACE_H
#define NBDRAM_SERVER_HOST_FILE_REPLACE_H

#include <stdbool.h>
#include <stddef.h>

/* Put these bytes into a new file, and rename it to path: a reader finds the old content or the
 * new one, never a part.  Until then the new file is called .NAME.PID.  Whatever is at path is
 * replaced, be it a link or a device.  Returns 0, or -errno; then path is as it was. */
int file_replace(int folder, const char *path, const void *bytes, size_t size);

/* Is there a symbolic link at path?  Somebody else may have put it there, to have us write where
 * it leads.  Those that the kernel makes, as /dev/fd/3, do not count. */
bool file_is_link(int folder, const char *path);

/* Write these bytes to what is at path: a plain file, made if there is none, a FIFO or a device.
 * Waits until a FIFO has a reader.  Returns 0, or -errno; then a part may have been written.
 * -ELOOP: it is a symbolic link (file_is_link), which is not followed. */
int file_write_in_place(int folder, const char *path, const void *bytes, size_t size);

#endif
