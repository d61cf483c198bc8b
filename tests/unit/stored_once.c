/* SPDX-License-Identifier: BSD-3-Clause */

/* A request stores its bytes in a page once.
 *
 * A request that makes a page fills a frame and swaps it in.  From then on other requests see the
 * page, and may write over it.  If the first one stored its bytes again, theirs would be gone,
 * after readers had seen them.  paged_count_hot is called after the swap: the linker puts a
 * function of ours in its place, in which another request reads and writes.
 */

#include "support/loan.h"
#include "support/support.h"

#include <string.h>

#include "disk/paged/paged.h"

enum { AT = 3 * (32 << 10), COUNT = 1000, FIRST = 0x11, SECOND = 0x22, BEFORE = 0x33 };

/* The other request.  Global, because the function that the engine calls has no argument for
 * it. */
static struct {
    struct disk *disk; /* NULL: it is done */
    uint64_t offset;
    size_t count;
    uint8_t saw[32 << 10];
    int err;
} other;

void __real_paged_count_hot(struct paged *paged, bool before, bool after);
void __wrap_paged_count_hot(struct paged *paged, bool before, bool after);
void __wrap_paged_count_hot(struct paged *paged, bool before, bool after)
{
    uint8_t bytes[sizeof other.saw];
    struct disk *disk = other.disk;
    __real_paged_count_hot(paged, before, after);
    if (disk == NULL)
        return;
    other.disk = NULL;
    memset(bytes, SECOND, sizeof bytes);
    other.err = disk_read(disk, other.offset, other.count, other.saw);
    if (other.err == 0)
        other.err = disk_write(disk, other.offset, other.count, bytes);
}

static bool all_are(const uint8_t *bytes, size_t count, uint8_t byte)
{
    return bytes[0] == byte && memcmp(bytes, bytes + 1, count - 1) == 0;
}

/* The requests that make the page. */

static int by_write(struct disk *disk, uint64_t offset, size_t count)
{
    uint8_t bytes[sizeof other.saw];
    memset(bytes, FIRST, count);
    return disk_write(disk, offset, count, bytes);
}

static int by_fill(struct disk *disk, uint64_t offset, size_t count)
{
    uint8_t bytes[sizeof other.saw];
    struct source source = {.from = bytes, .most = count};
    memset(bytes, FIRST, count);
    ssize_t r = loan_fill(disk, offset, count, &source);
    return r < 0 ? (int)r : r == (ssize_t)count ? 0 : -EPROTO;
}

static int by_zero(struct disk *disk, uint64_t offset, size_t count)
{
    return disk_zero(disk, offset, count, 0);
}

static int by_provide(struct disk *disk, uint64_t offset, size_t count)
{
    return disk_zero(disk, offset, count, DISK_NO_HOLE);
}

typedef int maker_fn(struct disk *disk, uint64_t offset, size_t count);

static void make_with_other(const struct allocator *allocator, bool packed, maker_fn *make,
                            size_t count)
{
    uint8_t found[sizeof other.saw];
    uint8_t first = make == by_write || make == by_fill ? FIRST : 0;
    struct disk *disk = disk_made(allocator, 1 * MiB, 0);
    if (packed) {
        memset(found, BEFORE, sizeof found);
        assert_int_equal(disk_write(disk, AT, sizeof found, found), 0);
        assert_int_equal(disk_settle(disk), 0);
        assert_int_equal(stats_of(disk).compressed, 1);
    }
    other.offset = AT;
    other.count = count;
    other.disk = disk;
    assert_int_equal(make(disk, AT, count), 0);
    assert_null(other.disk); /* the other request was made */
    assert_int_equal(other.err, 0);
    assert_true(all_are(other.saw, count, first));
    assert_int_equal(disk_read(disk, AT, count, found), 0);
    assert_true(all_are(found, count, SECOND));
    disk_end(disk);
}

/* Tests. */

static void over_a_hole(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    make_with_other(allocator, false, by_write, COUNT);
    make_with_other(allocator, false, by_fill, COUNT);
    make_with_other(allocator, false, by_fill, 4096);
    make_with_other(allocator, false, by_provide, COUNT);
}

static void over_a_packed_page(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    make_with_other(allocator, true, by_write, COUNT);
    make_with_other(allocator, true, by_fill, sizeof other.saw);
    make_with_other(allocator, true, by_provide, COUNT);
    make_with_other(allocator, true, by_zero, COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(over_a_hole, sparse),
        TEST_OF(over_a_hole, zstd),
        TEST_OF(over_a_packed_page, zstd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
