/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/host/file_replace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written == 0)
            return -EIO;
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Write all bytes to fd, and close it.  fd is the result of open: a descriptor, or -1 with errno
 * set.  Returns 0 or -errno. */
static int write_and_close(int fd, const char *bytes, size_t size)
{
    if (fd < 0)
        return -errno;
    int r = write_all(fd, bytes, size);
    /* Some file systems report only at close that they are full. */
    if (close(fd) < 0 && r == 0)
        r = -errno;
    return r;
}

/* Make the path of the new file: .NAME.PID, in the same folder as path.  Returns the new path,
 * which the caller frees, or NULL if there is no memory. */
static char *name_draft(const char *path)
{
    const char *slash = strrchr(path, '/');
    int folder_length = slash ? (int)(slash + 1 - path) : 0;
    char *draft = NULL;
    if (asprintf(&draft, "%.*s.%s.%ld", folder_length, path, path + folder_length,
                 (long)getpid()) < 0)
        return NULL;
    return draft;
}

int file_replace(int folder, const char *path, const void *bytes, size_t size, int *held)
{
    char *draft = name_draft(path);
    if (!draft)
        return -ENOMEM;
    /* An earlier process with our process id may have left a file at this path.  If somebody
     * makes another file there after the unlink, opening fails (O_EXCL). */
    unlinkat(folder, draft, 0);
    int fd = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int copy = -1, r = 0;
    if (fd >= 0 && held) {
        flock(fd, LOCK_EX | LOCK_NB);
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* the copy keeps the lock after fd is closed */
        r = copy < 0 ? -errno : 0;
    }
    int written = write_and_close(fd, bytes, size);
    if (r == 0)
        r = written;
    if (r == 0 && renameat(folder, draft, folder, path) < 0)
        r = -errno;
    if (r < 0 && fd >= 0)
        unlinkat(folder, draft, 0);
    if (r < 0 && copy >= 0)
        close(copy);
    if (r == 0 && held)
        *held = copy;
    free(draft);
    return r;
}

/* Is the link at path of a kind that only the kernel can make, like /dev/fd/3?  We look at the
 * file system of the link itself, not at that of the file to which the link leads. */
static bool is_link_of_the_kernel(int folder, const char *path)
{
    struct statfs system;
    int fd = openat(folder, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool is_of_proc = fstatfs(fd, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
    close(fd);
    return is_of_proc;
}

bool file_is_link(int folder, const char *path)
{
    struct stat status;
    return fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode) &&
           !is_link_of_the_kernel(folder, path);
}

int file_write_in_place(int folder, const char *path, const void *bytes, size_t size)
{
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY;
    if (!is_link_of_the_kernel(folder, path))
        flags |= O_NOFOLLOW;
    return write_and_close(openat(folder, path, flags, 0644), bytes, size);
}
