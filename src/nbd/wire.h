/* SPDX-License-Identifier: BSD-3-Clause */

/* wire - bytes as they travel: numbers in network order, strings with a length
 *
 * No struct is ever laid over a buffer.  A reader takes bytes from a buffer that was received.  A
 * writer puts bytes into a buffer that will be sent.  Neither goes beyond the end of its buffer.
 * Errors are sticky:
 *
 *     a get beyond the end, and every get after it, returns zero or NULL
 *     a put beyond the end, and every put after it, puts nothing
 *
 * So `failed` need not be looked at before the end of a sequence of gets or puts.  A writer that
 * has failed still holds the earlier puts, each of them whole.
 *
 * The headers of replies are on the hot path, so the room for a header is checked only once:
 * wire_claim claims all of its bytes, and wire_set, wire_set16, ... fill them in without a check.
 *
 * Threads: a reader or writer belongs to one thread.
 */

#ifndef NBDRAM_NBD_WIRE_H
#define NBDRAM_NBD_WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire_reader {
    const uint8_t *at; /* the next byte */
    size_t left;       /* the number of bytes not taken yet */
    bool failed;       /* a get went beyond the end */
};

/* Make a reader of n bytes.  The bytes have to stay in place while the reader is used. */
static inline struct wire_reader wire_read(const void *bytes, size_t n)
{
    return (struct wire_reader){.at = bytes, .left = n};
}

/* Take n bytes.  Returns a pointer to the first of them, or NULL if fewer than n are left. */
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

/* wire_set, wire_set16, ... fill in bytes that have been claimed.  Each function returns a
 * pointer to the next byte to fill in. */

static inline uint8_t *wire_set(uint8_t *at, const void *bytes, size_t n)
{
    if (n)
        memcpy(at, bytes, n);
    return at + n;
}

static inline uint8_t *wire_set16(uint8_t *at, uint16_t n)
{
    n = htobe16(n);
    return wire_set(at, &n, sizeof n);
}

static inline uint8_t *wire_set32(uint8_t *at, uint32_t n)
{
    n = htobe32(n);
    return wire_set(at, &n, sizeof n);
}

static inline uint8_t *wire_set64(uint8_t *at, uint64_t n)
{
    n = htobe64(n);
    return wire_set(at, &n, sizeof n);
}

struct wire_writer {
    uint8_t *at;  /* where the next byte will be put */
    uint8_t *end; /* the end of the buffer; equal to `at` after a failure */
    bool failed;  /* a put went beyond the end */
};

/* Make a writer that puts up to n bytes. */
static inline struct wire_writer wire_write(void *bytes, size_t n)
{
    return (struct wire_writer){.at = bytes, .end = (uint8_t *)bytes + n};
}

/* The number of bytes that can still be put. */
static inline size_t wire_room(const struct wire_writer *writer)
{
    return (size_t)(writer->end - writer->at);
}

/* Claim n bytes (at least one).  Returns a pointer to the first of them, or NULL if there is no
 * room for n bytes.  The caller has to fill in all claimed bytes. */
static inline uint8_t *wire_claim(struct wire_writer *writer, size_t n)
{
    uint8_t *at = writer->at;
    if (wire_room(writer) < n) {
        writer->failed = true;
        writer->end = at;
        return NULL;
    }
    writer->at += n;
    return at;
}

static inline void wire_put(struct wire_writer *writer, const void *bytes, size_t n)
{
    uint8_t *at = n ? wire_claim(writer, n) : NULL;
    if (at)
        wire_set(at, bytes, n);
}

static inline void wire_put16(struct wire_writer *writer, uint16_t n)
{
    uint8_t *at = wire_claim(writer, sizeof n);
    if (at)
        wire_set16(at, n);
}

static inline void wire_put32(struct wire_writer *writer, uint32_t n)
{
    uint8_t *at = wire_claim(writer, sizeof n);
    if (at)
        wire_set32(at, n);
}

static inline void wire_put64(struct wire_writer *writer, uint64_t n)
{
    uint8_t *at = wire_claim(writer, sizeof n);
    if (at)
        wire_set64(at, n);
}

#endif
