/* SPDX-License-Identifier: BSD-3-Clause */

#include "mutate.h"

#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

size_t mutate_records(const struct mutate_shape *shape, uint8_t *data, size_t size, size_t max,
                      unsigned seed)
{
    size_t n = size > shape->head ? (size - shape->head) / shape->record : 0;
    uint8_t *first = data + shape->head;
    if (n == 0 || seed % 2)
        return LLVMFuzzerMutate(data, size, max);
    seed /= 2;
    uint8_t *one = first + seed / 8 % n * shape->record;
    uint8_t *other = first + seed / 64 % n * shape->record, kept[MUTATE_RECORD_MAX];
    size_t behind = (size_t)(data + size - one);
    switch (seed % 8) {
    case 0: /* twice */
        if (size + shape->record > max)
            break;
        memmove(one + shape->record, one, behind);
        return size + shape->record;
    case 1: /* not at all */
        memmove(one, one + shape->record, behind - shape->record);
        return size - shape->record;
    case 2: /* exchanged */
        memcpy(kept, one, shape->record);
        memcpy(one, other, shape->record);
        memcpy(other, kept, shape->record);
        return size;
    case 3: /* as another */
        memmove(other, one, shape->record);
        return size;
    case 4: /* the head alone */
        LLVMFuzzerMutate(data, shape->head, shape->head);
        return size;
    default: /* alone */
        LLVMFuzzerMutate(one, shape->record, shape->record);
        return size;
    }
    return LLVMFuzzerMutate(data, size, max);
}
