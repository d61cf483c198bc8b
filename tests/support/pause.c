/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/pause.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "support/support.h"

/* The signal handler has to find the pause that was touched, and the handler that was there
 * before: it has no argument but these. */
static _Atomic(struct pause *) pauses[PAUSES_MAX];
static struct sigaction before;

static size_t open_size(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return page > PAUSE_OPEN ? page : PAUSE_OPEN;
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void pause_here(uint64_t us)
{
    uint64_t end = now_us() + us;
    while (now_us() < end)
        sched_yield();
}

void pause_turn(void)
{
    pause_here(40000);
}

/* The border is read first: after a test has failed this thread may still be here while another
 * test uses the same pause again. */
static void wait_and_open(struct pause *pause)
{
    uint8_t *border = pause->border;
    atomic_store(&pause->reached, true);
    uint64_t end = now_us() + pause->patience_us;
    while (!atomic_load(&pause->released) && now_us() < end)
        sched_yield();
    mprotect(border, PAUSE_SHUT, PROT_READ | PROT_WRITE);
}

/* The signal comes from the instruction that touched the buffer, so the handler may do what the
 * code there may do.  Any other fault goes to the handler that was there before. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    int saved = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    for (int i = 0; i < PAUSES_MAX; i++) {
        struct pause *pause = atomic_load(&pauses[i]);
        if (pause != NULL && at >= (uintptr_t)pause->border &&
            at < (uintptr_t)pause->border + PAUSE_SHUT) {
            wait_and_open(pause);
            errno = saved;
            return;
        }
    }
    sigaction(SIGSEGV, &before, NULL);
}

/* cmocka handles this signal, too, and installs its handler again for each test. */
static void handle_faults(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    struct sigaction replaced;
    assert_int_equal(sigaction(SIGSEGV, &action, &replaced), 0);
    if (!(replaced.sa_flags & SA_SIGINFO) || replaced.sa_sigaction != on_fault)
        before = replaced;
}

void pause_make(struct pause *pause)
{
    handle_faults();
    uint8_t *base = mmap(NULL, open_size() + PAUSE_SHUT, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    pause->border = base + open_size();
    pause->patience_us = 0;
    atomic_init(&pause->reached, false);
    atomic_init(&pause->released, true);
    int i = 0;
    while (i < PAUSES_MAX && atomic_load(&pauses[i]) != NULL)
        i++;
    assert_true(i < PAUSES_MAX);
    atomic_store(&pauses[i], pause);
}

void pause_free(struct pause *pause)
{
    for (int i = 0; i < PAUSES_MAX; i++)
        if (atomic_load(&pauses[i]) == pause)
            atomic_store(&pauses[i], NULL);
    munmap(pause->border - open_size(), open_size() + PAUSE_SHUT);
}

void pause_arm(struct pause *pause, uint64_t patience_us)
{
    pause->patience_us = patience_us;
    atomic_store(&pause->reached, false);
    atomic_store(&pause->released, false);
    mprotect(pause->border, PAUSE_SHUT, PROT_NONE);
}

void pause_disarm(struct pause *pause)
{
    mprotect(pause->border, PAUSE_SHUT, PROT_READ | PROT_WRITE);
}

bool pause_is_reached(struct pause *pause)
{
    return atomic_load(&pause->reached);
}

void pause_release(struct pause *pause)
{
    atomic_store(&pause->released, true);
}
