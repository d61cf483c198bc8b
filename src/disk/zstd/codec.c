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
    /* Set by codec_create, and constant. */
    int level;
    struct budget *budget;
    unsigned count;            /* number of processors */
    struct contexts *contexts; /* one element for each processor */
    uint64_t unpacker_size;    /* bytes that a context for inflating takes */

    /* How many bytes a context for packing takes.  0 means that this is not known yet: libzstd
     * says it only after the first use.  Set once, under pack_lock.  All contexts take the same,
     * because the level and the size of a page are the same.  Relaxed order is enough: no other
     * data depends on it. */
    _Atomic uint64_t pack_bytes;

    /* Bytes that the budget is charged for contexts of each kind.  Relaxed order, for the same
     * reason. */
    _Atomic uint64_t pack_charged, unpack_charged;

    pthread_mutex_t pack_lock; /* held while common_pack is used */
    ZSTD_CCtx *common_pack;
    pthread_mutex_t unpack_lock; /* held while common_unpack is used */
    struct codec_unpacker *common_unpack;
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

uint64_t codec_unpacker_size(const struct codec *codec)
{
    return codec->unpacker_size;
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

/* Returns NULL if there is no memory. */
static ZSTD_CCtx *make_pack_context(const struct codec *codec)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context)
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, codec->level);
    return context;
}

static int make_common(struct codec *codec)
{
    codec->common_pack = make_pack_context(codec);
    int r = codec->common_pack ? codec_unpacker_create(&codec->common_unpack) : -ENOMEM;
    if (r == 0)
        codec->unpacker_size = ZSTD_sizeof_DCtx(codec->common_unpack->context);
    return r;
}

int codec_create(int level, struct budget *budget, struct codec **made)
{
    struct codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return -ENOMEM;
    codec->level = level;
    codec->budget = budget;
    codec->count = os_cpu_count();
    pthread_mutex_init(&codec->pack_lock, NULL);
    pthread_mutex_init(&codec->unpack_lock, NULL);
    int r = make_common(codec);
    if (r == 0)
        r = make_contexts(codec);
    if (r < 0) {
        codec_destroy(codec);
        return r;
    }
    *made = codec;
    return 0;
}

/* Charge a context to the budget.  Contexts of one kind get at most a quarter of the keepback.
 * Otherwise they would leave little room for pages if the limit is low and there are many
 * processors. */
static bool charge_context(struct codec *codec, _Atomic uint64_t *charged, uint64_t bytes)
{
    uint64_t most = codec->budget->keepback / 4;
    if (atomic_fetch_add_explicit(charged, bytes, memory_order_relaxed) + bytes <= most &&
        budget_take_overhead(codec->budget, bytes, BUDGET_PACK) == 0)
        return true;
    atomic_fetch_sub_explicit(charged, bytes, memory_order_relaxed);
    return false;
}

static void discharge_context(struct codec *codec, _Atomic uint64_t *charged, uint64_t bytes)
{
    atomic_fetch_sub_explicit(charged, bytes, memory_order_relaxed);
    budget_give_overhead(codec->budget, bytes);
}

static uint64_t pack_bytes(const struct codec *codec)
{
    return atomic_load_explicit(&codec->pack_bytes, memory_order_relaxed);
}

/* Free a context that was charged to the budget.  NULL is accepted. */
static void free_pack_context(struct codec *codec, ZSTD_CCtx *context)
{
    if (context)
        discharge_context(codec, &codec->pack_charged, pack_bytes(codec));
    ZSTD_freeCCtx(context);
}

static void free_unpack_context(struct codec *codec, ZSTD_DCtx *context)
{
    if (context)
        discharge_context(codec, &codec->unpack_charged, codec_unpacker_size(codec));
    ZSTD_freeDCtx(context);
}

static void free_contexts(struct codec *codec)
{
    for (unsigned i = 0; i < codec->count; i++) {
        free_pack_context(codec, atomic_load(&codec->contexts[i].pack));
        free_unpack_context(codec, atomic_load(&codec->contexts[i].unpack));
    }
    free(codec->contexts);
}

void codec_destroy(struct codec *codec)
{
    if (!codec)
        return;
    if (codec->contexts)
        free_contexts(codec);
    codec_unpacker_destroy(codec->common_unpack);
    ZSTD_freeCCtx(codec->common_pack);
    pthread_mutex_destroy(&codec->unpack_lock);
    pthread_mutex_destroy(&codec->pack_lock);
    free(codec);
}

static struct contexts *contexts_here(struct codec *codec)
{
    return &codec->contexts[os_cpu_now() % codec->count];
}

/* A thread takes a context by an atomic exchange, and puts the context back by another exchange.
 * The exchanges are sequentially consistent, so the next user of a context sees everything that
 * the last user did to the context. */

/* Returns NULL if the budget or the system has no memory for another context. */
static ZSTD_CCtx *take_pack_context(struct codec *codec)
{
    ZSTD_CCtx *context = atomic_exchange(&contexts_here(codec)->pack, NULL);
    uint64_t bytes = pack_bytes(codec);
    if (context || bytes == 0 || !charge_context(codec, &codec->pack_charged, bytes))
        return context;
    context = make_pack_context(codec);
    if (!context)
        discharge_context(codec, &codec->pack_charged, bytes);
    return context;
}

static long pack(ZSTD_CCtx *context, const void *page, size_t size, void *out, size_t room)
{
    size_t n = ZSTD_compress2(context, out, room, page, size);
    if (!ZSTD_isError(n))
        return (long)n;
    return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
}

/* The caller holds pack_lock, which this releases. */
static long pack_with_common_locked(struct codec *codec, const void *page, size_t size, void *out,
                                    size_t room)
{
    long n = pack(codec->common_pack, page, size, out, room);
    if (n != -ENOMEM && pack_bytes(codec) == 0)
        atomic_store_explicit(&codec->pack_bytes, ZSTD_sizeof_CCtx(codec->common_pack),
                              memory_order_relaxed);
    pthread_mutex_unlock(&codec->pack_lock);
    return n;
}

long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room)
{
    if (pthread_mutex_trylock(&codec->pack_lock) == 0)
        return pack_with_common_locked(codec, page, size, out, room);
    ZSTD_CCtx *context = take_pack_context(codec);
    if (!context) {
        pthread_mutex_lock(&codec->pack_lock);
        return pack_with_common_locked(codec, page, size, out, room);
    }
    long n = pack(context, page, size, out, room);
    free_pack_context(codec, atomic_exchange(&contexts_here(codec)->pack, context));
    return n;
}

static int unpack(ZSTD_DCtx *context, const void *packed, size_t packed_size, void *page,
                  size_t size)
{
    size_t n = ZSTD_decompressDCtx(context, page, size, packed, packed_size);
    assert(n == size); /* cannot fail: codec_pack has made these bytes, and they never change */
    return n == size ? 0 : -EIO;
}

static int unpack_with_common(struct codec *codec, const void *packed, size_t packed_size,
                              void *page, size_t size)
{
    pthread_mutex_lock(&codec->unpack_lock);
    int r = unpack(codec->common_unpack->context, packed, packed_size, page, size);
    pthread_mutex_unlock(&codec->unpack_lock);
    return r;
}

/* Returns NULL if the budget or the system has no memory for another context. */
static ZSTD_DCtx *take_unpack_context(struct codec *codec)
{
    ZSTD_DCtx *context = atomic_exchange(&contexts_here(codec)->unpack, NULL);
    if (context || !charge_context(codec, &codec->unpack_charged, codec_unpacker_size(codec)))
        return context;
    context = ZSTD_createDCtx();
    if (!context)
        discharge_context(codec, &codec->unpack_charged, codec_unpacker_size(codec));
    return context;
}

int codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                 size_t packed_size, void *page, size_t size)
{
    if (unpacker)
        return unpack(unpacker->context, packed, packed_size, page, size);
    ZSTD_DCtx *context = take_unpack_context(codec);
    if (!context)
        return unpack_with_common(codec, packed, packed_size, page, size);
    int r = unpack(context, packed, packed_size, page, size);
    free_unpack_context(codec, atomic_exchange(&contexts_here(codec)->unpack, context));
    return r;
}
