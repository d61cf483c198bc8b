/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "os/memory.h"

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
        const char *word = words[prng_below(prng, sizeof words / sizeof *words)];
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

static int tell(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct told *told = opaque;
    if (count == 0)
        told->wrong = "an extent is empty";
    else if (offset != told->next)
        told->wrong = offset < told->next ? "extents overlap" : "extents leave a gap";
    else if (count > told->end - offset)
        told->wrong = "an extent is not clipped";
    else if (told->n > 0 && hole == told->last_was_hole)
        told->wrong = "neighbours are alike";
    if (told->wrong != NULL)
        return 1;

    if (told->n < TOLD_MAX)
        told->first[told->n] = (struct extent){offset, count, hole};
    told->n++;
    *(hole ? &told->holes : &told->data) += count;
    told->last_was_hole = hole;
    told->next = offset + count;
    return 0;
}

void tell_extents(struct disk *disk, uint64_t offset, uint64_t count, struct told *told)
{
    *told = (struct told){.next = offset, .end = offset + count};
    int err = disk_extents(disk, offset, count, tell, told);
    if (told->wrong == NULL && err != 0)
        told->wrong = "disk_extents fails";
    if (told->wrong == NULL && told->next != told->end)
        told->wrong = "extents end too early";
}

static void tell_extents_rightly(struct disk *disk, uint64_t offset, uint64_t count,
                                 struct told *told)
{
    tell_extents(disk, offset, count, told);
    if (told->wrong != NULL)
        fail_msg("extents of %" PRIu64 "+%" PRIu64 ": %s at %" PRIu64, offset, count, told->wrong,
                 told->next);
}

bool all_hole(struct disk *disk, uint64_t offset, uint64_t count)
{
    struct told told;
    tell_extents_rightly(disk, offset, count, &told);
    return told.data == 0;
}

bool all_data(struct disk *disk, uint64_t offset, uint64_t count)
{
    struct told told;
    tell_extents_rightly(disk, offset, count, &told);
    return told.holes == 0;
}

struct disk_stats stats_of(struct disk *disk)
{
    struct disk_stats stats;
    disk_stats(disk, &stats);
    return stats;
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

bool resident_size_is_telling(void)
{
    uint64_t wanted;
    if (number_from_environment("NBDRAM_TEST_RESIDENT", &wanted))
        return wanted != 0;
    return !SANITIZED && os_memory_resident() != 0;
}
