/* SPDX-License-Identifier: BSD-3-Clause */

/* Control groups nest, and a group's limit also applies to all groups below it.  So every group
 * is asked, from the process's own up to the root.  A container often sees its own group as the
 * root of /sys/fs/cgroup, while /proc/self/cgroup still has the longer path from outside: paths
 * that do not exist are skipped.  A file that cannot be opened for lack of descriptors or memory
 * is an error: without its limit the answer would be too high. */

#include "os/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE 4400 /* PATH_MAX, and room for what is put before and after the path */

/* Open root + directory + name.  NULL on failure, with errno set. */
static FILE *open_below(const char *root, const char *directory, const char *name)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof path, "%s%s%s", root, directory, name);
    if (n > 0 && (size_t)n < sizeof path)
        return fopen(path, "re");
    errno = ENAMETOOLONG;
    return NULL;
}

/* After open_below failed: -EMFILE, -ENFILE or -ENOMEM if it may succeed later, else -ENOENT. */
static int open_error(void)
{
    return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENOENT;
}

/* Read a file that holds one number.  0; -ENOENT if there is none ("max", no limit, is not a
 * number); or an error of open_error. */
static int read_number(const char *root, const char *directory, const char *name,
                       uint64_t *number)
{
    FILE *file = open_below(root, directory, name);
    if (!file)
        return open_error();
    bool found = fscanf(file, "%" SCNu64, number) == 1;
    fclose(file);
    return found ? 0 : -ENOENT;
}

/* Find the line "key number" in a file and read the number.  Returns what read_number returns. */
static int read_keyed(const char *root, const char *directory, const char *name, const char *key,
                      uint64_t *number)
{
    FILE *file = open_below(root, directory, name);
    if (!file)
        return open_error();
    bool found = false;
    char line[256];
    size_t length = strlen(key);
    while (!found && fgets(line, sizeof line, file))
        found = strncmp(line, key, length) == 0 && sscanf(line + length, "%" SCNu64, number) == 1;
    fclose(file);
    return found ? 0 : -ENOENT;
}

/* Where the two versions of control groups keep the same facts. */
struct group_files {
    const char *mount;
    const char *limit, *usage; /* files in a group's directory */
    const char *inactive;      /* key in its memory.stat: clean page cache and the like */
};
static const struct group_files version1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
                                            "/memory.usage_in_bytes", "total_inactive_file "};
static const struct group_files version2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current",
                                            "inactive_file "};

/* Lower room to what one group allows.  A group without these files allows everything.  0, or an
 * error of open_error except -ENOENT. */
static int apply_group(struct os_memory_room *room, const char *root, const char *directory,
                       const struct group_files *files)
{
    uint64_t limit, usage, inactive = 0;
    int r = read_number(root, directory, files->limit, &limit);
    if (r == 0)
        r = read_number(root, directory, files->usage, &usage);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    /* If this fails, the answer is too low, which does no harm. */
    read_keyed(root, directory, "/memory.stat", files->inactive, &inactive);
    usage -= inactive < usage ? inactive : usage;
    uint64_t available = limit > usage ? limit - usage : 0;
    if (limit < room->total)
        room->total = limit;
    if (available < room->available)
        room->available = available;
    return 0;
}

/* Apply a group and all groups above it.  This shortens `group`, a path, to nothing. */
static int apply_groups_above(struct os_memory_room *room, const char *root, char *group,
                              const struct group_files *files)
{
    char directory[PATH_SIZE];
    for (;;) {
        int r = 0, n = snprintf(directory, sizeof directory, "%s%s", files->mount, group);
        if (n > 0 && (size_t)n < sizeof directory)
            r = apply_group(room, root, directory, files);
        char *slash = strrchr(group, '/');
        if (!slash || r < 0)
            return r;
        *slash = '\0';
    }
}

/* Apply all groups of the process.  A line of /proc/self/cgroup is "number:controllers:path";
 * version 2 names no controllers. */
static int apply_own_groups(struct os_memory_room *room, const char *root)
{
    FILE *file = open_below(root, "/proc/self/cgroup", "");
    if (!file)
        return open_error() == -ENOENT ? 0 : open_error();
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
            r = apply_groups_above(room, root, group, &version2);
        else if (strstr(controllers, "memory"))
            r = apply_groups_above(room, root, group, &version1);
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
    return apply_own_groups(room, root);
}
