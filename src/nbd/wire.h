/* SPDX-License-Identifier: BSD-3-Clause */

/* wire - read and write the bytes of network messages: numbers in network order, strings with a
 * length
 *
 * No struct is ever cast onto a buffer.  A reader takes bytes from a buffer that was received.  A
 * writer puts bytes into a buffer that will be sent.  Neither of them goes beyond the end of its
 * buffer.  After an error the reader or writer stays in the failed state:
 *
 *     get  returns zero or NULL if it would go beyond the end; so do all later gets of the reader
 *     put  puts nothing if it would go beyond the end; so do all later puts of the writer
 *
 * So a caller may make several gets or puts, and check `failed` once at the end.  The puts before
 * the error are complete.
 *
 * Replies have to be fast, so the functions in reply.c check only once whether a header fits:
 * wire_claim claims all bytes of the header.  Then wire_set, wire_set16, ... fill in the bytes
 * without a check.
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
    bool failed;       /* an earlier get would have gone beyond the end */
};

/* Make a reader for n bytes.  The caller must not move or free the bytes while the reader is in
 * use. */
static inline struct wire_reader wire_read(const void *bytes, size_t n)
{
    return (struct wire_reader){.at = bytes, .left = n};
}

/* Take the next n bytes.  Returns a pointer to the first of them.  If fewer than n bytes are
 * left, returns NULL. */
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

/* The functions wire_set, wire_set16, ... fill in bytes that were claimed with wire_claim.  Each
 * function returns a pointer to the byte after those that it filled in. */

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
    uint8_t *end; /* the end of the buffer, or `at` after a failure */
    bool failed;  /* an earlier put would have gone beyond the end */
};

/* Make a writer that puts at most n bytes into the buffer `bytes`. */
static inline struct wire_writer wire_write(void *bytes, size_t n)
{
    return (struct wire_writer){.at = bytes, .end = (uint8_t *)bytes + n};
}

/* Returns the number of bytes that can still be put. */
static inline size_t wire_room(const struct wire_writer *writer)
{
    return (size_t)(writer->end - writer->at);
}

/* Claim the next n bytes of the buffer.  The caller has to claim at least one byte, and to fill
 * in all claimed bytes.  Returns a pointer to the first claimed byte.  If fewer than n bytes are
 * free, returns NULL. */
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
