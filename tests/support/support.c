/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "os/memory.h"
#include "support/file.h"
#include "text/reason.h"

const struct allocator *allocator_of(void **state)
{
    return *state;
}

unsigned allocator_index(const struct allocator *allocator)
{
    unsigned index = 0;
    while (allocators[index] != allocator)
        index++;
    return index;
}

int run_for_each(const void *structs, size_t count, size_t size, CMUnitTestFunction function)
{
    struct CMUnitTest tests[32] = {{NULL, NULL, NULL, NULL, NULL}};
    if (count > COUNT_OF(tests))
        abort();
    for (size_t i = 0; i < count; i++) {
        const char *each = (const char *)structs + i * size;
        const char *name;
        memcpy(&name, each, sizeof name);
        tests[i] = (struct CMUnitTest){
            .name = name, .test_func = function, .initial_state = (void *)(uintptr_t)each};
    }
    return _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
}

static bool number_from_environment(const char *name, uint64_t *number)
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0')
        return false;
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 0);
    if (errno != 0 || *end != '\0') {
        fprintf(stderr, "%s=%s is not a number\n", name, text);
        exit(2);
    }
    return true;
}

uint64_t test_seed(void)
{
    static uint64_t seed;
    static bool known;
    if (!known) {
        known = true;
        if (!number_from_environment("NBDRAM_TEST_SEED", &seed)) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            seed =
                ((uint64_t)now.tv_sec << 20 ^ (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 32) &
                UINT64_C(0xffffffffffff);
        }
        printf("# to repeat: NBDRAM_TEST_SEED=0x%" PRIx64 "\n", seed);
        fflush(stdout);
    }
    return seed;
}

uint64_t test_ops(uint64_t otherwise)
{
    uint64_t ops;
    if (!number_from_environment("NBDRAM_TEST_OPS", &ops))
        ops = otherwise;
    return ops;
}

/* A 64-bit congruential generator; its low bits are poor, so the high ones are folded in. */
uint64_t prng_next(struct prng *prng)
{
    prng->state = prng->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t x = prng->state;
    return (x ^ x >> 32) * UINT64_C(0x9e3779b97f4a7c15);
}

void prng_init(struct prng *prng, uint64_t seed, uint64_t stream)
{
    prng->state = seed;
    prng->state ^= prng_next(prng) + stream * UINT64_C(0xd1342543de82ef95);
    prng_next(prng);
    prng_next(prng);
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    uint64_t x = prng_next(prng);
    return (x ^ x >> 29) % bound;
}

bool prng_one_in(struct prng *prng, uint64_t n)
{
    return prng_below(prng, n) == 0;
}

void fill_random(struct prng *prng, void *buf, size_t count)
{
    uint8_t *at = buf;
    while (count > 0) {
        uint64_t x = prng_next(prng);
        size_t n = count < sizeof x ? count : sizeof x;
        memcpy(at, &x, n);
        at += n;
        count -= n;
    }
}

void fill_text(struct prng *prng, void *buf, size_t count)
{
    static const char *const words[] = {"anchor ",  "barge ",   "canal ",   "dredger ",
                                        "estuary ", "ferry ",   "groyne ",  "harbour ",
                                        "islet ",   "jetty ",   "keel ",    "lock ",
                                        "mooring ", "narrows ", "outfall ", "pontoon "};
    uint8_t *at = buf;
    while (count > 0) {
        const char *word = words[prng_below(prng, COUNT_OF(words))];
        size_t n = strlen(word);
        if (n > count)
            n = count;
        memcpy(at, word, n);
        at += n;
        count -= n;
    }
}

bool only_zeroes(const void *buf, size_t count)
{
    const uint8_t *at = buf;
    return count == 0 || (at[0] == 0 && memcmp(at, at + 1, count - 1) == 0);
}

struct disk *disk_made(const struct allocator *allocator, uint64_t size, uint64_t limit)
{
    struct disk_options options = {
        .size = size,
        .limit = limit,
        .allocator = allocator,
        .level = DISK_LEVEL_DEFAULT,
    };
    struct disk *disk = NULL;
    assert_int_equal(disk_create(&options, &disk), 0);
    assert_non_null(disk);
    assert_int_equal(disk_start(disk), 0);
    return disk;
}

void disk_verify(struct disk *disk)
{
    struct reason reason;
    int err = disk_check(disk, &reason);
    if (err == -EUCLEAN)
        fail_msg("%s; NBDRAM_TEST_SEED=0x%" PRIx64, reason.text, test_seed());
    assert_int_equal(err, 0);
}

void disk_end(struct disk *disk)
{
    disk_verify(disk);
    disk_destroy(disk);
}

uint8_t *buffer_made(size_t count)
{
    uint8_t *buf = malloc(count + 1);
    assert_non_null(buf);
    return buf;
}

void write_byte(struct disk *disk, uint64_t offset, uint8_t byte)
{
    assert_int_equal(disk_write(disk, offset, 1, &byte), 0);
}

uint8_t read_byte(struct disk *disk, uint64_t offset)
{
    uint8_t byte = 0xa5;
    assert_int_equal(disk_read(disk, offset, 1, &byte), 0);
    return byte;
}

void assert_reads_zero(struct disk *disk, uint64_t offset, size_t count)
{
    uint8_t *buf = buffer_made(count);
    memset(buf, 0xa5, count);
    assert_int_equal(disk_read(disk, offset, count, buf), 0);
    assert_true(only_zeroes(buf, count));
    free(buf);
}

static int list_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct extent_list *extents = opaque;
    if (count == 0)
        extents->wrong = "an extent is empty";
    else if (offset != extents->next)
        extents->wrong = offset < extents->next ? "extents overlap" : "extents leave a gap";
    else if (count > extents->end - offset)
        extents->wrong = "an extent is not clipped";
    else if (extents->count > 0 && hole == extents->last_was_hole)
        extents->wrong = "neighbours are alike";
    if (extents->wrong != NULL)
        return 1;

    if (extents->count < EXTENTS_LISTED_MAX)
        extents->first[extents->count] = (struct extent){offset, count, hole};
    extents->count++;
    *(hole ? &extents->holes : &extents->data) += count;
    extents->last_was_hole = hole;
    extents->next = offset + count;
    return 0;
}

void list_extents(struct disk *disk, uint64_t offset, uint64_t count, struct extent_list *extents)
{
    *extents = (struct extent_list){.next = offset, .end = offset + count};
    int err = disk_extents(disk, offset, count, list_extent, extents);
    if (extents->wrong == NULL && err != 0)
        extents->wrong = "disk_extents fails";
    if (extents->wrong == NULL && extents->next != extents->end)
        extents->wrong = "extents end too early";
}

static void list_extents_or_fail(struct disk *disk, uint64_t offset, uint64_t count,
                                 struct extent_list *extents)
{
    list_extents(disk, offset, count, extents);
    if (extents->wrong != NULL)
        fail_msg("extents of %" PRIu64 "+%" PRIu64 ": %s at %" PRIu64, offset, count,
                 extents->wrong, extents->next);
}

bool all_hole(struct disk *disk, uint64_t offset, uint64_t count)
{
    struct extent_list extents;
    list_extents_or_fail(disk, offset, count, &extents);
    return extents.data == 0;
}

bool all_data(struct disk *disk, uint64_t offset, uint64_t count)
{
    struct extent_list extents;
    list_extents_or_fail(disk, offset, count, &extents);
    return extents.holes == 0;
}

struct disk_stats stats_of(struct disk *disk)
{
    struct disk_stats stats;
    disk_stats(disk, &stats);
    return stats;
}

uint64_t locked_memory(void)
{
    static const char name[] = "VmLck:";
    char text[8192];
    file_read("/proc/self/status", text, sizeof text);
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) * KiB : 0;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                       \
    __has_feature(memory_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

bool resident_size_is_meaningful(void)
{
    uint64_t wanted;
    if (number_from_environment("NBDRAM_TEST_RESIDENT", &wanted))
        return wanted != 0;
    return !SANITIZED && os_memory_resident() != 0;
}
