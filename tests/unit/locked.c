/* SPDX-License-Identifier: BSD-3-Clause */

/* mlock=true: memory locks are not inherited by fork, so disk_start has to lock, and disk_create
 * must not.  Each case runs in a child, so that it can go to the background, as nbdkit does, and
 * so that its locks end with it. */

#include "support/child.h"
#include "support/support.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (8 * MiB)

/* What goes from a process to its child. */
struct locking {
    const struct allocator *allocator;
    struct disk *disk;
};

static int create(struct locking *locking)
{
    struct disk_options options = {.size = SIZE,
                                   .allocator = locking->allocator,
                                   .mlock = true,
                                   .level = DISK_LEVEL_DEFAULT};
    return disk_create(&options, &locking->disk);
}

static void write_all(struct disk *disk)
{
    static uint8_t buf[256 << 10];
    memset(buf, 0x33, sizeof buf);
    for (uint64_t at = 0; at < SIZE; at += sizeof buf)
        MUST(disk_write(disk, at, sizeof buf, buf) == 0);
}

static void start_and_lock(void *argument)
{
    struct locking *locking = argument;
    uint64_t before = locked_memory();
    MUST(disk_start(locking->disk) == 0);
    MUST(locking->allocator != &allocator_malloc || locked_memory() >= before + SIZE);
    write_all(locking->disk);
    MUST(locked_memory() >= before + SIZE);
    disk_destroy(locking->disk);
}

static void create_and_go_to_the_background(void *argument)
{
    struct locking *locking = argument;
    uint64_t before = locked_memory();
    int status = -1;
    MUST(create(locking) == 0);
    MUST(locked_memory() == before);
    pid_t background = child_start(start_and_lock, locking);
    MUST(waitpid(background, &status, 0) == background && status == 0);
}

static bool may_lock(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
           (geteuid() == 0 || limit.rlim_cur >= 4 * SIZE);
}

static void locks_are_made_in_the_background(void **state)
{
    struct locking locking = {.allocator = allocator_of(state)};
    if (!resident_size_is_meaningful() || !may_lock())
        skip();
    child_run(create_and_go_to_the_background, &locking);
}

/* Without the right to lock, disk_create returns -EPERM, or disk_start at the latest. */
static void try_without_permission(void *argument)
{
    struct locking *locking = argument;
    const struct rlimit little = {.rlim_cur = 64 * KiB, .rlim_max = 64 * KiB};
    if (setrlimit(RLIMIT_MEMLOCK, &little) != 0)
        _exit(CHILD_SKIP);
    if (geteuid() == 0 && setuid(65534) != 0) /* root may lock whatever the limit is */
        _exit(CHILD_SKIP);
    int err = create(locking);
    if (err == 0) {
        err = disk_start(locking->disk);
        disk_destroy(locking->disk);
    }
    MUST(err == -EPERM);
}

static void not_permitted(void **state)
{
    struct locking locking = {.allocator = allocator_of(state)};
    if (!resident_size_is_meaningful())
        skip();
    child_run_or_skip(try_without_permission, &locking);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(locks_are_made_in_the_background, malloc),
        TEST_OF(locks_are_made_in_the_background, sparse),
        TEST_OF(not_permitted, malloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
