/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/loan.h"

#include <string.h>

#include "os/bytes.h"

static const char *fault_of(const struct source *source, const struct iovec *iov, int iov_count)
{
    if (iov_count < 1 || iov_count > DISK_FILL_IOV_MAX)
        return "a wrong number of pieces";
    for (int i = 0; i < iov_count; i++)
        if (iov[i].iov_base == NULL || iov[i].iov_len == 0)
            return "an empty piece";
    return source->calls != 1 ? "called twice" : NULL;
}

static size_t count_bytes(const uint8_t *at, size_t n, uint8_t value)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte;
        bytes_load(&byte, at + i, 1);
        count += byte == value;
    }
    return count;
}

static ssize_t receive(void *opaque, struct iovec *iov, int iov_count)
{
    struct source *source = opaque;
    char following[16];
    source->calls++;
    source->pieces = iov_count;
    source->wrong = fault_of(source, iov, iov_count);
    if (source->meanwhile)
        source->meanwhile(source->opaque);
    if (source->err)
        return source->err;
    iov[iov_count] = (struct iovec){following, sizeof following};
    size_t received = 0;
    for (int i = 0; i < iov_count; i++) {
        size_t n = iov[i].iov_len, left = source->most - received;
        source->offered += n;
        if (source->old)
            source->recycled += count_bytes(iov[i].iov_base, n, source->old);
        n = n < left ? n : left;
        if (n)
            bytes_store(iov[i].iov_base, source->from + received, n);
        received += n;
    }
    return (ssize_t)received;
}

ssize_t loan_fill(struct disk *disk, uint64_t offset, size_t count, struct source *source)
{
    size_t lent = 12345;
    source->calls = 0;
    source->offered = 0;
    source->recycled = 0;
    source->wrong = NULL;
    ssize_t r = disk_fill(disk, offset, count, &lent, receive, source);
    if (source->wrong == NULL && !source->err && lent != source->offered)
        source->wrong = "the sum is not what was offered";
    if (source->wrong == NULL && lent > count)
        source->wrong = "more is offered than was asked for";
    return r;
}

int loan_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
               struct prng *prng)
{
    uint64_t page = disk_page_size(disk);
    for (size_t done = 0; done < count;) {
        size_t left = count - done;
        struct source source = {.from = (const uint8_t *)buf + done};
        source.most = prng_one_in(prng, 2) ? left : (size_t)prng_below(prng, left + 1);
        ssize_t r = loan_fill(disk, offset + done, left, &source);
        if (source.wrong != NULL)
            return -EPROTO;
        if (r == -ENOBUFS) {
            uint64_t n = page - (offset + done) % page;
            r = (ssize_t)(n < left ? n : left);
            int err = disk_write(disk, offset + done, (size_t)r, source.from);
            if (err != 0)
                return err;
        } else if (r < 0) {
            return (int)r;
        }
        done += (size_t)r;
    }
    return 0;
}

static int read_piece(struct disk *disk, uint64_t offset, const struct disk_piece *piece,
                      uint8_t *to)
{
    switch (piece->kind) {
    case DISK_PIECE_DATA:
        bytes_load(to, piece->base, piece->count);
        return 0;
    case DISK_PIECE_HOLE:
        memset(to, 0, piece->count);
        return piece->base == NULL ? 0 : -EPROTO;
    case DISK_PIECE_PACKED:
        return piece->base == NULL ? disk_read(disk, offset, piece->count, to) : -EPROTO;
    }
    return -EPROTO;
}

int loan_read(struct disk *disk, uint64_t offset, size_t count, void *buf)
{
    int err = 0;
    disk_lend_begin(disk);
    for (size_t done = 0; err == 0 && done < count;) {
        struct disk_piece piece;
        err = disk_lend(disk, offset + done, count - done, &piece);
        if (err == 0 && (piece.count == 0 || piece.count > count - done))
            err = -EPROTO;
        if (err == 0)
            err = read_piece(disk, offset + done, &piece, (uint8_t *)buf + done);
        done += piece.count;
    }
    disk_lend_end(disk);
    return err;
}
