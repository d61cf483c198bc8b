/* SPDX-License-Identifier: BSD-3-Clause */

/* support - what all C tests use
 *
 * A program includes this instead of cmocka's header.  It takes no arguments, and three variables
 * of the environment:
 *
 *     NBDRAM_TEST_SEED      the seed, decimal or 0x...; by default a new one; it is printed
 *     NBDRAM_TEST_OPS       how many random operations; sanitized and emulated runs lower it
 *     NBDRAM_TEST_RESIDENT  0: do not judge the resident size (emulators, valgrind)
 *
 * Any thread may call a function here unless its comment says otherwise.  Only the test's own
 * thread may use cmocka's asserts, because they jump to the frame of the test.
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

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* An entry of the table of tests for one allocator, with its name: "trim_frees (zstd)".  The
 * function gets the allocator from allocator_of(state). */
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

/* Run this test for each of an array's structs, which begin with a name: const char *.  The
 * function gets the struct in *state.  Returns what main has to return. */
int run_for_each(const void *structs, size_t count, size_t size, CMUnitTestFunction function);

/* The seed of this run.  The first call prints it. */
uint64_t test_seed(void);

/* NBDRAM_TEST_OPS, or this number if that is not set. */
uint64_t test_ops(uint64_t otherwise);

/* A small random generator.  The same seed and stream give the same numbers on every machine; the
 * streams of one seed (one for each thread, round, page...) are independent of each other. */
struct prng {
    uint64_t state;
};
void prng_init(struct prng *prng, uint64_t seed, uint64_t stream);
uint64_t prng_next(struct prng *prng);
uint64_t prng_below(struct prng *prng, uint64_t bound); /* 0 to bound - 1; bound is not 0 */
bool prng_one_in(struct prng *prng, uint64_t n);

/* Fill a buffer with bytes that do not compress, or with words that compress to a quarter or
 * less. Neither has a whole page of zeroes; text has no zero byte. */
void fill_random(struct prng *prng, void *buf, size_t count);
void fill_text(struct prng *prng, void *buf, size_t count);

bool only_zeroes(const void *buf, size_t count);

/* Memory to be freed, never NULL. */
uint8_t *buffer_made(size_t count);

/* Make and start a disk, or fail the test.  limit 0: none but the machine's. */
struct disk *disk_made(const struct allocator *allocator, uint64_t size, uint64_t limit);

/* One byte of a disk. */
void write_byte(struct disk *disk, uint64_t offset, uint8_t byte);
uint8_t read_byte(struct disk *disk, uint64_t offset);

void assert_reads_zero(struct disk *disk, uint64_t offset, size_t count);

/* Verify the disk's invariants (disk_check), or fail the test.  No request may be running. */
void disk_verify(struct disk *disk);

/* disk_verify, and then disk_destroy. */
void disk_end(struct disk *disk);

/* What disk_extents reports.  `wrong` is NULL if the extents tile the range in order, none is
 * empty and neighbours differ; else it says which of these is not so. */
struct extent {
    uint64_t offset, count;
    bool hole;
};
#define EXTENTS_LISTED_MAX 16
struct extent_list {
    uint64_t holes, data; /* bytes */
    size_t count;         /* extents; the first EXTENTS_LISTED_MAX are in `first` */
    struct extent first[EXTENTS_LISTED_MAX];
    const char *wrong;
    uint64_t next; /* offset at which the next one has to begin */
    uint64_t end;
    bool last_was_hole;
};
void list_extents(struct disk *disk, uint64_t offset, uint64_t count,
                  struct extent_list *extents);

/* Is every byte of the range reported as a hole, as data? Fails the test if the extents are
 * wrong. */
bool all_hole(struct disk *disk, uint64_t offset, uint64_t count);
bool all_data(struct disk *disk, uint64_t offset, uint64_t count);

struct disk_stats stats_of(struct disk *disk);

/* How many bytes the process has locked in memory; 0: none, or not known. */
uint64_t locked_memory(void);

/* Does os_memory_resident say how much memory the disk has? Sanitizers keep freed memory and have
 * shadow memory, and emulators have memory of their own. */
bool resident_size_is_meaningful(void);

#endif
