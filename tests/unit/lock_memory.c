/* SPDX-License-Identifier: BSD-3-Clause */

/* The memory of the program is locked, and that of the disk is not. */

#include "support/child.h"
#include "support/support.h"

#include <string.h>
#include <sys/mman.h>

#include "server/host/lock_memory.h"
#include "text/reason.h"

static void lock_program(void *argument)
{
    (void)argument;
    struct reason reason = {0};
    /* Sanitizers only pretend to lock. */
    if (mlock(&reason, sizeof reason) < 0 || locked_memory() == 0)
        _exit(CHILD_SKIP);
    const size_t size = (size_t)(256 * MiB);
    void *disk = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(disk != MAP_FAILED);
    int err = lock_memory_of_program(&reason);
    if (err) {
        MUST(strstr(reason.text, "--swap: cannot lock") && !strchr(reason.text, '\n'));
        MUST(err == -EPERM || err == -ENOMEM || err == -EAGAIN);
        _exit(CHILD_SKIP);
    }
    MUST(locked_memory() > 0);
    MUST(locked_memory() < size);
}

static void program_is_locked_and_the_disk_is_not(void **state)
{
    (void)state;
    child_run_or_skip(lock_program, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_is_locked_and_the_disk_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
