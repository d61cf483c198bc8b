/* SPDX-License-Identifier: BSD-3-Clause */

#include "mutate.h"

#include <string.h>

#define THINGS_MAX 256u
#define INPUT_MAX 4096u
#define NEW_SIZE 8u

struct thing {
    const uint8_t *at;
    size_t size;
};

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

static size_t find_things(const struct mutate_shape *shape, const uint8_t *data, size_t size,
                          struct thing *things)
{
    size_t n = 0;
    for (size_t at = shape->head; at < size && n < THINGS_MAX; n++) {
        size_t left = size - at;
        size_t wanted = shape->thing ? shape->thing : left > 1 ? 2u + data[at + 1] : 1;
        things[n] = (struct thing){data + at, wanted < left ? wanted : left};
        at += things[n].size;
    }
    return n;
}

static size_t insert(struct thing *things, size_t n, size_t at, struct thing thing)
{
    memmove(things + at + 1, things + at, (n - at) * sizeof *things);
    things[at] = thing;
    return n + 1;
}

/* Change the list, and return its new length.  made: room for a new thing. */
static size_t change(const struct mutate_shape *shape, struct thing *things, size_t n,
                     unsigned seed, uint8_t *made)
{
    size_t one = seed / 8 % n, other = seed / 2048 % n;
    struct thing kept = things[one];
    switch (seed % 8) {
    case 0:
    case 1:
        return insert(things, n, other, kept);
    case 2:
        memmove(things + one, things + one + 1, (n - one - 1) * sizeof *things);
        return n - 1;
    case 3:
        things[one] = things[other];
        things[other] = kept;
        return n;
    case 4:
        things[other] = kept;
        return n;
    case 5:
    case 6:
        memset(made, 0, NEW_SIZE);
        made[0] = (uint8_t)(seed >> 20 & (seed % 8 == 5 ? 15 : 255));
        return insert(things, n, one, (struct thing){made, shape->thing ? shape->thing : 2});
    default:
        kept.size = kept.size < NEW_SIZE ? kept.size : NEW_SIZE;
        memcpy(made, kept.at, kept.size);
        LLVMFuzzerMutate(made, kept.size, kept.size);
        things[one] = (struct thing){made, kept.size};
        return n;
    }
}

size_t mutate_things(const struct mutate_shape *shape, uint8_t *data, size_t size, size_t max,
                     unsigned seed)
{
    struct thing things[THINGS_MAX + 1];
    uint8_t before[INPUT_MAX], made[NEW_SIZE];
    if (seed % 2 || size <= shape->head || size > sizeof before)
        return LLVMFuzzerMutate(data, size, max);
    if (seed / 2 % 16 == 0) {
        LLVMFuzzerMutate(data, shape->head, shape->head);
        return size;
    }
    memcpy(before, data, size);
    size_t n = find_things(shape, before, size, things), at = shape->head;
    n = change(shape, things, n, seed / 32, made);
    for (size_t i = 0; i < n && things[i].size <= max - at; i++) {
        memcpy(data + at, things[i].at, things[i].size);
        at += things[i].size;
    }
    return at;
}
