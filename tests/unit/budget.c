/* SPDX-License-Identifier: BSD-3-Clause */

/* The budget, and what it asks the machine.  The machines here are made up: each is a tree of
 * files in a folder. */

#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/memory/budget.h"
#include "os/machine.h"
#include "text/reason.h"

/* The folder of the made-up machine is the current one. */
#define ROOT "."

/* Write a file of the made-up machine, and make the folders that lead to it. */
static void file(const char *path, const char *text)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", ROOT, path);
    for (char *slash = strchr(whole + strlen(ROOT) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0777);
        *slash = '/';
    }
    file_write_text(whole, text);
}

static void machine_of_16_gib(void)
{
    file("/proc/meminfo",
         "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\n");
}

static struct os_memory_room room_now(void)
{
    struct os_memory_room room;
    assert_int_equal(os_memory_room(ROOT, &room), 0);
    return room;
}

static void machine_without_groups(void **state)
{
    (void)state;
    machine_of_16_gib();
    assert_int_equal(room_now().total, 16 * GiB);
    assert_int_equal(room_now().available, 8 * GiB);
}

static void machine_without_numbers(void **state)
{
    struct os_memory_room room;
    (void)state;
    assert_int_equal(os_memory_room(ROOT, &room), -ENOENT);
}

/* Version 2: the group with the least room counts, of those above the process; page cache does
 * not count as used. */
static void groups_version_2(void **state)
{
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "0::/outer/inner\n");
    file("/sys/fs/cgroup/outer/memory.max", "1073741824\n");
    file("/sys/fs/cgroup/outer/memory.current", "805306368\n");
    file("/sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 268435456\n");
    file("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
    file("/sys/fs/cgroup/outer/inner/memory.current", "4096\n");
    assert_int_equal(room_now().total, 1 * GiB);
    assert_int_equal(room_now().available, 512 * MiB);
}

static void groups_version_1(void **state)
{
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "5:cpu,cpuacct:/elsewhere\n4:memory:/ours\n0::/\n");
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
    file("/sys/fs/cgroup/memory/ours/memory.limit_in_bytes", "2147483648\n");
    file("/sys/fs/cgroup/memory/ours/memory.usage_in_bytes", "1073741824\n");
    file("/sys/fs/cgroup/memory/ours/memory.stat", "inactive_file 7\ntotal_inactive_file 4096\n");
    assert_int_equal(room_now().total, 2 * GiB);
    assert_int_equal(room_now().available, 1 * GiB + 4096);
}

/* memory.high counts as a limit, in any group above the process. */
static void group_is_throttled(void **state)
{
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "0::/outer/inner\n");
    file("/sys/fs/cgroup/outer/memory.max", "max\n");
    file("/sys/fs/cgroup/outer/memory.high", "100663296\n");
    file("/sys/fs/cgroup/outer/memory.current", "33554432\n");
    file("/sys/fs/cgroup/outer/inner/memory.max", "268435456\n");
    file("/sys/fs/cgroup/outer/inner/memory.high", "max\n");
    file("/sys/fs/cgroup/outer/inner/memory.current", "4096\n");
    assert_int_equal(room_now().total, 96 * MiB);
    assert_int_equal(room_now().available, 64 * MiB);
    file("/sys/fs/cgroup/outer/memory.max", "67108864\n");
    assert_int_equal(room_now().total, 64 * MiB);
    assert_int_equal(room_now().available, 32 * MiB);
}

/* The page cache of a group makes room when it is needed, even what was used more than once; but
 * not what has to be written first, not what is locked, and not shared memory. */
static void groups_full_of_page_cache(void **state)
{
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "0::/ours\n");
    file("/sys/fs/cgroup/ours/memory.max", "805306368\n");
    file("/sys/fs/cgroup/ours/memory.current", "671088640\n");
    file("/sys/fs/cgroup/ours/memory.stat",
         "anon 1\nfile 637534208\nshmem 67108864\nfile_dirty 16777216\n"
         "file_writeback 1048576\ninactive_file 67108864\nactive_file 469762048\n"
         "unevictable 33554432\nslab_reclaimable 2097152\n");
    assert_int_equal(room_now().available, (128 + 64 + 448 - 16 - 1 + 1) * MiB);
    file("/sys/fs/cgroup/ours/memory.stat",
         "file_dirty 536870913\ninactive_file 536870912\nactive_file 0\n");
    assert_int_equal(room_now().available, 128 * MiB);
    file("/sys/fs/cgroup/ours/memory.stat", "inactive_file 671088640\nactive_file 1\n");
    assert_int_equal(room_now().available, 768 * MiB);
}

static void groups_version_1_full_of_page_cache(void **state)
{
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "4:memory:/ours\n");
    file("/sys/fs/cgroup/memory/ours/memory.limit_in_bytes", "805306368\n");
    file("/sys/fs/cgroup/memory/ours/memory.usage_in_bytes", "671088640\n");
    file("/sys/fs/cgroup/memory/ours/memory.stat",
         "active_file 7\ntotal_dirty 16777216\ntotal_writeback 1048576\n"
         "total_inactive_file 67108864\ntotal_active_file 469762048\n");
    assert_int_equal(room_now().available, (128 + 64 + 448 - 16 - 1) * MiB);
}

/* In a container the path of the group need not exist below /sys/fs/cgroup. */
static void group_seen_from_inside(void **state)
{
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "0::/machine.slice/container-7\n");
    file("/sys/fs/cgroup/memory.max", "536870912\n");
    file("/sys/fs/cgroup/memory.current", "0\n");
    assert_int_equal(room_now().available, 512 * MiB);
}

static void limit_is_kept(void **state)
{
    struct budget budget;
    (void)state;
    budget_init(&budget, 100, false, ROOT);
    assert_int_equal(budget_take(&budget, 60, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 41, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take(&budget, 40, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_PACK), -ENOSPC);
    assert_int_equal(budget_take(&budget, UINT64_MAX, BUDGET_GROW), -ENOSPC);
    budget_give(&budget, 100);
    assert_int_equal(budget_take(&budget, 100, BUDGET_GROW), 0);
}

static void keepback_is_for_those_who_make_room(void **state)
{
    struct budget budget;
    (void)state;
    budget_init(&budget, 1600, true, ROOT);
    assert_int_equal(budget_take(&budget, 1400, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take(&budget, 100, BUDGET_INFLATE), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_INFLATE), -ENOSPC);
    assert_true(budget_allows(&budget, BUDGET_INFLATE));
    assert_false(budget_allows(&budget, BUDGET_GROW));
    assert_int_equal(budget_take(&budget, 100, BUDGET_PACK), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_PACK), -ENOSPC);
    assert_false(budget_allows(&budget, BUDGET_INFLATE));
    assert_true(budget_allows(&budget, BUDGET_PACK));
}

/* Take n bytes in pieces, until there is an error other than -EAGAIN, for which the machine is
 * asked.  Returns how much was taken. */
static uint64_t take_pieces(struct budget *budget, uint64_t n, uint64_t piece)
{
    uint64_t taken = 0;
    int r = 0;
    while (taken < n && r == 0) {
        while ((r = budget_take(budget, piece, BUDGET_GROW)) == -EAGAIN)
            budget_refresh(budget);
        taken += r == 0 ? piece : 0;
    }
    assert_true(r == 0 || r == -ENOSPC);
    return taken;
}

/* 16 GiB, 8 available: 1 GiB, a sixteenth, stays free. */
static void reserve_stays_free(void **state)
{
    struct budget budget;
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&budget, 0, false, ROOT), 0);
    assert_int_equal(budget_total(&budget), 7 * GiB);
    assert_int_equal(budget_take(&budget, 7 * GiB + 1, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take_at_once(&budget, 7 * GiB + 1, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take_at_once(&budget, 7 * GiB, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_GROW), -ENOSPC);
    budget_destroy(&budget);
}

/* One answer is good for a sixteenth of the room, and not for a byte more.  The next one counts
 * at once: here another process has taken nearly all memory meanwhile. */
static void credit_is_bounded(void **state)
{
    struct budget budget;
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&budget, 0, false, ROOT), 0);
    assert_int_equal(budget_take(&budget, 7 * GiB / 16, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_GROW), -EAGAIN);
    assert_int_equal(atomic_load(&budget.used), 7 * GiB / 16);
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1048577 kB\n");
    budget_refresh(&budget);
    assert_int_equal(budget_take(&budget, 2 * KiB, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take(&budget, 1 * KiB, BUDGET_GROW), 0);
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n");
    assert_int_equal(budget_take(&budget, 2 * MiB, BUDGET_GROW), -ENOSPC);
    budget_refresh(&budget);
    assert_int_equal(budget_take(&budget, 2 * MiB, BUDGET_GROW), 0);
    budget_destroy(&budget);
}

/* A pool takes 2 MiB at once: where there is room for that, there is credit for it.  Where there
 * is less, all of the room is credit. */
static void credit_near_the_end(void **state)
{
    struct budget budget;
    (void)state;
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1052672 kB\n");
    assert_int_equal(budget_init(&budget, 0, false, ROOT), 0);
    assert_int_equal(budget_take(&budget, 2 * MiB, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 2 * MiB, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&budget, 1, BUDGET_GROW), -ENOSPC);
    budget_destroy(&budget);
}

/* The machine is asked by this function, which counts, and then does what the test wants to
 * happen meanwhile. */
static _Atomic unsigned asked;
static void (*meanwhile)(void);

int __real_os_memory_room(const char *files, struct os_memory_room *room);
int __wrap_os_memory_room(const char *files, struct os_memory_room *room);
int __wrap_os_memory_room(const char *files, struct os_memory_room *room)
{
    int r = __real_os_memory_room(files, room);
    void (*now)(void) = meanwhile;
    meanwhile = NULL;
    if (now)
        now();
    atomic_fetch_add(&asked, 1);
    return r;
}

static struct budget shared; /* for what happens meanwhile */

/* Only budget_refresh asks. */
static void nothing_else_asks_the_machine(void **state)
{
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&shared, 0, true, ROOT), 0);
    atomic_store(&asked, 0);
    file("/proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 1048577 kB\n");
    assert_int_equal(budget_take(&shared, 1 * MiB, BUDGET_GROW), 0);
    assert_int_equal(budget_take(&shared, 1 * GiB, BUDGET_GROW), -EAGAIN);
    assert_int_equal(budget_take(&shared, 8 * GiB, BUDGET_GROW), -ENOSPC);
    assert_true(budget_allows(&shared, BUDGET_GROW));
    assert_int_equal(budget_total(&shared), 7 * GiB);
    assert_int_equal(budget_ceiling(&shared), 16 * GiB);
    budget_give(&shared, 1 * MiB);
    assert_int_equal(asked, 0);
    budget_refresh(&shared);
    assert_int_equal(asked, 1);
    assert_int_equal(budget_total(&shared), 1 * KiB);
    assert_int_equal(budget_ceiling(&shared), 8 * GiB);
    assert_int_equal(budget_take(&shared, 512, BUDGET_INFLATE), -ENOSPC);
    assert_int_equal(budget_take(&shared, 512, BUDGET_PACK), 0);
    assert_false(budget_allows(&shared, BUDGET_INFLATE));
    assert_true(budget_allows(&shared, BUDGET_PACK));
    budget_destroy(&shared);
}

static void limit_asks_nothing(void **state)
{
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&shared, 1 * MiB, false, ROOT), 0);
    assert_int_equal(budget_start(&shared), 0);
    atomic_store(&asked, 0);
    assert_int_equal(budget_take(&shared, 1 * MiB + 1, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take(&shared, 1 * MiB, BUDGET_GROW), 0);
    budget_refresh(&shared);
    assert_int_equal(budget_ceiling(&shared), 1 * MiB);
    assert_int_equal(asked, 0);
    budget_destroy(&shared);
}

/* What is taken while the machine is asked counts against the new answer, too. */
static void take_quarter_of_a_gib(void)
{
    assert_int_equal(budget_take(&shared, 256 * MiB, BUDGET_GROW), 0);
}

static void credit_is_used_while_the_machine_is_asked(void **state)
{
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&shared, 0, false, ROOT), 0);
    meanwhile = take_quarter_of_a_gib;
    budget_refresh(&shared);
    assert_null(meanwhile);
    assert_int_equal(budget_take(&shared, 7 * GiB / 16 - 256 * MiB + 1, BUDGET_GROW), -EAGAIN);
    assert_int_equal(budget_total(&shared), 7 * GiB);
    budget_destroy(&shared);
}

/* Wait for the thread to ask, without calling it. */
static void wait_for_total(uint64_t total)
{
    while (budget_total(&shared) != total)
        sched_yield();
}

/* The thread asks when half of the credit is used, and after a rest as soon as any is. */
static void thread_asks_in_time(void **state)
{
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&shared, 0, false, ROOT), 0);
    assert_int_equal(budget_start(&shared), 0);
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n");
    assert_int_equal(budget_take(&shared, 4 * KiB, BUDGET_GROW), 0); /* the first after a rest */
    wait_for_total(3 * GiB + 4 * KiB);
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 2097152 kB\n");
    assert_int_equal(budget_take(&shared, 128 * MiB, BUDGET_GROW), 0); /* more than half */
    wait_for_total(1 * GiB + 128 * MiB + 4 * KiB);
    budget_destroy(&shared);
}

/* An answer that the machine gave before budget_refresh was called is not good enough. */
static pthread_t refresher;
static uint64_t total_after_refresh;

static void *refresh(void *opaque)
{
    (void)opaque;
    budget_refresh(&shared);
    total_after_refresh = budget_total(&shared);
    return NULL;
}

static void machine_changes_and_is_asked_for(void)
{
    assert_int_equal(pthread_create(&refresher, NULL, refresh, NULL), 0);
    while (!atomic_load(&shared.woken))
        sched_yield();
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n");
}

static void refresh_begins_after_the_call(void **state)
{
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&shared, 0, false, ROOT), 0);
    assert_int_equal(budget_start(&shared), 0);
    meanwhile = machine_changes_and_is_asked_for;
    budget_refresh(&shared);
    pthread_join(refresher, NULL);
    assert_int_equal(total_after_refresh, 3 * GiB);
    budget_destroy(&shared);
}

/* Make it impossible to open files.  Returns the old limit. */
static struct rlimit forbid_descriptors(void)
{
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

/* A server whose clients have all descriptors: the machine cannot be asked, and its last answer
 * is used again. */
static void machine_that_cannot_be_asked(void **state)
{
    struct budget budget, unborn;
    struct os_memory_room room;
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&budget, 0, false, ROOT), 0);
    assert_int_equal(take_pieces(&budget, 3 * GiB, 2 * MiB), 3 * GiB);
    uint64_t ceiling = budget_ceiling(&budget), total = budget_total(&budget);
    struct rlimit before = forbid_descriptors();
    int answer = os_memory_room(ROOT, &room), born = budget_init(&unborn, 0, false, ROOT);
    int too_much = budget_take_at_once(&budget, total - 3 * GiB + 1, BUDGET_GROW);
    uint64_t enough = take_pieces(&budget, UINT64_MAX, 2 * MiB);
    uint64_t ceiling_then = budget_ceiling(&budget);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(answer, -EMFILE);
    assert_int_equal(born, -EMFILE);
    assert_int_equal(too_much, -ENOSPC);
    assert_int_equal(enough, total - 3 * GiB);
    assert_int_equal(ceiling_then, ceiling);
    budget_destroy(&budget);
}

/* The limit of a group must not be ignored because its file cannot be opened at the moment: with
 * one descriptor left, the list of groups can be read, and the files of the group cannot. */
static void group_that_cannot_be_asked(void **state)
{
    struct os_memory_room room;
    (void)state;
    machine_of_16_gib();
    file("/proc/self/cgroup", "0::/ours\n");
    file("/sys/fs/cgroup/ours/memory.max", "1073741824\n");
    file("/sys/fs/cgroup/ours/memory.current", "0\n");
    int next = dup(0);
    close(next);
    struct rlimit before, one;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    one = before;
    one.rlim_cur = (rlim_t)next + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &one), 0);
    int answer = os_memory_room(ROOT, &room);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(answer, -EMFILE);
    assert_int_equal(room_now().total, 1 * GiB);
}

static void check_finds_wrong_sums(void **state)
{
    struct budget budget;
    struct reason reason;
    (void)state;
    budget_init(&budget, 100, false, ROOT);
    assert_int_equal(budget_take(&budget, 60, BUDGET_GROW), 0);
    assert_int_equal(budget_check(&budget, 60, &reason), 0);
    assert_int_equal(budget_check(&budget, 61, &reason), -EUCLEAN);
    atomic_store(&budget.used, 101);
    assert_int_equal(budget_check(&budget, 101, &reason), -EUCLEAN);
}

int main(void)
{
#define TEST_ON_A_MACHINE(function)                                                              \
    cmocka_unit_test_setup_teardown(function, folder_enter, folder_leave_full)
    const struct CMUnitTest tests[] = {
        TEST_ON_A_MACHINE(machine_without_groups),
        TEST_ON_A_MACHINE(machine_without_numbers),
        TEST_ON_A_MACHINE(groups_version_2),
        TEST_ON_A_MACHINE(groups_version_1),
        TEST_ON_A_MACHINE(group_is_throttled),
        TEST_ON_A_MACHINE(groups_full_of_page_cache),
        TEST_ON_A_MACHINE(groups_version_1_full_of_page_cache),
        TEST_ON_A_MACHINE(group_seen_from_inside),
        cmocka_unit_test(limit_is_kept),
        cmocka_unit_test(keepback_is_for_those_who_make_room),
        cmocka_unit_test(check_finds_wrong_sums),
        TEST_ON_A_MACHINE(reserve_stays_free),
        TEST_ON_A_MACHINE(credit_is_bounded),
        TEST_ON_A_MACHINE(credit_near_the_end),
        TEST_ON_A_MACHINE(nothing_else_asks_the_machine),
        TEST_ON_A_MACHINE(limit_asks_nothing),
        TEST_ON_A_MACHINE(credit_is_used_while_the_machine_is_asked),
        TEST_ON_A_MACHINE(thread_asks_in_time),
        TEST_ON_A_MACHINE(refresh_begins_after_the_call),
        TEST_ON_A_MACHINE(machine_that_cannot_be_asked),
        TEST_ON_A_MACHINE(group_that_cannot_be_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
