/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/zstd/codec.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "os/thread.h"

/* The contexts of libzstd that are kept for one processor.  A thread that takes a context leaves
 * NULL in its place. */
struct contexts {
    _Alignas(64) _Atomic(ZSTD_CCtx *) pack;
    _Atomic(ZSTD_DCtx *) unpack;
};

struct codec_unpacker {
    ZSTD_DCtx *context;
};

struct codec {
    int level;
    unsigned count;            /* number of processors */
    struct contexts *contexts; /* one element for each processor */

    pthread_mutex_t last_lock;   /* guards `last` */
    struct codec_unpacker *last; /* the extra context, for threads that cannot make a context */
};

int codec_unpacker_create(struct codec_unpacker **made)
{
    struct codec_unpacker *unpacker = malloc(sizeof *unpacker);
    if (!unpacker)
        return -ENOMEM;
    unpacker->context = ZSTD_createDCtx();
    if (!unpacker->context) {
        free(unpacker);
        return -ENOMEM;
    }
    *made = unpacker;
    return 0;
}

void codec_unpacker_destroy(struct codec_unpacker *unpacker)
{
    if (unpacker)
        ZSTD_freeDCtx(unpacker->context);
    free(unpacker);
}

static int make_contexts(struct codec *codec)
{
    codec->contexts =
        aligned_alloc(_Alignof(struct contexts), codec->count * sizeof *codec->contexts);
    if (!codec->contexts)
        return -ENOMEM;
    for (unsigned i = 0; i < codec->count; i++) {
        atomic_init(&codec->contexts[i].pack, NULL);
        atomic_init(&codec->contexts[i].unpack, NULL);
    }
    return 0;
}

int codec_create(int level, struct codec **made)
{
    struct codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return -ENOMEM;
    codec->level = level;
    codec->count = os_cpu_count();
    pthread_mutex_init(&codec->last_lock, NULL);
    int r = codec_unpacker_create(&codec->last);
    if (r == 0)
        r = make_contexts(codec);
    if (r < 0) {
        codec_destroy(codec);
        return r;
    }
    *made = codec;
    return 0;
}

static void free_contexts(struct codec *codec)
{
    for (unsigned i = 0; i < codec->count; i++) {
        ZSTD_freeCCtx(atomic_load(&codec->contexts[i].pack));
        ZSTD_freeDCtx(atomic_load(&codec->contexts[i].unpack));
    }
    free(codec->contexts);
}

void codec_destroy(struct codec *codec)
{
    if (!codec)
        return;
    if (codec->contexts)
        free_contexts(codec);
    codec_unpacker_destroy(codec->last);
    pthread_mutex_destroy(&codec->last_lock);
    free(codec);
}

static struct contexts *contexts_here(struct codec *codec)
{
    return &codec->contexts[os_cpu_now() % codec->count];
}

/* A thread takes a context by an atomic exchange, and puts the context back by another exchange.
 * The exchanges are sequentially consistent, so the next user of a context sees everything that
 * the last user did to the context. */

static ZSTD_CCtx *take_pack_context(struct codec *codec)
{
    ZSTD_CCtx *context = atomic_exchange(&contexts_here(codec)->pack, NULL);
    if (context)
        return context;
    context = ZSTD_createCCtx();
    if (context)
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, codec->level);
    return context;
}

long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room)
{
    ZSTD_CCtx *context = take_pack_context(codec);
    if (!context)
        return -ENOMEM;
    size_t n = ZSTD_compress2(context, out, room, page, size);
    ZSTD_freeCCtx(atomic_exchange(&contexts_here(codec)->pack, context));
    if (!ZSTD_isError(n))
        return (long)n;
    return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
}

static int unpack(ZSTD_DCtx *context, const void *packed, size_t packed_size, void *page,
                  size_t size)
{
    size_t n = ZSTD_decompressDCtx(context, page, size, packed, packed_size);
    assert(n == size); /* cannot fail: codec_pack has made these bytes, and they never change */
    return n == size ? 0 : -EIO;
}

static int unpack_with_last(struct codec *codec, const void *packed, size_t packed_size,
                            void *page, size_t size)
{
    pthread_mutex_lock(&codec->last_lock);
    int r = unpack(codec->last->context, packed, packed_size, page, size);
    pthread_mutex_unlock(&codec->last_lock);
    return r;
}

int codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                 size_t packed_size, void *page, size_t size)
{
    if (unpacker)
        return unpack(unpacker->context, packed, packed_size, page, size);
    ZSTD_DCtx *context = atomic_exchange(&contexts_here(codec)->unpack, NULL);
    if (!context)
        context = ZSTD_createDCtx();
    if (!context)
        return unpack_with_last(codec, packed, packed_size, page, size);
    int r = unpack(context, packed, packed_size, page, size);
    ZSTD_freeDCtx(atomic_exchange(&contexts_here(codec)->unpack, context));
    return r;
}
