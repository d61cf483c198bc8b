/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/folder.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int folder_enter(void **state)
{
    struct folder *folder = calloc(1, sizeof *folder);
    if (!folder)
        return -1;
    *state = folder;
    folder->back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    strcpy(folder->path, "/tmp/nbdram-test-XXXXXX");
    if (folder->back < 0 || !mkdtemp(folder->path) || chdir(folder->path) < 0)
        return -1;
    return setenv("TMPDIR", folder->path, 1);
}

/* The folder is gone, or should be: go back to where the test started. */
static int go_back(struct folder *folder)
{
    int err = fchdir(folder->back);
    close(folder->back);
    free(folder);
    return err;
}

int folder_leave(void **state, const char *const names[])
{
    struct folder *folder = *state;
    for (; *names; names++)
        if (unlink(*names) < 0)
            rmdir(*names);
    int err = rmdir(folder->path);
    return err | go_back(folder);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int folder_leave_full(void **state)
{
    struct folder *folder = *state;
    int err = nftw(folder->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return err | go_back(folder);
}
