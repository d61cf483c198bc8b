/* SPDX-License-Identifier: BSD-3-Clause */

/* Memory fails at each place where it can fail, one after the other.
 *
 * The linker puts the functions below in place of those that give memory (and threads) to the
 * disk.  A scenario is run again and again.  In run N the Nth request for memory fails, until a
 * run makes fewer than N requests.  Whichever fails,
 *
 *   - a call returns an error that it may return, and calls that must not fail do not;
 *   - what was acknowledged before is there; in the range of a refused call, and only there, each
 *     byte is old or new;
 *   - a form that never waits returns no other error than -EAGAIN, and has done exactly the part
 *     that it says;
 *   - the disk goes on, and nothing leaks (the address sanitizer reports leaks at the end).
 *
 * Then the same with all requests after the Nth failing, too, for a while: when memory comes
 * back, writes succeed again.
 *
 * The disk's own threads ask for memory as well, so the Nth request is not always the same one;
 * over the runs each of them fails.
 */

#include "support/loan.h"
#include "support/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* The faults. */

/* Which requests fail.  Global, because the functions below have no argument for it. */
static atomic_bool armed;
static atomic_bool lasting; /* the Nth and all later ones fail */
static _Atomic uint64_t requests, failures, nth;

static bool must_fail(void)
{
    if (!atomic_load(&armed))
        return false;
    uint64_t number = 1 + atomic_fetch_add(&requests, 1), n = atomic_load(&nth);
    if (number != n && !(atomic_load(&lasting) && number > n))
        return false;
    atomic_fetch_add(&failures, 1);
    return true;
}

#define WRAP(type, function, parameters, arguments, failure)                                     \
    type __real_##function parameters;                                                           \
    type __wrap_##function parameters;                                                           \
    type __wrap_##function parameters                                                            \
    {                                                                                            \
        if (must_fail())                                                                         \
            return failure;                                                                      \
        return __real_##function arguments;                                                      \
    }

#define NOTHING (errno = ENOMEM, NULL)
typedef void *thread_main(void *);

WRAP(void *, malloc, (size_t size), (size), NOTHING)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), NOTHING)
WRAP(void *, realloc, (void *old, size_t size), (old, size), NOTHING)
WRAP(void *, aligned_alloc, (size_t align, size_t size), (align, size), NOTHING)
WRAP(int, posix_memalign, (void **p, size_t align, size_t size), (p, align, size), ENOMEM)
WRAP(int, os_memory_commit, (void *base, size_t length), (base, length), -ENOMEM)
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, thread_main *body, void *argument),
     (thread, attributes, body, argument), EAGAIN)

/* libzstd calls malloc by itself, where the linker cannot reach it. */
WRAP(ZSTD_CCtx *, ZSTD_createCCtx, (void), (), NULL)
WRAP(ZSTD_DCtx *, ZSTD_createDCtx, (void), (), NULL)

static void arm(uint64_t n, bool all_following)
{
    atomic_store(&requests, 0);
    atomic_store(&failures, 0);
    atomic_store(&nth, n);
    atomic_store(&lasting, all_following);
    atomic_store(&armed, true);
}

/* The disk, and what it has to hold in some regions, near each other and far apart. */

enum { REGIONS = 40 };
#define DENSE ((size_t)768 << 10) /* of region 0 */
#define SPARSE ((size_t)40 << 10) /* of the other regions */

/* Far more than the scenario needs.  A low limit makes the disk ask for small pieces. */
#define LIMIT (8 * MiB)

struct region {
    uint64_t offset;
    size_t size;
    uint8_t *bytes;
};

struct scene {
    const struct allocator *allocator;
    struct disk *disk;
    unsigned region_count;
    struct region regions[REGIONS];
    uint8_t *fresh, *found;
    struct prng prng;
    uint64_t run;
    unsigned refused;
    unsigned put_off; /* calls of forms that never wait, and that had to */
    unsigned step;    /* the number of the call, for messages */
};

static void scene_make(struct scene *scene, const struct allocator *allocator)
{
    memset(scene, 0, sizeof *scene);
    scene->allocator = allocator;
    scene->region_count = allocator == &allocator_malloc ? 1 : REGIONS;
    for (unsigned i = 0; i < scene->region_count; i++) {
        struct region *region = &scene->regions[i];
        region->size = i == 0 ? DENSE : SPARSE;
        region->offset = i == 0 ? 0 : ((uint64_t)i << 20) + ((uint64_t)i * i * i << 40);
        region->bytes = malloc(region->size);
        assert_non_null(region->bytes);
    }
    scene->fresh = malloc(DENSE);
    scene->found = malloc(DENSE);
    assert_non_null(scene->fresh);
    assert_non_null(scene->found);
}

static void scene_free(struct scene *scene)
{
    for (unsigned i = 0; i < scene->region_count; i++)
        free(scene->regions[i].bytes);
    free(scene->fresh);
    free(scene->found);
}

static void complain(struct scene *scene, const char *what, int err)
{
    atomic_store(&armed, false);
    fail_msg("%s, request %" PRIu64 "%s fails, call %u: %s (%d)", scene->allocator->name,
             scene->run, atomic_load(&lasting) ? " and all after it" : "", scene->step, what,
             err);
}

static bool is_no_memory(int err)
{
    return err == -ENOMEM || err == -ENOSPC;
}

/* Each byte of the range has to be the old or the new one; remember which. */
static void adopt(struct scene *scene, struct region *region, size_t at, size_t count)
{
    bool was_armed = atomic_exchange(&armed, false);
    int err = disk_read(scene->disk, region->offset + at, count, scene->found);
    if (err != 0)
        complain(scene, "a read fails though memory is back", err);
    for (size_t i = 0; i < count; i++)
        if (scene->found[i] != region->bytes[at + i] && scene->found[i] != scene->fresh[i])
            complain(scene, "a refused call left a byte neither old nor new", 0);
    memcpy(region->bytes + at, scene->found, count);
    atomic_store(&armed, was_armed);
}

/* Judge a call that had to put `fresh` there.  A trim without memory may leave parts of pages as
 * they were, but does not fail. */
static void outcome(struct scene *scene, struct region *region, size_t at, size_t count, int err,
                    bool is_trim)
{
    scene->step++;
    if (err == 0 && !(is_trim && atomic_load(&failures) > 0)) {
        memcpy(region->bytes + at, scene->fresh, count);
        return;
    }
    if (err != 0 && (is_trim || scene->allocator == &allocator_malloc))
        complain(scene, "a call fails that never must", err);
    if (err != 0 && !is_no_memory(err))
        complain(scene, "a call fails with a strange error", err);
    if (err != 0 && atomic_load(&failures) == 0)
        complain(scene, "a call fails with no cause", err);
    scene->refused += err != 0;
    adopt(scene, region, at, count);
}

enum content { RANDOM, TEXT, ZEROES };

static void make_content(struct scene *scene, size_t count, enum content content)
{
    if (content == RANDOM)
        fill_random(&scene->prng, scene->fresh, count);
    else if (content == TEXT)
        fill_text(&scene->prng, scene->fresh, count);
    else
        memset(scene->fresh, 0, count);
}

static void do_write(struct scene *scene, unsigned r, size_t at, size_t count,
                     enum content content)
{
    struct region *region = &scene->regions[r];
    make_content(scene, count, content);
    int err = disk_write(scene->disk, region->offset + at, count, scene->fresh);
    outcome(scene, region, at, count, err, false);
}

/* By loans. */
static void do_fill(struct scene *scene, unsigned r, size_t at, size_t count,
                    enum content content)
{
    struct region *region = &scene->regions[r];
    make_content(scene, count, content);
    int err = loan_write(scene->disk, region->offset + at, count, scene->fresh, &scene->prng);
    outcome(scene, region, at, count, err, false);
}

static void do_zero(struct scene *scene, unsigned r, size_t at, size_t count, unsigned flags)
{
    struct region *region = &scene->regions[r];
    memset(scene->fresh, 0, count);
    int err = disk_zero(scene->disk, region->offset + at, count, flags);
    outcome(scene, region, at, count, err, false);
}

/* Judge a form that never waits, which had to put `fresh` there.  Returns how much is left. */
static size_t outcome_of_try(struct scene *scene, struct region *region, size_t at, size_t count,
                             int err, uint64_t done)
{
    bool was_armed = atomic_exchange(&armed, false);
    scene->step++;
    if (err != 0 && err != -EAGAIN)
        complain(scene, "a form that never waits fails", err);
    if (err == 0 ? done != count : done >= count)
        complain(scene, "a form that never waits has done more or less than it says", err);
    memcpy(region->bytes + at, scene->fresh, (size_t)done);
    if (disk_read(scene->disk, region->offset + at, count, scene->found) != 0 ||
        memcmp(scene->found, region->bytes + at, count) != 0)
        complain(scene, "what a form that never waits has done is not what it says", err);
    atomic_store(&armed, was_armed);
    scene->put_off += err != 0;
    return count - (size_t)done;
}

/* What is left after the form that never waits is done by the form that waits. */
static void do_try_write(struct scene *scene, unsigned r, size_t at, size_t count,
                         enum content content)
{
    struct region *region = &scene->regions[r];
    size_t done;
    make_content(scene, count, content);
    int err = disk_try_write(scene->disk, region->offset + at, count, scene->fresh, &done);
    size_t left = outcome_of_try(scene, region, at, count, err, done);
    if (left > 0)
        do_write(scene, r, at + count - left, left, content);
}

static void do_try_zero(struct scene *scene, unsigned r, size_t at, size_t count, unsigned flags)
{
    struct region *region = &scene->regions[r];
    uint64_t done;
    memset(scene->fresh, 0, count);
    int err = disk_try_zero(scene->disk, region->offset + at, count, flags, &done);
    size_t left = outcome_of_try(scene, region, at, count, err, done);
    if (left > 0)
        do_zero(scene, r, at + count - left, left, flags);
}

static void do_trim(struct scene *scene, unsigned r, size_t at, size_t count)
{
    struct region *region = &scene->regions[r];
    memset(scene->fresh, 0, count);
    int err = disk_trim(scene->disk, region->offset + at, count);
    outcome(scene, region, at, count, err, true);
}

static void do_try_trim(struct scene *scene, unsigned r, size_t at, size_t count)
{
    struct region *region = &scene->regions[r];
    uint64_t done;
    memset(scene->fresh, 0, count);
    int err = disk_try_trim(scene->disk, region->offset + at, count, &done);
    size_t left = outcome_of_try(scene, region, at, count, err, done);
    if (left > 0)
        do_trim(scene, r, at + count - left, left);
}

/* A read needs no memory, of a compressed page neither. */
static void do_read(struct scene *scene, unsigned r)
{
    struct region *region = &scene->regions[r];
    scene->step++;
    int err = disk_read(scene->disk, region->offset, region->size, scene->found);
    if (err != 0)
        complain(scene, "a read fails", err);
    if (memcmp(scene->found, region->bytes, region->size) != 0)
        complain(scene, "what was acknowledged is not there", 0);
}

static void do_settle(struct scene *scene)
{
    scene->step++;
    int err = disk_settle(scene->disk);
    if (err != 0 && (!is_no_memory(err) || atomic_load(&failures) == 0))
        complain(scene, "settle fails", err);
}

/* There must be no hole where data was acknowledged. */
static void do_extents(struct scene *scene, unsigned r)
{
    struct region *region = &scene->regions[r];
    struct extent_list extents;
    scene->step++;
    list_extents(scene->disk, region->offset, region->size, &extents);
    if (extents.wrong != NULL)
        complain(scene, extents.wrong, 0);
    for (size_t i = 0; i < extents.count && i < EXTENTS_LISTED_MAX; i++)
        if (extents.first[i].hole &&
            !only_zeroes(region->bytes + (extents.first[i].offset - region->offset),
                         (size_t)extents.first[i].count))
            complain(scene, "data is reported as a hole", 0);
}

static void check_all(struct scene *scene)
{
    for (unsigned r = 0; r < scene->region_count; r++) {
        do_read(scene, r);
        do_extents(scene, r);
    }
}

/* The scenario. */

static bool scene_open(struct scene *scene, uint64_t run)
{
    struct disk_options options = {
        .size = scene->allocator == &allocator_malloc ? DENSE : DISK_SIZE_MAX,
        .limit = scene->allocator == &allocator_malloc ? 0 : LIMIT,
        .allocator = scene->allocator,
        .level = DISK_LEVEL_DEFAULT,
    };
    scene->run = run;
    scene->step = 0;
    prng_init(&scene->prng, test_seed(), 1);
    for (unsigned r = 0; r < scene->region_count; r++)
        memset(scene->regions[r].bytes, 0, scene->regions[r].size);
    scene->disk = NULL;
    int err = disk_create(&options, &scene->disk);
    if (err != 0) {
        if (!is_no_memory(err) || atomic_load(&failures) == 0)
            complain(scene, "disk_create fails", err);
        return false;
    }
    err = disk_start(scene->disk);
    if (err != 0) {
        if (err > 0 || atomic_load(&failures) == 0)
            complain(scene, "disk_start fails", err);
        disk_destroy(scene->disk);
    }
    return err == 0;
}

static void fill_regions(struct scene *scene)
{
    do_write(scene, 0, 0, DENSE, TEXT);
    do_write(scene, 0, 100000, 300000, RANDOM);
    for (unsigned r = 1; r < scene->region_count; r++)
        (r % 3 == 0   ? do_try_write
         : r % 3 == 1 ? do_write
                      : do_fill)(scene, r, r * 13, 5000, r % 4 ? TEXT : RANDOM);
}

static void change_regions(struct scene *scene)
{
    do_write(scene, 0, 12345, 70, RANDOM);
    do_write(scene, 0, 200001, 20000, TEXT);
    do_fill(scene, 0, 234567, 130000, TEXT);
    do_zero(scene, 0, 300, 40, 0);
    do_zero(scene, 0, 65536 + 7, 65536, 0);
    do_zero(scene, 0, 400000, 50000, DISK_NO_HOLE);
    do_write(scene, 0, 410000, 20000, RANDOM);
    do_trim(scene, 0, 150000, 99999);
    do_write(scene, 0, 160000, 1000, TEXT);
    do_try_write(scene, 0, 150500, 60000, TEXT);
    do_try_zero(scene, 0, 20000, 32768, 0);
    do_try_zero(scene, 0, 500000, 30000, DISK_NO_HOLE);
    do_try_trim(scene, 0, 600001, 70000);
    for (unsigned r = 1; r < scene->region_count; r++) {
        if (r % 8 == 0)
            do_trim(scene, r, 0, SPARSE);
        else if (r % 8 == 4)
            do_try_trim(scene, r, 0, SPARSE);
        else if (r % 4 == 1) /* everything, in two parts, of which neither is a whole page */
            do_zero(scene, r, r * 13, 2000, 0), do_try_zero(scene, r, r * 13 + 2000, 3000, 0);
        else if (r % 4 == 2)
            do_write(scene, r, 16000, 1000, RANDOM);
        else
            do_zero(scene, r, 3, SPARSE - 5, DISK_NO_HOLE);
    }
}

static void play(struct scene *scene)
{
    fill_regions(scene);
    do_settle(scene);
    check_all(scene);
    change_regions(scene);
    check_all(scene);
    do_settle(scene);
    check_all(scene);
    do_write(scene, 0, 500, 33333, TEXT);
    do_write(scene, 0, 500000, 60000, ZEROES);
    do_trim(scene, 0, 0, 350000);
    do_fill(scene, 0, 3000, 300000, TEXT);
    do_fill(scene, 0, 100000, 400000, ZEROES);
    do_settle(scene);
}

static void scene_close(struct scene *scene)
{
    atomic_store(&armed, false);
    check_all(scene);
    disk_end(scene->disk);
}

/* Every N up to some number; after that in strides, if NBDRAM_TEST_OPS is low. */
static uint64_t stride(uint64_t n)
{
    uint64_t runs = test_ops(100000);
    return n <= runs ? 1 : 1 + n / (runs + 1) + n / 8;
}

static void each_request_fails_once(void **state)
{
    struct scene scene;
    scene_make(&scene, allocator_of(state));
    uint64_t runs = 0, n = 0, made;
    do {
        n += stride(n);
        runs++;
        arm(n, false);
        if (scene_open(&scene, n)) {
            play(&scene);
            scene_close(&scene);
        }
        atomic_store(&armed, false);
        made = atomic_load(&requests);
    } while (atomic_load(&failures) > 0);
    print_message("# %s: %" PRIu64 " requests for memory, %" PRIu64 " runs, %u calls refused, "
                  "%u put off\n",
                  scene.allocator->name, made, runs, scene.refused, scene.put_off);
    assert_true(runs > 1); /* else nothing was tested */
    scene_free(&scene);
}

static void all_requests_fail_for_a_while(void **state)
{
    struct scene scene;
    scene_make(&scene, allocator_of(state));
    uint64_t n = 0;
    unsigned runs = 0, failed_runs = 0;
    bool failed;
    do {
        n += stride(n);
        runs++;
        arm(n, true);
        if (scene_open(&scene, n)) {
            play(&scene);
            atomic_store(&armed, false);
            failed = atomic_load(&failures) > 0;
            atomic_store(&failures, 0); /* from now on nothing may fail */
            check_all(&scene);
            fill_regions(&scene);
            check_all(&scene);
            change_regions(&scene);
            do_settle(&scene);
            scene_close(&scene);
        } else {
            failed = true;
        }
        atomic_store(&armed, false);
        failed_runs += failed;
    } while (failed);
    assert_true(failed_runs > 0);
    if (scene.allocator != &allocator_malloc)
        assert_true(scene.refused > 0 && scene.put_off > 0);
    scene_free(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(each_request_fails_once, sparse),
        TEST_OF(each_request_fails_once, malloc),
        TEST_OF(each_request_fails_once, zstd),
        TEST_OF(all_requests_fail_for_a_while, sparse),
        TEST_OF(all_requests_fail_for_a_while, malloc),
        TEST_OF(all_requests_fail_for_a_while, zstd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
