/* SPDX-License-Identifier: BSD-3-Clause */

/* support - what the C tests share
 *
 * A program includes this and nothing else of cmocka.  It runs with no arguments and listens to
 * three variables of the environment:
 *
 *     NBDRAM_TEST_SEED      the seed, decimal or 0x...; else one is drawn; either is printed
 *     NBDRAM_TEST_OPS       how many random operations; sanitized and emulated runs lower it
 *     NBDRAM_TEST_RESIDENT  0: do not judge the resident size (emulators, valgrind)
 *
 * Unless said otherwise a function may be called from any thread.  cmocka's asserts may not:
 * they jump to the test's frame, so only its own thread uses them.
 */

#ifndef NBDRAM_TESTS_SUPPORT_H
#define NBDRAM_TESTS_SUPPORT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "disk/allocator.h"
#include "disk/disk.h"

#define KiB ((uint64_t)1 << 10)
#define MiB ((uint64_t)1 << 20)
#define GiB ((uint64_t)1 << 30)
#define TiB ((uint64_t)1 << 40)

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Names one test for one allocator: "trim_frees (zstd)".  The function gets the allocator in
 * *state; allocator_of() takes it out. */
#define TEST_OF(function, allocator)                                                             \
    {                                                                                            \
#function " (" #allocator ")", function, NULL, NULL,                                     \
            (void *)(uintptr_t)&allocator_##allocator                                            \
    }
#define TEST_OF_ALL(function)                                                                    \
    TEST_OF(function, sparse), TEST_OF(function, malloc), TEST_OF(function, zstd)
#define TEST_OF_PAGED(function) TEST_OF(function, sparse), TEST_OF(function, zstd)
const struct allocator *allocator_of(void **state);
unsigned allocator_index(const struct allocator *allocator); /* in allocators[] */

/* The seed of this run, printed the first time. */
uint64_t test_seed(void);

/* NBDRAM_TEST_OPS, else the number given. */
uint64_t test_ops(uint64_t otherwise);

/* A small random generator.  The same seed and stream give the same numbers everywhere; streams
 * of one seed have nothing to do with each other (threads, rounds, pages). */
struct prng {
    uint64_t state;
};
void prng_init(struct prng *prng, uint64_t seed, uint64_t stream);
uint64_t prng_next(struct prng *prng);
uint64_t prng_below(struct prng *prng, uint64_t bound); /* 0 to bound - 1; bound is not 0 */
bool prng_one_in(struct prng *prng, uint64_t n);

/* Fill a buffer with bytes that do not compress, or with words that compress four times and
 * more.  Neither holds a whole page of zeroes; text holds no zero byte. */
void fill_random(struct prng *prng, void *buf, size_t count);
void fill_text(struct prng *prng, void *buf, size_t count);

bool only_zeroes(const void *buf, size_t count);

/* Memory to be freed, never NULL. */
uint8_t *buffer_made(size_t count);

/* Make and start a disk, or fail the test. */
struct disk *disk_made(const struct allocator *allocator, uint64_t size, uint64_t limit);

/* One byte of a disk. */
void write_byte(struct disk *disk, uint64_t offset, uint8_t byte);
uint8_t read_byte(struct disk *disk, uint64_t offset);

void assert_reads_zero(struct disk *disk, uint64_t offset, size_t count);

/* What disk_extents told, checked on the way.  wrong is NULL if the extents tile the range in
 * order, none is empty, and neighbours differ; else it says what is not so. */
struct extent {
    uint64_t offset, count;
    bool hole;
};
#define TOLD_MAX 16
struct told {
    uint64_t holes, data; /* bytes */
    size_t n;             /* extents; the first TOLD_MAX are in first */
    struct extent first[TOLD_MAX];
    const char *wrong;
    uint64_t next; /* where the next one has to begin */
    uint64_t end;
    bool last_was_hole;
};
void tell_extents(struct disk *disk, uint64_t offset, uint64_t count, struct told *told);

/* Is every byte of the range told as a hole, as data?  Fails the test if the telling is wrong. */
bool all_hole(struct disk *disk, uint64_t offset, uint64_t count);
bool all_data(struct disk *disk, uint64_t offset, uint64_t count);

struct disk_stats stats_of(struct disk *disk);

/* Whether os_memory_resident tells anything: sanitizers keep freed memory and shadows, emulators
 * show their own. */
bool resident_size_is_telling(void);

#endif
