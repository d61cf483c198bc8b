/* SPDX-License-Identifier: BSD-3-Clause */

/* mlock=true: memory locks are not inherited by fork, so disk_start has to lock, and disk_create
 * must not.  Each case runs in a child, so that it can go to the background, as nbdkit does, and
 * so that its locks end with it. */

#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (8 * MiB)

/* How a child ends: 0, or what went wrong. */
enum { FINE, NOT_CREATED, NOT_STARTED, NOT_LOCKED, LOCKED_TOO_EARLY, NOT_WRITTEN, NOT_REFUSED };
#define CANNOT_TELL 77

static uint64_t locked_size(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[200];
    unsigned long long kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmLck: %llu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib * KiB;
}

static struct disk *created(const struct allocator *allocator)
{
    struct disk_options options = {
        .size = SIZE, .allocator = allocator, .mlock = true, .level = DISK_LEVEL_DEFAULT};
    struct disk *disk = NULL;
    return disk_create(&options, &disk) == 0 ? disk : NULL;
}

static int write_all(struct disk *disk)
{
    static uint8_t buf[256 << 10];
    memset(buf, 0x33, sizeof buf);
    int err = 0;
    for (uint64_t at = 0; at < SIZE && err == 0; at += sizeof buf)
        err = disk_write(disk, at, sizeof buf, buf);
    return err;
}

static int start_and_lock(struct disk *disk, const struct allocator *allocator)
{
    uint64_t before = locked_size();
    if (disk_start(disk) != 0)
        return NOT_STARTED;
    if (allocator == &allocator_malloc && locked_size() < before + SIZE)
        return NOT_LOCKED;
    if (write_all(disk) != 0)
        return NOT_WRITTEN;
    if (locked_size() < before + SIZE)
        return NOT_LOCKED;
    disk_end(disk);
    return FINE;
}

static int result_of(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status))
        fail_msg("child ended with status 0x%x", (unsigned)status);
    return WEXITSTATUS(status);
}

static bool may_lock(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
           (geteuid() == 0 || limit.rlim_cur >= 4 * SIZE);
}

/* The disk is created in one process, and started in its child. */
static void locks_survive_the_background(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    if (!resident_size_is_meaningful() || !may_lock())
        skip();
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint64_t before = locked_size();
        struct disk *disk = created(allocator);
        if (disk == NULL)
            _exit(NOT_CREATED);
        if (locked_size() > before)
            _exit(LOCKED_TOO_EARLY);
        pid_t background = fork();
        if (background == 0)
            _exit(start_and_lock(disk, allocator));
        int status = 0;
        waitpid(background, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
    }
    assert_int_equal(result_of(child), FINE);
}

/* Without the right to lock, disk_create returns -EPERM, or disk_start at the latest. */
static int try_without_permission(const struct allocator *allocator)
{
    const struct rlimit little = {.rlim_cur = 64 * KiB, .rlim_max = 64 * KiB};
    if (setrlimit(RLIMIT_MEMLOCK, &little) != 0)
        return CANNOT_TELL;
    if (geteuid() == 0 && setuid(65534) != 0) /* root may lock whatever the limit is */
        return CANNOT_TELL;
    struct disk_options options = {
        .size = SIZE, .allocator = allocator, .mlock = true, .level = DISK_LEVEL_DEFAULT};
    struct disk *disk = NULL;
    int err = disk_create(&options, &disk);
    if (err != 0)
        return err == -EPERM ? FINE : NOT_CREATED;
    err = disk_start(disk);
    disk_end(disk);
    return err == -EPERM ? FINE : NOT_REFUSED;
}

static void not_permitted(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    if (!resident_size_is_meaningful())
        skip();
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(try_without_permission(allocator));
    int result = result_of(child);
    if (result == CANNOT_TELL)
        skip();
    assert_int_equal(result, FINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(locks_survive_the_background, malloc),
        TEST_OF(locks_survive_the_background, sparse),
        TEST_OF(not_permitted, malloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
