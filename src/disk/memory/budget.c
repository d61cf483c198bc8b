/* SPDX-License-Identifier: BSD-3-Clause */

/* To ask the machine, half a dozen files are read.  This takes some 50 microseconds, too long for
 * each chunk of 2 MiB.  So after an answer of R bytes the next R/16 are taken without asking
 * (credit): the closer the end, the more often the machine is asked.  Other processes may take
 * memory in between; the reserve is for that.
 *
 * Asking needs a descriptor, and clients of a server can use up all of them.  Then the machine's
 * last answer is used, less what the disk has taken since.
 */

#include "disk/memory/budget.h"

#include <errno.h>
#include <inttypes.h>

#include "os/machine.h"
#include "text/reason.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t clamp(uint64_t n, uint64_t low, uint64_t high)
{
    return n < low ? low : n > high ? high : n;
}

/* Bytes that are available and not part of the reserve. */
static uint64_t beyond_reserve(const struct budget *budget, const struct os_memory_room *room)
{
    return room->available > budget->reserve ? room->available - budget->reserve : 0;
}

int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root)
{
    struct os_memory_room room;
    atomic_init(&budget->used, 0);
    atomic_init(&budget->credit, 0);
    budget->limit = limit;
    budget->root = root;
    budget->reserve = 0;
    budget->ceiling = limit ? limit : INT64_MAX;
    atomic_init(&budget->known, INT64_MAX);
    int r = limit ? 0 : os_memory_room(root, &room);
    if (limit == 0 && r == 0) {
        budget->reserve = clamp(room.total / 16, 32 * MIB, 1024 * MIB);
        budget->ceiling = room.total + room.swap;
        atomic_init(&budget->known, beyond_reserve(budget, &room));
    }
    budget->keepback = !keepback ? 0 : limit ? limit / 8 : budget->reserve / 4;
    return r == -ENOENT ? 0 : r;
}

/* Bytes that the machine can give beyond the reserve: without bound if it has no files to ask. */
static uint64_t machine_room(struct budget *budget)
{
    struct os_memory_room room;
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    int r = os_memory_room(budget->root, &room);
    if (r == -ENOENT)
        return INT64_MAX;
    if (r < 0) {
        uint64_t known = atomic_load_explicit(&budget->known, memory_order_relaxed);
        return known > used ? known - used : 0;
    }
    uint64_t left = beyond_reserve(budget, &room);
    atomic_store_explicit(&budget->known, left + used, memory_order_relaxed);
    return left;
}

static int take_from_limit(struct budget *budget, uint64_t n, uint64_t keepback)
{
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    do {
        if (used > budget->limit - keepback || n > budget->limit - keepback - used)
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used, &used, used + n,
                                                    memory_order_relaxed, memory_order_relaxed));
    return 0;
}

static int take_from_machine(struct budget *budget, uint64_t n, uint64_t keepback)
{
    int64_t wanted = (int64_t)n;
    if (atomic_fetch_sub_explicit(&budget->credit, wanted, memory_order_relaxed) <= wanted) {
        uint64_t room = machine_room(budget);
        bool fits = room >= keepback && room - keepback >= n;
        int64_t credit = fits ? (int64_t)((room - keepback - n) / 16) : 0;
        atomic_store_explicit(&budget->credit, credit, memory_order_relaxed);
        if (!fits)
            return -ENOSPC;
    }
    atomic_fetch_add_explicit(&budget->used, n, memory_order_relaxed);
    return 0;
}

/* Bytes of the keepback that are not for this purpose. */
static uint64_t keepback_from(const struct budget *budget, enum budget_purpose purpose)
{
    static const unsigned quarters[] = {
        [BUDGET_GROW] = 4, [BUDGET_INFLATE] = 2, [BUDGET_PACK] = 0};
    return budget->keepback / 4 * quarters[purpose];
}

int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose)
{
    uint64_t keepback = keepback_from(budget, purpose);
    return budget->limit ? take_from_limit(budget, n, keepback)
                         : take_from_machine(budget, n, keepback);
}

/* Taking 0 bytes fails if bytes that are kept back from this purpose are in use. */
bool budget_allows(struct budget *budget, enum budget_purpose purpose)
{
    return budget->keepback == 0 || budget_take(budget, 0, purpose) == 0;
}

void budget_give(struct budget *budget, uint64_t n)
{
    atomic_fetch_sub_explicit(&budget->used, n, memory_order_relaxed);
}

uint64_t budget_total(struct budget *budget)
{
    if (budget->limit)
        return budget->limit;
    uint64_t room = machine_room(budget);
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    return room < UINT64_MAX - used ? room + used : UINT64_MAX;
}

uint64_t budget_ceiling(const struct budget *budget)
{
    struct os_memory_room room;
    uint64_t limit = budget->limit ? budget->limit : INT64_MAX;
    if (os_memory_room(budget->root, &room) < 0)
        return budget->ceiling;
    return room.total + room.swap < limit ? room.total + room.swap : limit;
}

int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason)
{
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
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
