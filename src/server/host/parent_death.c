/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/host/parent_death.h"

#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

int parent_death_signal(int signal, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, signal) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

int parent_death_signal_now(void)
{
    int signal = 0;
    prctl(PR_GET_PDEATHSIG, &signal);
    return signal;
}
