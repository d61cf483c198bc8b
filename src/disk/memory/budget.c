/* SPDX-License-Identifier: BSD-3-Clause */

/* Without a limit, the budget asks the machine how much memory it can give (os_memory_room).  The
 * budget keeps two numbers that follow from the machine's last answer.  budget_take compares and
 * changes them without a lock:
 *
 *     total     the most bytes that the disk may have.  It is the bytes that the disk had taken
 *               when the machine was asked, plus the bytes that the machine could give then, less
 *               the reserve.
 *     credit    the bytes that the disk may take before the machine is asked again.  It is 1/16
 *               of the bytes that are left of total, because other processes take memory, too.
 *               Until the next answer, they can use up the reserve.  If the machine has little
 *               memory left, the credit is small, and the machine is asked often.
 *
 *     THE THREAD ASKS                              BECAUSE
 *     when half of the credit is used              a steady writer must not run out of credit
 *     100 ms after an answer, if credit was used   the answer is old
 *     when credit is used after a pause            the answer is as old as the pause
 *     when budget_refresh is called                a request found too little credit
 *
 * While the machine is being asked, other threads use up credit.  So the asking thread does not
 * overwrite the credit.  It notes the credit before it asks, computes the credit that the answer
 * allows, and adds the difference of the two.
 *
 * To ask the machine, the budget must open files, but the clients of a server can use up all
 * descriptors of the process.  If no descriptor is left, total stays as it is, and a new credit
 * is computed from total and from the bytes that are taken now.
 */

#include "disk/memory/budget.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "os/machine.h"
#include "os/thread.h"
#include "text/reason.h"

#define MIB ((uint64_t)1 << 20)
#define STALE_NANOSECONDS (100L * 1000 * 1000)

static uint64_t clamp(uint64_t n, uint64_t low, uint64_t high)
{
    return n < low ? low : n > high ? high : n;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Asking the machine how much memory it can give. */

/* The bytes that the machine can give while the reserve stays free. */
static uint64_t beyond_reserve(const struct budget *budget, const struct os_memory_room *room)
{
    return room->available > budget->reserve ? room->available - budget->reserve : 0;
}

/* Ask the machine how much memory it can give, and store the answer in total and ceiling.  If
 * there is no answer, total and ceiling stay as they are.  Returns 0, or an error of
 * os_memory_room.  The error -ENOENT counts as success: a machine without /proc/meminfo cannot be
 * asked. */
static int note_answer(struct budget *budget)
{
    struct os_memory_room room;
    uint64_t before = atomic_load_explicit(&budget->used, memory_order_relaxed);
    int r = os_memory_room(budget->root, &room);
    uint64_t after = atomic_load_explicit(&budget->used, memory_order_relaxed);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    uint64_t total = beyond_reserve(budget, &room) + least(before, after);
    atomic_store_explicit(&budget->total, total, memory_order_relaxed);
    atomic_store_explicit(&budget->ceiling, room.total + room.swap, memory_order_relaxed);
    return 0;
}

/* The credit that follows from the machine's last answer and from the bytes that are taken
 * now. */
static int64_t credit_due(const struct budget *budget)
{
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&budget->total, memory_order_relaxed);
    uint64_t room = total > used ? total - used : 0;
    return (int64_t)clamp(room / 16, least(room, BUDGET_PIECE_MAX), INT64_MAX);
}

static void ask(struct budget *budget)
{
    pthread_mutex_lock(&budget->asking);
    int64_t before = atomic_load_explicit(&budget->credit, memory_order_relaxed);
    note_answer(budget);
    int64_t due = credit_due(budget);
    atomic_fetch_add_explicit(&budget->credit, due - before, memory_order_relaxed);
    atomic_store_explicit(&budget->low, due / 2, memory_order_relaxed);
    pthread_mutex_unlock(&budget->asking);
}

/* The thread that asks the machine. */

/* This function must be quick, because callers of budget_take can hold locks. */
static void wake_thread(struct budget *budget)
{
    if (atomic_exchange_explicit(&budget->woken, true, memory_order_relaxed))
        return;
    pthread_mutex_lock(&budget->lock);
    pthread_cond_signal(&budget->wake);
    pthread_mutex_unlock(&budget->lock);
}

/* Wait until the machine has to be asked again: until a request wakes the thread, or until the
 * machine's last answer is old and some of the credit was used since.  If none of the credit was
 * used, the age of the answer does not matter.  Then set `low` so that the next budget_take wakes
 * the thread, and wait for that. */
static void wait_for_reason_locked(struct budget *budget)
{
    struct timespec until;
    int64_t credit = atomic_load_explicit(&budget->credit, memory_order_relaxed);
    int r = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += STALE_NANOSECONDS;
    until.tv_sec += until.tv_nsec / (1000L * 1000 * 1000);
    until.tv_nsec %= 1000L * 1000 * 1000;
    while (r == 0 && !budget->stop && !atomic_load_explicit(&budget->woken, memory_order_relaxed))
        r = pthread_cond_timedwait(&budget->wake, &budget->lock, &until);
    if (r == 0 || credit != atomic_load_explicit(&budget->credit, memory_order_relaxed))
        return;
    atomic_store_explicit(&budget->low, INT64_MAX, memory_order_relaxed);
    while (!budget->stop && !atomic_load_explicit(&budget->woken, memory_order_relaxed))
        pthread_cond_wait(&budget->wake, &budget->lock);
}

static void *budget_thread(void *arg)
{
    struct budget *budget = arg;
    pthread_mutex_lock(&budget->lock);
    for (;;) {
        wait_for_reason_locked(budget);
        if (budget->stop)
            break;
        budget->begun++;
        atomic_store_explicit(&budget->woken, false, memory_order_relaxed);
        pthread_mutex_unlock(&budget->lock);
        ask(budget);
        pthread_mutex_lock(&budget->lock);
        budget->ended++;
        pthread_cond_broadcast(&budget->answered);
    }
    pthread_mutex_unlock(&budget->lock);
    return NULL;
}

void budget_refresh(struct budget *budget)
{
    if (budget->limit)
        return;
    pthread_mutex_lock(&budget->lock);
    bool started = budget->started;
    if (started) {
        uint64_t wanted = budget->begun + 1;
        atomic_store_explicit(&budget->woken, true, memory_order_relaxed);
        pthread_cond_signal(&budget->wake);
        while (budget->ended < wanted)
            pthread_cond_wait(&budget->answered, &budget->lock);
    }
    pthread_mutex_unlock(&budget->lock);
    if (!started)
        ask(budget);
}

/* Making, starting and destroying. */

static void init_locks(struct budget *budget)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&budget->asking, NULL);
    pthread_mutex_init(&budget->lock, NULL);
    pthread_cond_init(&budget->wake, &monotonic);
    pthread_cond_init(&budget->answered, NULL);
    pthread_condattr_destroy(&monotonic);
}

/* Ask the machine how much memory it has, and set the reserve, total and ceiling.  The reserve
 * depends on the size of the machine's memory, and total depends on the reserve. */
static int init_from_machine(struct budget *budget)
{
    struct os_memory_room room;
    int r = os_memory_room(budget->root, &room);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    budget->reserve = clamp(room.total / 16, 32 * MIB, 1024 * MIB);
    atomic_init(&budget->total, beyond_reserve(budget, &room));
    atomic_init(&budget->ceiling, room.total + room.swap);
    return 0;
}

/* The ceiling is the limit or the machine's memory and swap, whichever is lower. */
static void init_with_limit(struct budget *budget)
{
    struct os_memory_room room;
    atomic_init(&budget->total, budget->limit);
    if (os_memory_room(budget->root, &room) == 0)
        atomic_init(&budget->ceiling, least(budget->limit, room.total + room.swap));
    else
        atomic_init(&budget->ceiling, budget->limit);
}

int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root)
{
    int r = 0;
    *budget = (struct budget){.limit = limit, .root = root};
    atomic_init(&budget->total, INT64_MAX);
    atomic_init(&budget->ceiling, INT64_MAX);
    if (limit)
        init_with_limit(budget);
    else
        r = init_from_machine(budget);
    if (r < 0)
        return r;
    atomic_init(&budget->credit, credit_due(budget));
    /* The first budget_take wakes the thread, because the answer can be old by then. */
    atomic_init(&budget->low, INT64_MAX);
    budget->keepback = !keepback ? 0 : limit ? limit / 8 : budget->reserve / 4;
    init_locks(budget);
    return 0;
}

int budget_start(struct budget *budget)
{
    if (budget->limit)
        return 0;
    int r = os_thread_start(&budget->thread, budget_thread, budget);
    budget->started = r == 0;
    return r;
}

void budget_destroy(struct budget *budget)
{
    assert(budget_overhead(budget) == 0);
    if (budget->started) {
        pthread_mutex_lock(&budget->lock);
        budget->stop = true;
        pthread_cond_signal(&budget->wake);
        pthread_mutex_unlock(&budget->lock);
        pthread_join(budget->thread, NULL);
    }
    pthread_cond_destroy(&budget->wake);
    pthread_cond_destroy(&budget->answered);
    pthread_mutex_destroy(&budget->lock);
    pthread_mutex_destroy(&budget->asking);
}

/* Taking and giving back. */

/* How many bytes of the keepback must stay free when memory is taken for this purpose. */
static uint64_t keepback_from(const struct budget *budget, enum budget_purpose purpose)
{
    static const unsigned quarters[] = {
        [BUDGET_GROW] = 4, [BUDGET_INFLATE] = 2, [BUDGET_PACK] = 0};
    return budget->keepback / 4 * quarters[purpose];
}

/* The most bytes that the disk may have after memory is taken for this purpose. */
static uint64_t total_for(const struct budget *budget, enum budget_purpose purpose)
{
    uint64_t total = budget_total(budget), keepback = keepback_from(budget, purpose);
    return total > keepback ? total - keepback : 0;
}

static int take_from_total(struct budget *budget, uint64_t n, enum budget_purpose purpose)
{
    uint64_t total = total_for(budget, purpose);
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    do {
        if (used > total || n > total - used)
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used, &used, used + n,
                                                    memory_order_relaxed, memory_order_relaxed));
    return 0;
}

static int take_from_credit(struct budget *budget, uint64_t n)
{
    int64_t wanted = (int64_t)least(n, INT64_MAX);
    int64_t credit = atomic_load_explicit(&budget->credit, memory_order_relaxed);
    bool enough;
    do
        enough = credit >= wanted;
    while (enough &&
           !atomic_compare_exchange_weak_explicit(&budget->credit, &credit, credit - wanted,
                                                  memory_order_relaxed, memory_order_relaxed));
    if (!enough || credit - wanted < atomic_load_explicit(&budget->low, memory_order_relaxed))
        wake_thread(budget);
    return enough ? 0 : -EAGAIN;
}

int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose)
{
    int r = take_from_total(budget, n, purpose);
    if (r < 0 || budget->limit)
        return r;
    r = take_from_credit(budget, n);
    if (r < 0)
        budget_give(budget, n);
    return r;
}

int budget_take_at_once(struct budget *budget, uint64_t n, enum budget_purpose purpose)
{
    budget_refresh(budget);
    return take_from_total(budget, n, purpose);
}

void budget_give(struct budget *budget, uint64_t n)
{
    atomic_fetch_sub_explicit(&budget->used, n, memory_order_relaxed);
}

/* Overhead. */

int budget_take_overhead(struct budget *budget, uint64_t n, enum budget_purpose purpose)
{
    int r = budget_take(budget, n, purpose);
    if (r == 0)
        atomic_fetch_add_explicit(&budget->overhead, n, memory_order_relaxed);
    return r;
}

void budget_give_overhead(struct budget *budget, uint64_t n)
{
    atomic_fetch_sub_explicit(&budget->overhead, n, memory_order_relaxed);
    budget_give(budget, n);
}

void budget_charge(struct budget *budget, uint64_t n)
{
    atomic_fetch_add_explicit(&budget->used, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&budget->overhead, n, memory_order_relaxed);
    if (budget->limit)
        return;
    int64_t credit = atomic_fetch_sub_explicit(&budget->credit, (int64_t)n, memory_order_relaxed);
    if (credit - (int64_t)n < atomic_load_explicit(&budget->low, memory_order_relaxed))
        wake_thread(budget);
}

uint64_t budget_overhead(const struct budget *budget)
{
    return atomic_load_explicit(&budget->overhead, memory_order_relaxed);
}

/* What is left. */

bool budget_allows(const struct budget *budget, enum budget_purpose purpose)
{
    return budget->keepback == 0 || atomic_load_explicit(&budget->used, memory_order_relaxed) <=
                                        total_for(budget, purpose);
}

uint64_t budget_total(const struct budget *budget)
{
    return atomic_load_explicit(&budget->total, memory_order_relaxed);
}

uint64_t budget_ceiling(const struct budget *budget)
{
    return atomic_load_explicit(&budget->ceiling, memory_order_relaxed);
}

int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason)
{
    uint64_t used =
        atomic_load_explicit(&budget->used, memory_order_relaxed) - budget_overhead(budget);
    if (used != charged)
        return reason_set(reason, -EUCLEAN,
                          "budget: %" PRIu64 " bytes count as taken, and %" PRIu64 " are", used,
                          charged);
    if (budget->limit && used > budget->limit)
        return reason_set(reason, -EUCLEAN,
                          "budget: %" PRIu64 " bytes are taken, the limit is %" PRIu64, used,
                          budget->limit);
    return 0;
}
