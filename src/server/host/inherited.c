/* SPDX-License-Identifier: BSD-3-Clause */

/* A descriptor that is close-on-exec cannot have been inherited: a library has opened it before
 * main.  The descriptor with which we read /proc/self/fd is close-on-exec, too. */

#include "server/host/inherited.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "text/parse.h"

/* Without /proc, only descriptors below this number are found.  The limit on descriptors can be a
 * thousand million, and to try so many would take minutes. */
#define FD_END 1024

static bool is_inherited(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return fd > STDERR_FILENO && flags >= 0 && !(flags & FD_CLOEXEC);
}

static int note(struct inherited *inherited, int fd)
{
    int *fds = realloc(inherited->fds, (inherited->count + 1) * sizeof *fds);
    if (!fds)
        return -ENOMEM;
    inherited->fds = fds;
    inherited->fds[inherited->count++] = fd;
    return 0;
}

static int note_entries(struct inherited *inherited, DIR *folder)
{
    const struct dirent *entry;
    unsigned fd;
    int r = 0;
    while (r == 0 && (entry = readdir(folder)) != NULL)
        if (parse_number(entry->d_name, PARSE_DECIMAL, 0, INT_MAX, &fd) == 0 &&
            is_inherited((int)fd))
            r = note(inherited, (int)fd);
    return r;
}

int inherited_note(struct inherited *inherited)
{
    DIR *folder = opendir("/proc/self/fd");
    int r = 0;
    if (folder) {
        r = note_entries(inherited, folder);
        closedir(folder);
        return r;
    }
    for (int fd = 0; r == 0 && fd < FD_END; fd++)
        if (is_inherited(fd))
            r = note(inherited, fd);
    return r;
}

void inherited_close(struct inherited *inherited)
{
    for (size_t i = 0; i < inherited->count; i++)
        close(inherited->fds[i]);
    inherited_forget(inherited);
}

void inherited_forget(struct inherited *inherited)
{
    free(inherited->fds);
    *inherited = (struct inherited){.count = 0};
}
