/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/loan_stage.h"

#include <stdlib.h>
#include <string.h>

void loan_stage_make(struct loan_stage *stage, const struct allocator *allocator)
{
    struct disk *probe = disk_made(allocator, 1, 0);
    *stage = (struct loan_stage){.allocator = allocator, .page = disk_page_size(probe)};
    disk_end(probe);
    stage->size = LOAN_STAGE_PAGES * stage->page + LOAN_STAGE_ODD;
    stage->disk = disk_made(allocator, stage->size, 0);
    stage->wanted = buffer_made(stage->size);
    stage->found = buffer_made(stage->size);
    stage->fresh = buffer_made(stage->size);
    stage->text = buffer_made(2 * stage->size);
    memset(stage->wanted, 0, stage->size);
    prng_init(&stage->prng, test_seed(), allocator_index(allocator));
    fill_text(&stage->prng, stage->text, 2 * stage->size);
}

void loan_stage_free(struct loan_stage *stage)
{
    disk_end(stage->disk);
    free(stage->wanted);
    free(stage->found);
    free(stage->fresh);
    free(stage->text);
}

void loan_stage_write_text(struct loan_stage *stage, size_t offset, size_t count)
{
    memcpy(stage->wanted + offset, stage->text + prng_below(&stage->prng, stage->size), count);
    assert_int_equal(disk_write(stage->disk, offset, count, stage->wanted + offset), 0);
}

void loan_stage_lay(struct loan_stage *stage, enum loan_ground ground)
{
    size_t step = ground == EVERY_OTHER_PAGE ? 2 : 1;
    if (stats_of(stage->disk).memory > 16 * MiB)
        assert_int_equal(disk_settle(stage->disk), 0);
    assert_int_equal(disk_trim(stage->disk, 0, stage->size), 0);
    memset(stage->wanted, 0, stage->size);
    for (size_t p = 0; ground != HOLES && p < LOAN_STAGE_PAGES; p += step)
        loan_stage_write_text(stage, p * stage->page, stage->page);
    if (ground == PACKED)
        assert_int_equal(disk_settle(stage->disk), 0);
}

void loan_stage_check(struct loan_stage *stage, const char *when)
{
    for (int lent = 0; lent < 2; lent++) {
        int err = lent ? loan_read(stage->disk, 0, stage->size, stage->found)
                       : disk_read(stage->disk, 0, stage->size, stage->found);
        assert_int_equal(err, 0);
        bool same = memcmp(stage->found, stage->wanted, stage->size) == 0;
        for (size_t i = 0; !same && i < stage->size; i++)
            if (stage->found[i] != stage->wanted[i])
                fail_msg("%s: byte %zu of page %zu is %02x, not %02x", when, i % stage->page,
                         i / stage->page, stage->found[i], stage->wanted[i]);
    }
}

ssize_t loan_stage_fill(struct loan_stage *stage, size_t offset, size_t count,
                        struct source *source)
{
    source->from = stage->fresh;
    ssize_t r = loan_fill(stage->disk, offset, count, source);
    if (source->wrong)
        fail_msg("fill of %zu+%zu: %s", offset, count, source->wrong);
    if (r > 0)
        memcpy(stage->wanted + offset, stage->fresh, (size_t)r);
    return r;
}
