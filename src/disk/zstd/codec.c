/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/zstd/codec.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "os/thread.h"

/* A context that is in its place is nobody's; who takes it leaves NULL. */
struct places {
    _Alignas(64) _Atomic(ZSTD_CCtx *) pack;
    _Atomic(ZSTD_DCtx *) unpack;
};

struct codec {
    int level;
    unsigned count;
    struct places *places;
};

int codec_create(int level, struct codec **made)
{
    struct codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return -ENOMEM;
    codec->level = level;
    codec->count = os_cpu_count();
    codec->places = aligned_alloc(_Alignof(struct places), codec->count * sizeof *codec->places);
    if (!codec->places) {
        free(codec);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < codec->count; i++) {
        atomic_init(&codec->places[i].pack, NULL);
        atomic_init(&codec->places[i].unpack, NULL);
    }
    *made = codec;
    return 0;
}

void codec_destroy(struct codec *codec)
{
    if (!codec)
        return;
    for (unsigned i = 0; i < codec->count; i++) {
        ZSTD_freeCCtx(atomic_load(&codec->places[i].pack));
        ZSTD_freeDCtx(atomic_load(&codec->places[i].unpack));
    }
    free(codec->places);
    free(codec);
}

static struct places *here(struct codec *codec)
{
    return &codec->places[os_cpu_now() % codec->count];
}

/* Taking and putting exchange with acquire-release: what the last user did to the context is
 * seen by the next. */

static ZSTD_CCtx *take_pack(struct codec *codec)
{
    ZSTD_CCtx *context = atomic_exchange(&here(codec)->pack, NULL);
    if (context)
        return context;
    context = ZSTD_createCCtx();
    if (context)
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, codec->level);
    return context;
}

long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room)
{
    ZSTD_CCtx *context = take_pack(codec);
    if (!context)
        return -ENOMEM;
    size_t n = ZSTD_compress2(context, out, room, page, size);
    ZSTD_freeCCtx(atomic_exchange(&here(codec)->pack, context));
    if (!ZSTD_isError(n))
        return (long)n;
    return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
}

int codec_unpack(struct codec *codec, const void *packed, size_t packed_size, void *page,
                 size_t size)
{
    ZSTD_DCtx *context = atomic_exchange(&here(codec)->unpack, NULL);
    if (!context)
        context = ZSTD_createDCtx();
    if (!context)
        return -ENOMEM;
    size_t n = ZSTD_decompressDCtx(context, page, size, packed, packed_size);
    ZSTD_freeDCtx(atomic_exchange(&here(codec)->unpack, context));
    assert(n == size); /* we packed it, and a blob never changes */
    return n == size ? 0 : -EIO;
}
