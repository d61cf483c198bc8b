/* SPDX-License-Identifier: BSD-3-Clause */

/* --swap: the kernel writes pages to us to have memory, so we must not need memory from it to
 * take them.  Locked is what the program consists of: the mappings of files (the program,
 * libraries), what follows them (their zeroed variables), the heap and the main thread's stack,
 * and of each loop its stack and what it works with.
 * Not everything there is (mlockall): with the disk's address space, that would be all of the
 * disk. */

#include "server/host/lock_memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "text/reason.h"

/* Linux 5.6. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Mappings without a name that follow a file's are its zeroed variables; but larger ones can be
 * the disk's, which happens to lie there. */
#define VARIABLES_MAX (1UL << 20)

/* What a loop may use of its stack, many times over; all of it would be 8 MiB for each. */
#define STACK_USED ((size_t)256 << 10)

#define CANNOT_LOCK "--swap: cannot lock the program into memory (see ulimit -l): "

void lock_memory_raise_limit(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_MEMLOCK, &limit);
}

void lock_memory_become_flusher(void)
{
    /* Takes CAP_SYS_RESOURCE, and is for kernels that have it. */
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

struct mapping {
    unsigned long start, end;
    bool is_accessible, is_program;
};

/* A line of /proc/self/maps: "start-end perms offset device inode   name". */
static bool parse_mapping(const char *line, const struct mapping *before, struct mapping *mapping)
{
    char access[5], name[128] = "";
    unsigned long inode = 0;
    if (sscanf(line, "%lx-%lx %4s %*s %*s %lu %127s", &mapping->start, &mapping->end, access,
               &inode, name) < 4)
        return false;
    mapping->is_accessible = access[0] == 'r';
    if (name[0] == '\0')
        mapping->is_program = before->is_program && before->end == mapping->start &&
                              mapping->end - mapping->start <= VARIABLES_MAX;
    else
        mapping->is_program = (name[0] == '/' && access[3] == 'p') || !strcmp(name, "[heap]") ||
                              !strcmp(name, "[stack]");
    return true;
}

static int lock_program(FILE *maps)
{
    char line[512];
    struct mapping before = {.start = 0}, mapping;
    while (fgets(line, sizeof line, maps)) {
        if (!parse_mapping(line, &before, &mapping))
            continue;
        if (mapping.is_program && mapping.is_accessible &&
            mlock((const void *)mapping.start, mapping.end - mapping.start) < 0)
            return -errno;
        before = mapping;
    }
    return 0;
}

int lock_memory_of_program(struct reason *reason)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return reason_set(reason, -errno, "--swap: /proc/self/maps: ");
    int err = lock_program(maps);
    fclose(maps);
    if (err)
        return reason_set(reason, err, CANNOT_LOCK);
    return 0;
}

/* Stacks grow down: its used part is the last. */
static int lock_stack(pthread_t thread)
{
    pthread_attr_t attributes;
    void *start = NULL;
    size_t size = 0;
    int err = pthread_getattr_np(thread, &attributes);
    if (err)
        return -err;
    err = pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_destroy(&attributes);
    if (err)
        return -err;
    size_t used = size < STACK_USED ? size : STACK_USED;
    return mlock((char *)start + size - used, used) < 0 ? -errno : 0;
}

int lock_memory_of_thread(pthread_t thread, void *piece, struct reason *reason)
{
    int err = lock_stack(thread);
    if (!err && piece && mlock(piece, malloc_usable_size(piece)) < 0)
        err = -errno;
    return err ? reason_set(reason, err, CANNOT_LOCK) : 0;
}
