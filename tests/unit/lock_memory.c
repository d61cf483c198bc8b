/* SPDX-License-Identifier: BSD-3-Clause */

/* The process stays in memory: what it has, and what it gets later. */

#include "support/child.h"
#include "support/support.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "os/memory.h"
#include "server/host/lock_memory.h"
#include "text/reason.h"

/* Memory in use that is not locked, in KiB; or CHILD_SKIP where the kernel does not say. */
static unsigned long unlocked_kib(void)
{
    unsigned long total = 0, anonymous = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/smaps", "re");
    if (!maps)
        _exit(CHILD_SKIP);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "Anonymous: %lu kB", &anonymous) == 1)
            continue;
        if (strncmp(line, "VmFlags:", 8) == 0 && !strstr(line, " lo"))
            total += anonymous;
    }
    fclose(maps);
    return total;
}

static bool is_resident(const char *at)
{
    unsigned char state = 0;
    const size_t page = os_page_size();
    void *start = (void *)((uintptr_t)at / page * page);
    MUST(mincore(start, page, &state) == 0);
    return state & 1;
}

static void lock_or_skip(void)
{
    struct reason reason = {0};
    /* Sanitizers only pretend to lock. */
    if (mlock(&reason, sizeof reason) < 0 || locked_memory() == 0)
        _exit(CHILD_SKIP);
    int r = lock_memory_of_process(&reason);
    if (r < 0) {
        MUST(strstr(reason.text, "--swap: cannot lock") && !strchr(reason.text, '\n'));
        MUST(r == -EPERM || r == -ENOMEM || r == -EAGAIN);
        _exit(CHILD_SKIP);
    }
}

/* A stack that is deep enough for what a thread does must not need memory later. */
static void *look_at_stack(void *argument)
{
    char here;
    (void)argument;
    for (size_t below = 0; below < 256 * KiB; below += os_page_size())
        MUST(is_resident(&here - below));
    MUST(unlocked_kib() == 0);
    return NULL;
}

static void lock_all(void *argument)
{
    const size_t size = (size_t)(256 * MiB);
    pthread_t thread;
    (void)argument;
    char *disk = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(disk != MAP_FAILED);
    lock_or_skip();
    uint64_t before = os_memory_resident();
    /* The disk takes memory where it is touched, and that is locked. */
    MUST(mprotect(disk, size, PROT_READ | PROT_WRITE) == 0);
    MUST(!is_resident(disk + size / 2) && os_memory_resident() < before + size / 2);
    memset(disk, 1, (size_t)MiB);
    /* What comes later is locked, and in memory. */
    char *heap = malloc((size_t)(8 * MiB));
    MUST(heap && is_resident(heap + 5 * MiB));
    MUST(pthread_create(&thread, NULL, look_at_stack, NULL) == 0);
    MUST(pthread_join(thread, NULL) == 0);
    MUST(unlocked_kib() == 0);
    free(heap);
    struct reason reason;
    MUST(lock_memory_check_limit(&reason) == 0);
}

static void all_memory_is_locked_now_and_later(void **state)
{
    (void)state;
    child_run_or_skip(lock_all, NULL);
}

static void lock_with_little(void *argument)
{
    struct reason reason = {0};
    const struct rlimit little = {(rlim_t)MiB, (rlim_t)MiB};
    (void)argument;
    MUST(setrlimit(RLIMIT_MEMLOCK, &little) == 0);
    if (geteuid() == 0 && setuid(65534) != 0) /* root may lock whatever the limit is */
        _exit(CHILD_SKIP);
    MUST(lock_memory_of_process(&reason) < 0);
    MUST(strstr(reason.text, "--swap: cannot lock") && strstr(reason.text, "ulimit -l"));
}

static void without_the_right_to_lock_it_says_so(void **state)
{
    (void)state;
    if (!resident_size_is_meaningful())
        skip();
    child_run_or_skip(lock_with_little, NULL);
}

static int oom_score(void)
{
    int score = 12345;
    FILE *file = fopen("/proc/self/oom_score_adj", "re");
    MUST(file && fscanf(file, "%d", &score) == 1);
    fclose(file);
    return score;
}

static void lower_oom_score(void *argument)
{
    (void)argument;
    int before = oom_score();
    FILE *file = fopen("/proc/self/oom_score_adj", "we");
    MUST(file);
    fprintf(file, "%d", 700);
    MUST(fclose(file) == 0 && oom_score() == 700);
    int score = lock_memory_avoid_oom_killer();
    MUST(score == oom_score() && score <= before);
    /* Nothing lower is possible. */
    MUST(lock_memory_avoid_oom_killer() == score);
}

static void oom_score_is_as_low_as_it_may_be(void **state)
{
    (void)state;
    child_run(lower_oom_score, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_memory_is_locked_now_and_later),
        cmocka_unit_test(without_the_right_to_lock_it_says_so),
        cmocka_unit_test(oom_score_is_as_low_as_it_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
