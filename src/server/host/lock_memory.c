/* SPDX-License-Identifier: BSD-3-Clause */

/* The kernel writes pages to our disk to get free memory.  Storing these pages must not need new
 * memory from the kernel.  And the kernel must not write out pages of this process.
 *
 *     WHAT                                LOCKED BY                    IN MEMORY
 *     program, libraries, their data,     mlock, one by one            at once
 *       heap, main thread's stack
 *     the disk's address space, tables    mlockall: current, on fault  when touched
 *     stacks of threads, later heaps,     mlockall: future             when mapped
 *       libraries that are loaded later
 *
 * "Current" without "on fault" would bring all accessible pages into memory at once.  "Future"
 * with "on fault" would leave the stacks of threads to page faults, which could come when the
 * machine has no memory.
 *
 * Locked memory is not enough, because the kernel also needs memory for each reply that is sent.
 * When less than a minimum is free, it gives none to ordinary threads, but it may use the rest
 * itself to write pages to our disk.  Then a reply to a read can wait for memory while the writes
 * that would free memory wait for the thread that sends this reply, and the machine hangs.
 * Threads with real-time priority may use a quarter of the minimum.  And they answer earlier, so
 * that fewer requests are in flight.
 *
 * The kernel compares the limit of locked memory with all pages that are mapped (VmLck), and not
 * only with those that are in memory.  So the address space of the disk counts, too, and
 * it can be three times as large as the memory of the machine. */

#include "server/host/lock_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "text/reason.h"

/* PR_SET_IO_FLUSHER exists since Linux 5.6. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* If a mapping without a name directly follows a mapping of a file, and is not larger than this,
 * it holds the zeroed variables of that file.  A larger mapping could be a part of the disk. */
#define VARIABLES_MAX (1UL << 20) /* bytes */

/* The size of each thread's stack.  A stack is brought into memory whole, so this is smaller than
 * the default of 8 MiB.  A thread uses a tenth of its stack. */
#define STACK_BYTES ((size_t)512 << 10)

/* malloc must not give memory back to the system, because the system may not be able to provide
 * it again.  Only allocations larger than this are mapped and unmapped one by one. */
#define HEAP_PIECE_MAX (4 << 20) /* bytes */

/* malloc can map a heap of this size for another thread.  The limit of locked memory must allow
 * one more such heap. */
#define HEAP_BYTES ((size_t)128 << 20)

#define OOM_SCORE_MIN (-1000)

#define MAY_LOCK "root may, and others with a higher limit (ulimit -l, RLIMIT_MEMLOCK): "

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
    /* prctl fails without CAP_SYS_RESOURCE, and on kernels older than Linux 5.6. */
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

/* The OOM killer. */

static bool set_oom_score(int fd, int score)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d", score);
    return write(fd, text, (size_t)length) == length;
}

/* Find the lowest OOM score that the kernel lets the process have, and set it.  The kernel does
 * not show this score, so we search between a score that it has refused and a score that it has
 * accepted.  Returns the score. */
static int lower_oom_score(int fd, int refused, int accepted)
{
    while (accepted - refused > 1) {
        int middle = refused + (accepted - refused) / 2;
        if (set_oom_score(fd, middle))
            accepted = middle;
        else
            refused = middle;
    }
    return accepted;
}

int lock_memory_avoid_oom_killer(void)
{
    char text[16] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), score = 0;
    if (fd < 0)
        return 0;
    bool is_known = read(fd, text, sizeof text - 1) > 0 && sscanf(text, "%d", &score) == 1;
    if (set_oom_score(fd, OOM_SCORE_MIN))
        score = OOM_SCORE_MIN;
    else if (is_known)
        score = lower_oom_score(fd, OOM_SCORE_MIN, score);
    close(fd);
    return score;
}

/* The priority. */

int lock_memory_raise_priority(void)
{
    const struct sched_param lowest = {.sched_priority = sched_get_priority_min(SCHED_RR)};
    return sched_setscheduler(0, SCHED_RR, &lowest) < 0 ? -errno : 0;
}

/* The program. */

struct mapping {
    unsigned long start, end;
    bool is_accessible, is_program;
};

/* Parse a line of /proc/self/maps, "start-end perms offset device inode   name".  `before` is the
 * mapping of the previous line.  Returns false if the line does not have this form. */
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

static int lock_program_in(FILE *maps)
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

static int lock_program(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return -errno;
    int r = lock_program_in(maps);
    fclose(maps);
    return r;
}

/* The process. */

static void bound_heap_and_stacks(void)
{
#ifdef __GLIBC__
    pthread_attr_t attributes;
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_MMAP_THRESHOLD, HEAP_PIECE_MAX);
    if (pthread_attr_init(&attributes) != 0)
        return;
    if (pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0)
        pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
#endif
}

int lock_memory_of_process(struct reason *reason)
{
    bound_heap_and_stacks();
    int r = 0;
    if (mlockall(MCL_CURRENT | MCL_ONFAULT) < 0 || mlockall(MCL_FUTURE) < 0)
        r = -errno;
    if (r == 0)
        r = lock_program();
    if (r == -ENOENT)
        return reason_set(reason, r, "--swap: /proc says what has to be locked; mount it: ");
    return r < 0 ? reason_set(reason, r, "--swap: cannot lock the program into memory; " MAY_LOCK)
                 : 0;
}

/* Test the limit of locked memory by mapping address space for a heap.  The mapping takes no
 * memory, because it cannot be accessed, but it counts against the limit. */
int lock_memory_check_limit(struct reason *reason)
{
    void *heap =
        mmap(NULL, HEAP_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (heap == MAP_FAILED)
        return reason_set(reason, -errno, "--swap: cannot lock more memory; " MAY_LOCK);
    munmap(heap, HEAP_BYTES);
    return 0;
}
