/* SPDX-License-Identifier: BSD-3-Clause */

/* Control groups nest, and a group's limit also applies to all groups below it.  So this file
 * reads the limit of every group, from the process's own group up to the root.
 *
 * In a container, the process's own group often appears as the root of /sys/fs/cgroup.
 * /proc/self/cgroup may still name the longer path that the group has outside of the container.
 * So paths that do not exist are skipped.  But if a file exists and cannot be opened for lack of
 * descriptors or memory, that is an error.  Without the limit in that file, the answer would be
 * too high. */

#include "os/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE 4400 /* bytes: PATH_MAX, and enough for the text before and after the path */

/* The lines of a control group's memory.stat that this file reads. */
enum reclaim_line {
    ACTIVE_FILE,   /* page cache that was used more than once */
    INACTIVE_FILE, /* other page cache */
    DIRTY,         /* page cache that differs from its file */
    WRITEBACK,     /* page cache that is being written to its file */
    SLAB,          /* the kernel's own caches */
    RECLAIM_LINES, /* the number of lines */
};

/* Open the file root + directory + name.  On failure returns NULL and sets errno. */
static FILE *open_below(const char *root, const char *directory, const char *name)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof path, "%s%s%s", root, directory, name);
    if (n > 0 && (size_t)n < sizeof path)
        return fopen(path, "re");
    errno = ENAMETOOLONG;
    return NULL;
}

/* The error code for a failure of open_below: -EMFILE, -ENFILE or -ENOMEM if another try may
 * succeed later, and -ENOENT otherwise. */
static int open_error(void)
{
    return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENOENT;
}

/* Read a file that holds one number.  Returns 0 or an error of open_error.  If the file holds no
 * number, returns -ENOENT.  That happens if a group has no limit: the file of the limit then
 * holds the word "max". */
static int read_number_file(const char *root, const char *directory, const char *name,
                            uint64_t *number)
{
    FILE *file = open_below(root, directory, name);
    if (!file)
        return open_error();
    bool found = fscanf(file, "%" SCNu64, number) == 1;
    fclose(file);
    return found ? 0 : -ENOENT;
}

/* A line to look for in a file.  It consists of a key and a number. */
struct line {
    const char *key; /* ends with the colon or space that precedes the number */
    uint64_t number; /* the number after key; unchanged if the file has no such line */
};

/* For each entry of `lines`, find the line in the file that begins with the entry's key, and read
 * the number after the key.
 * Returns 0 or an error of open_error. */
static int read_lines(const char *root, const char *directory, const char *name,
                      struct line *lines, size_t count)
{
    FILE *file = open_below(root, directory, name);
    if (!file)
        return open_error();
    char text[256];
    while (fgets(text, sizeof text, file))
        for (size_t i = 0; i < count; i++) {
            size_t length = strlen(lines[i].key);
            if (strncmp(text, lines[i].key, length) == 0)
                sscanf(text + length, "%" SCNu64, &lines[i].number);
        }
    fclose(file);
    return 0;
}

/* Names of files in a control group's directory, and of lines in its memory.stat.  They differ
 * between the two versions of control groups. */
struct group_files {
    const char *mount;
    const char *limits[2];           /* files with a limit; the lowest limit counts */
    const char *usage;               /* file that holds the bytes in use */
    const char *stat[RECLAIM_LINES]; /* keys of lines in memory.stat, by enum reclaim_line */
};
static const struct group_files version1 = {
    .mount = "/sys/fs/cgroup/memory",
    .limits = {"/memory.limit_in_bytes"},
    .usage = "/memory.usage_in_bytes",
    .stat = {[ACTIVE_FILE] = "total_active_file ",
             [INACTIVE_FILE] = "total_inactive_file ",
             [DIRTY] = "total_dirty ",
             [WRITEBACK] = "total_writeback "},
};
static const struct group_files version2 = {
    .mount = "/sys/fs/cgroup",
    .limits = {"/memory.max", "/memory.high"},
    .usage = "/memory.current",
    .stat = {[ACTIVE_FILE] = "active_file ",
             [INACTIVE_FILE] = "inactive_file ",
             [DIRTY] = "file_dirty ",
             [WRITEBACK] = "file_writeback ",
             [SLAB] = "slab_reclaimable "},
};

/* Read the limit of a group.  If the group has two limits, the lower one counts.  Returns 0, or
 * an error of read_number_file. */
static int read_limit(const char *root, const char *directory, const struct group_files *files,
                      uint64_t *limit)
{
    int found = -ENOENT;
    for (unsigned i = 0; i < 2 && files->limits[i]; i++) {
        uint64_t number;
        int r = read_number_file(root, directory, files->limits[i], &number);
        if (r < 0 && r != -ENOENT)
            return r;
        if (r == 0 && (found < 0 || number < *limit)) {
            *limit = number;
            found = 0;
        }
    }
    return found;
}

/* How many bytes of a group's memory the kernel can free when memory is needed.  Page cache
 * counts, except page cache that must be written to its file first.  Half of the reclaimable
 * slabs counts, because many of their objects are in use.  Locked pages and shared memory do not
 * count.  If memory.stat cannot be read, the result is 0.  That does no harm: the process then
 * only takes less memory than it could. */
static uint64_t read_reclaimable(const char *root, const char *directory,
                                 const struct group_files *files)
{
    struct line lines[RECLAIM_LINES];
    for (unsigned i = 0; i < RECLAIM_LINES; i++)
        lines[i] = (struct line){.key = files->stat[i] ? files->stat[i] : "no such line"};
    if (read_lines(root, directory, "/memory.stat", lines, RECLAIM_LINES) < 0)
        return 0;
    uint64_t cache = lines[ACTIVE_FILE].number + lines[INACTIVE_FILE].number;
    uint64_t busy = lines[DIRTY].number + lines[WRITEBACK].number;
    return (cache > busy ? cache - busy : 0) + lines[SLAB].number / 2;
}

/* Lower the numbers in *room to what one group allows.  A group without a limit, or without a
 * file that says how much it uses, allows everything.  Returns 0, or an error of open_error
 * except -ENOENT. */
static int apply_group(struct os_memory_room *room, const char *root, const char *directory,
                       const struct group_files *files)
{
    uint64_t limit, usage;
    int r = read_limit(root, directory, files, &limit);
    if (r == 0)
        r = read_number_file(root, directory, files->usage, &usage);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    uint64_t reclaimable = read_reclaimable(root, directory, files);
    usage -= reclaimable < usage ? reclaimable : usage;
    uint64_t available = limit > usage ? limit - usage : 0;
    if (limit < room->total)
        room->total = limit;
    if (available < room->available)
        room->available = available;
    return 0;
}

/* Lower the numbers in *room to what a group and all groups above it allow.  `group` is the path
 * of the group.  The function cuts the path off piece by piece, until `group` is an empty string.
 * Returns 0 or an error of apply_group. */
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

/* Lower the numbers in *room to what all groups of the process allow.  A line of
 * /proc/self/cgroup is "number:controllers:path".  In a line of version 2, the controllers are
 * empty. */
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
    enum { TOTAL, AVAILABLE, SWAP, LINES };
    struct line lines[LINES] = {[TOTAL] = {.key = "MemTotal:", .number = UINT64_MAX},
                                [AVAILABLE] = {.key = "MemAvailable:", .number = UINT64_MAX},
                                [SWAP] = {.key = "SwapTotal:"}};
    int r = read_lines(root, "/proc/meminfo", "", lines, LINES);
    if (r < 0)
        return r;
    if (lines[TOTAL].number == UINT64_MAX || lines[AVAILABLE].number == UINT64_MAX)
        return -ENOENT;
    room->total = lines[TOTAL].number * 1024;
    room->swap = lines[SWAP].number * 1024;
    room->available = lines[AVAILABLE].number * 1024;
    return apply_own_groups(room, root);
}
