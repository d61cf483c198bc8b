/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/child.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include "support/folder.h"
#include "support/support.h"

pid_t child_start(void (*function)(void *), void *argument)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(HANG_SECONDS);
        function(argument);
        _exit(0);
    }
    return child;
}

int child_wait(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

void child_run(void (*function)(void *), void *argument)
{
    assert_int_equal(child_wait(child_start(function, argument)), 0);
}

void child_run_or_skip(void (*function)(void *), void *argument)
{
    int status = child_wait(child_start(function, argument));
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIP)
        skip();
    assert_int_equal(status, 0);
}

int child_enter_folder(void **state)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    alarm(HANG_SECONDS);
    return folder_enter(state);
}
