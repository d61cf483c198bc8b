/* SPDX-License-Identifier: BSD-3-Clause */

#include "shadow.h"

#include <inttypes.h>
#include <string.h>

#include "demand.h"
#include "disk/disk.h"

#define PAGE ((size_t)32 << 10) /* whole pages of every allocator */
#define PAGES (SHADOW_SIZE_MAX / PAGE + 1)

static uint8_t held[PAGES * PAGE];
static bool unsure[PAGES * PAGE];
static bool changed[PAGES];
static size_t changed_end; /* index of the first page after all that were changed */

/* How many bytes of a range are in its first page. */
static size_t in_page(uint64_t offset, size_t count)
{
    size_t left = PAGE - (size_t)(offset % PAGE);
    return left < count ? left : count;
}

static void change(uint64_t offset, size_t count)
{
    if (count == 0)
        return;
    size_t end = (size_t)((offset + count - 1) / PAGE) + 1;
    for (size_t page = (size_t)(offset / PAGE); page < end; page++)
        changed[page] = true;
    changed_end = end > changed_end ? end : changed_end;
}

/* Find the next run of changed pages, as a range of bytes.  False: there are no more. */
static bool next_run(struct disk *disk, uint64_t *offset, size_t *count)
{
    size_t page = (size_t)((*offset + PAGE - 1) / PAGE), end;
    while (page < changed_end && !changed[page])
        page++;
    for (end = page; end < changed_end && changed[end]; end++)
        continue;
    if (page == end)
        return false;
    *offset = (uint64_t)page * PAGE;
    uint64_t left = disk_size(disk) - *offset;
    *count = left < (end - page) * PAGE ? (size_t)left : (end - page) * PAGE;
    return true;
}

static bool differs_at(uint64_t offset, uint8_t byte)
{
    return held[offset] != byte && !unsure[offset];
}

/* Does what memcmp does, which the fuzzer would watch: it would learn only what it wrote
 * itself. */
static bool is_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t differs = 0;
    for (size_t i = 0; i < n; i++)
        differs |= a[i] ^ b[i];
    return differs == 0;
}

size_t shadow_differs(uint64_t offset, const uint8_t *bytes, size_t count)
{
    static const uint8_t zeroes[PAGE];
    if (count && differs_at(offset, bytes ? *bytes : 0))
        return 0; /* this is asked byte by byte where many differ */
    for (size_t at = 0, n; at < count; at += n) {
        n = in_page(offset + at, count - at);
        const uint8_t *there = bytes ? bytes + at : zeroes;
        if (!bytes && !changed[(offset + at) / PAGE])
            continue;
        if (is_equal(held + offset + at, there, n))
            continue;
        for (size_t i = 0; i < n; i++)
            if (differs_at(offset + at + i, there[i]))
                return at + i;
    }
    return count;
}

/* Compare everything that was changed with the disk.  False: *wrong is a byte that differs. */
static bool is_as_held(struct disk *disk, uint64_t *wrong)
{
    static uint8_t page[PAGE];
    uint64_t offset = 0;
    size_t count;
    for (; next_run(disk, &offset, &count); offset += count) {
        for (size_t at = 0; at < count; at += PAGE) {
            size_t n = count - at < PAGE ? count - at : PAGE;
            int r = disk_read(disk, offset + at, n, page);
            DEMAND(r == 0, "read at %" PRIu64 ": %d", offset + at, r);
            *wrong = offset + at + shadow_differs(offset + at, page, n);
            if (*wrong < offset + at + n)
                return false;
        }
    }
    return true;
}

bool shadow_reset(struct disk *disk)
{
    uint64_t offset = 0, wrong;
    size_t count;
    for (; next_run(disk, &offset, &count); offset += count) {
        memset(held + offset, 0, count);
        memset(unsure + offset, 0, count);
        int r = disk_trim(disk, offset, count);
        DEMAND(r == 0, "trim: %d", r);
    }
    bool good = is_as_held(disk, &wrong);
    memset(changed, 0, changed_end * sizeof *changed);
    changed_end = 0;
    return good;
}

void shadow_write(uint64_t offset, const uint8_t *bytes, size_t count)
{
    if (count == 0)
        return;
    change(offset, count);
    memcpy(held + offset, bytes, count);
    memset(unsure + offset, 0, count);
}

void shadow_zero(uint64_t offset, size_t count)
{
    for (size_t at = 0, n; at < count; at += n) {
        n = in_page(offset + at, count - at);
        if (!changed[(offset + at) / PAGE])
            continue;
        memset(held + offset + at, 0, n);
        memset(unsure + offset + at, 0, n);
    }
}

void shadow_doubt(uint64_t offset, size_t count)
{
    if (count == 0)
        return;
    change(offset, count);
    memset(unsure + offset, true, count);
}

/* A byte that is zero stays zero. */
void shadow_doubt_zero(uint64_t offset, size_t count)
{
    for (size_t at = 0, n; at < count; at += n) {
        n = in_page(offset + at, count - at);
        for (size_t i = at; changed[(offset + at) / PAGE] && i < at + n; i++)
            unsure[offset + i] = unsure[offset + i] || held[offset + i];
    }
}

void shadow_check(struct disk *disk)
{
    uint64_t wrong;
    DEMAND(is_as_held(disk, &wrong), "byte %" PRIu64 " is lost", wrong);
}
