/* SPDX-License-Identifier: BSD-3-Clause */

/* Control groups nest, and a limit holds for all below it: every group from the process's own up
 * to the root is asked.  A container often sees its own group as the root of /sys/fs/cgroup while
 * /proc/self/cgroup still tells a longer path: paths that do not exist are passed over.  What
 * cannot be opened for want of descriptors or memory is not: without it the answer would be too
 * high. */

#include "os/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE 4400 /* a path of PATH_MAX and what is put around it */

/* NULL: errno says why. */
static FILE *open_text(const char *root, const char *directory, const char *name)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof path, "%s%s%s", root, directory, name);
    if (n > 0 && (size_t)n < sizeof path)
        return fopen(path, "re");
    errno = ENAMETOOLONG;
    return NULL;
}

/* Why a file could not be opened: -ENOENT, or what may pass. */
static int why_not_open(void)
{
    return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENOENT;
}

/* A file that holds one number.  "max" (no limit) is not a number.  0, -ENOENT, or what may pass.
 */
static int read_number(const char *root, const char *directory, const char *name,
                       uint64_t *number)
{
    FILE *file = open_text(root, directory, name);
    if (!file)
        return why_not_open();
    bool found = fscanf(file, "%" SCNu64, number) == 1;
    fclose(file);
    return found ? 0 : -ENOENT;
}

/* A file of lines "key number".  Answers like read_number. */
static int read_keyed(const char *root, const char *directory, const char *name, const char *key,
                      uint64_t *number)
{
    FILE *file = open_text(root, directory, name);
    if (!file)
        return why_not_open();
    bool found = false;
    char line[256];
    size_t length = strlen(key);
    while (!found && fgets(line, sizeof line, file))
        found = strncmp(line, key, length) == 0 && sscanf(line + length, "%" SCNu64, number) == 1;
    fclose(file);
    return found ? 0 : -ENOENT;
}

/* The names under which the two versions of control groups tell the same. */
struct group_files {
    const char *mount, *limit, *usage, *inactive;
};
static const struct group_files version1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
                                            "/memory.usage_in_bytes", "total_inactive_file "};
static const struct group_files version2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current",
                                            "inactive_file "};

/* 0, or what may pass. */
static int tighten(struct os_memory_room *room, const char *root, const char *directory,
                   const struct group_files *files)
{
    uint64_t limit, usage, inactive = 0;
    int r = read_number(root, directory, files->limit, &limit);
    if (r == 0)
        r = read_number(root, directory, files->usage, &usage);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    /* Not to know this makes the answer too low, which does no harm. */
    read_keyed(root, directory, "/memory.stat", files->inactive, &inactive);
    usage -= inactive < usage ? inactive : usage;
    uint64_t available = limit > usage ? limit - usage : 0;
    if (limit < room->total)
        room->total = limit;
    if (available < room->available)
        room->available = available;
    return 0;
}

static int tighten_up_from(struct os_memory_room *room, const char *root, char *group,
                           const struct group_files *files)
{
    char directory[PATH_SIZE];
    for (;;) {
        int r = 0, n = snprintf(directory, sizeof directory, "%s%s", files->mount, group);
        if (n > 0 && (size_t)n < sizeof directory)
            r = tighten(room, root, directory, files);
        char *slash = strrchr(group, '/');
        if (!slash || r < 0)
            return r;
        *slash = '\0';
    }
}

/* A line is "number:controllers:path"; version 2 has no controllers. */
static int ask_groups(struct os_memory_room *room, const char *root)
{
    FILE *file = open_text(root, "/proc/self/cgroup", "");
    if (!file)
        return why_not_open() == -ENOENT ? 0 : why_not_open();
    char line[PATH_SIZE];
    int r = 0;
    while (r == 0 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = '\0';
        *group++ = '\0';
        if (*controllers == '\0')
            r = tighten_up_from(room, root, group, &version2);
        else if (strstr(controllers, "memory"))
            r = tighten_up_from(room, root, group, &version1);
    }
    fclose(file);
    return r;
}

int os_memory_room(const char *root, struct os_memory_room *room)
{
    uint64_t total_kib = 0, available_kib = 0, swap_kib = 0;
    int r = read_keyed(root, "/proc/meminfo", "", "MemTotal:", &total_kib);
    if (r == 0)
        r = read_keyed(root, "/proc/meminfo", "", "MemAvailable:", &available_kib);
    if (r < 0)
        return r;
    read_keyed(root, "/proc/meminfo", "", "SwapTotal:", &swap_kib);
    room->total = total_kib * 1024;
    room->swap = swap_kib * 1024;
    room->available = available_kib * 1024;
    return ask_groups(room, root);
}
