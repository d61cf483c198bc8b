/* SPDX-License-Identifier: BSD-3-Clause */

/* The budget, and what it asks the machine.  The machines here are made up: each is a tree of
 * files in a folder. */

#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <errno.h>
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

/* Of 16 GiB, 8 GiB are available, and 1 GiB, a sixteenth, stays free.  The machine is asked again
 * after some memory was taken. */
static void machine_is_asked_again(void **state)
{
    struct budget budget;
    (void)state;
    machine_of_16_gib();
    budget_init(&budget, 0, false, ROOT);
    assert_int_equal(budget_take(&budget, 7 * GiB + 1, BUDGET_GROW), -ENOSPC);
    assert_int_equal(budget_take(&budget, 3 * GiB, BUDGET_GROW), 0);
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1048577 kB\n");
    uint64_t taken = 0;
    while (taken < 8 * GiB && budget_take(&budget, 2 * MiB, BUDGET_GROW) == 0)
        taken += 2 * MiB;
    assert_true(taken < 512 * MiB); /* a sixteenth of what was free when the machine was asked */
    file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n");
    assert_int_equal(budget_take(&budget, 2 * MiB, BUDGET_GROW), 0);
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

/* The clients of a server have all its descriptors, so it cannot ask the machine: the last answer
 * remains valid. */
static void machine_that_cannot_be_asked(void **state)
{
    struct budget budget, unborn;
    struct os_memory_room room;
    (void)state;
    machine_of_16_gib();
    assert_int_equal(budget_init(&budget, 0, false, ROOT), 0);
    assert_int_equal(budget_take(&budget, 3 * GiB, BUDGET_GROW), 0);
    uint64_t ceiling = budget_ceiling(&budget), total = budget_total(&budget);
    struct rlimit before = forbid_descriptors();
    int asked = os_memory_room(ROOT, &room), born = budget_init(&unborn, 0, false, ROOT);
    int too_much = budget_take(&budget, total - 3 * GiB + 1, BUDGET_GROW);
    int enough = budget_take(&budget, 3 * GiB, BUDGET_GROW);
    int no_more = budget_take(&budget, total, BUDGET_GROW);
    uint64_t ceiling_then = budget_ceiling(&budget);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(asked, -EMFILE);
    assert_int_equal(born, -EMFILE);
    assert_int_equal(too_much, -ENOSPC);
    assert_int_equal(enough, 0);
    assert_int_equal(no_more, -ENOSPC);
    assert_int_equal(ceiling_then, ceiling);
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
    int asked = os_memory_room(ROOT, &room);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(asked, -EMFILE);
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
        TEST_ON_A_MACHINE(group_seen_from_inside),
        cmocka_unit_test(limit_is_kept),
        cmocka_unit_test(keepback_is_for_those_who_make_room),
        cmocka_unit_test(check_finds_wrong_sums),
        TEST_ON_A_MACHINE(machine_is_asked_again),
        TEST_ON_A_MACHINE(machine_that_cannot_be_asked),
        TEST_ON_A_MACHINE(group_that_cannot_be_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
