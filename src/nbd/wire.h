/* SPDX-License-Identifier: BSD-3-Clause */

/* wire - bytes as they travel: numbers in network order, strings that are bounded
 *
 * Nothing is ever laid over a buffer.  What arrives is read through a reader that cannot be led
 * beyond its end: a get beyond it answers with zero and leaves the reader failed, so that a
 * sequence of gets needs one look at the end.  What is sent is put by functions that return where
 * the next byte goes; that there is room is the caller's to see to.
 *
 * Threads: none of this is shared.
 */

#ifndef NBDRAM_NBD_WIRE_H
#define NBDRAM_NBD_WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire_reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static inline struct wire_reader wire_read(const void *bytes, size_t n)
{
    return (struct wire_reader){.at = bytes, .left = n};
}

/* n bytes, where they lie; NULL if there are fewer. */
static inline const uint8_t *wire_get(struct wire_reader *reader, size_t n)
{
    const uint8_t *at = reader->at;
    if (reader->failed || reader->left < n) {
        reader->failed = true;
        return NULL;
    }
    reader->at += n;
    reader->left -= n;
    return at;
}

static inline uint16_t wire_get16(struct wire_reader *reader)
{
    uint16_t n = 0;
    const uint8_t *at = wire_get(reader, sizeof n);
    if (at)
        memcpy(&n, at, sizeof n);
    return be16toh(n);
}

static inline uint32_t wire_get32(struct wire_reader *reader)
{
    uint32_t n = 0;
    const uint8_t *at = wire_get(reader, sizeof n);
    if (at)
        memcpy(&n, at, sizeof n);
    return be32toh(n);
}

static inline uint64_t wire_get64(struct wire_reader *reader)
{
    uint64_t n = 0;
    const uint8_t *at = wire_get(reader, sizeof n);
    if (at)
        memcpy(&n, at, sizeof n);
    return be64toh(n);
}

static inline uint8_t *wire_put(uint8_t *at, const void *bytes, size_t n)
{
    if (n)
        memcpy(at, bytes, n);
    return at + n;
}

static inline uint8_t *wire_put16(uint8_t *at, uint16_t n)
{
    n = htobe16(n);
    return wire_put(at, &n, sizeof n);
}

static inline uint8_t *wire_put32(uint8_t *at, uint32_t n)
{
    n = htobe32(n);
    return wire_put(at, &n, sizeof n);
}

static inline uint8_t *wire_put64(uint8_t *at, uint64_t n)
{
    n = htobe64(n);
    return wire_put(at, &n, sizeof n);
}

#endif
