/* SPDX-License-Identifier: BSD-3-Clause */

/* The kernel writes pages to us to get free memory, so storing them must not need memory from the
 * kernel.  We lock the memory of the program: the mappings of files (the program and its
 * libraries), the zeroed variables that follow these mappings, the heap, and the stack of the
 * main thread.  For each loop, we lock its stack and its scratch memory.
 *
 * We do not use mlockall, because it would also lock the address space of the disk, and so make
 * all of the disk resident. */

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

/* PR_SET_IO_FLUSHER exists since Linux 5.6. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* A mapping without a name that follows a mapping of a file has the zeroed variables of that
 * file.  A larger mapping may be a part of the disk that happens to lie there. */
#define VARIABLES_MAX (1UL << 20) /* bytes */

/* Bytes of a thread's stack to lock: many times the bytes that it uses.  A whole stack is 8
 * MiB. */
#define STACK_USED ((size_t)256 << 10) /* bytes */

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
    /* This call fails without CAP_SYS_RESOURCE, and on older kernels. */
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

struct mapping {
    unsigned long start, end;
    bool is_accessible, is_program;
};

/* Parse a line of /proc/self/maps, "start-end perms offset device inode   name".  before is the
 * mapping of the previous line.  Returns false if the line has another form. */
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

static int lock_mappings(FILE *maps)
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
    int r = lock_mappings(maps);
    fclose(maps);
    return r < 0 ? reason_set(reason, r, CANNOT_LOCK) : 0;
}

/* Stacks grow down, so the used part is at the end. */
static int lock_stack(pthread_t thread)
{
    pthread_attr_t attributes;
    void *start = NULL;
    size_t size = 0;
    int error = pthread_getattr_np(thread, &attributes);
    if (error)
        return -error;
    error = pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_destroy(&attributes);
    if (error)
        return -error;
    size_t used = size < STACK_USED ? size : STACK_USED;
    return mlock((char *)start + size - used, used) < 0 ? -errno : 0;
}

int lock_memory_of_thread(pthread_t thread, void *piece, struct reason *reason)
{
    int r = lock_stack(thread);
    if (r == 0 && piece && mlock(piece, malloc_usable_size(piece)) < 0)
        r = -errno;
    return r < 0 ? reason_set(reason, r, CANNOT_LOCK) : 0;
}
