/* SPDX-License-Identifier: BSD-3-Clause */

/* This file has the threads of the compressor, the functions that requests call, and the
 * functions that make and destroy the compressor. */

#include "disk/zstd/compressor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/disk.h"
#include "disk/zstd/cache.h"
#include "os/thread.h"

#define HOT_SHARE_LEAST 8 /* the hot share is at least this number of frames */

/* Functions that read and drop compressed pages. */

static uint64_t cache_bytes(const struct compressor *compressor)
{
    return cache_size(paged_page_size(compressor->paged)) +
           codec_unpacker_size(compressor->codec);
}

/* If the budget does not allow the memory for a cache, set *cache to NULL and return 0.  Reads
 * work without a cache. */
static int compressor_cache_create(void *state, struct disk_cache **cache)
{
    struct compressor *compressor = state;
    size_t page_size = paged_page_size(compressor->paged);
    uint64_t bytes = cache_bytes(compressor);
    *cache = NULL;
    if (budget_take_overhead(compressor->paged->budget, bytes, BUDGET_GROW) < 0)
        return 0;
    int r = cache_create(page_size, cache);
    if (r < 0)
        budget_give_overhead(compressor->paged->budget, bytes);
    return r;
}

static void compressor_cache_destroy(void *state, struct disk_cache *cache)
{
    struct compressor *compressor = state;
    cache_destroy(cache);
    budget_give_overhead(compressor->paged->budget, cache_bytes(compressor));
}

static int inflate(struct compressor *compressor, struct disk_cache *cache, uint64_t word,
                   void *page)
{
    const struct blob *blob = blob_log_at(&compressor->blobs, entry_number(word));
    return codec_unpack(compressor->codec, cache ? cache_unpacker(cache) : NULL, blob->bytes,
                        blob->size, page, paged_page_size(compressor->paged));
}

static int compressor_read(void *state, struct disk_cache *cache, uint64_t word, void *page)
{
    struct compressor *compressor = state;
    const void *found = cache ? cache_find(cache, &compressor->blobs, word) : NULL;
    if (!found)
        return inflate(compressor, cache, word, page);
    memcpy(page, found, paged_page_size(compressor->paged));
    return 0;
}

static int compressor_peek(void *state, struct disk_cache *cache, uint64_t word,
                           const void **page)
{
    struct compressor *compressor = state;
    *page = cache_find(cache, &compressor->blobs, word);
    if (*page)
        return 0;
    void *place = cache_take(cache);
    int r = inflate(compressor, cache, word, place);
    if (r == 0)
        cache_keep(cache, &compressor->blobs, word);
    *page = place;
    return r;
}

/* Wake the threads of the compressor.  The broadcast is sent under the lock, because a thread
 * checks for work under the lock before it sleeps.  Without the lock, the broadcast could come
 * between the check and the sleep, and the thread would miss it. */
static void compressor_wake(void *state)
{
    struct compressor *compressor = state;
    pthread_mutex_lock(&compressor->lock);
    pthread_cond_broadcast(&compressor->wake);
    pthread_mutex_unlock(&compressor->lock);
}

static void compressor_drop(void *state, uint64_t word)
{
    struct compressor *compressor = state;
    if (blob_log_drop(&compressor->blobs, entry_number(word)) &&
        !atomic_exchange_explicit(&compressor->untidy, true, memory_order_relaxed))
        compressor_wake(compressor);
}

/* The threads. */

static void sleep_locked(struct compressor *compressor)
{
    if (!compressor->paused && paged_hot(compressor->paged) > 0 && !compressor->sweeping &&
        !compressor->ripe_count)
        pthread_cond_timedwait(&compressor->wake, &compressor->lock, &compressor->next_round);
    else
        pthread_cond_wait(&compressor->wake, &compressor->lock);
}

/* Do some work of the most urgent kind.  Returns false if there is nothing to do. */
static bool work_locked(struct compressor *compressor)
{
    if (compressor->paused)
        return false;
    if (compressor->ripe_count)
        compressor_pack_locked(compressor);
    else if (compressor_should_sweep_locked(compressor))
        compressor_sweep_locked(compressor);
    else if (compressor_should_tidy_locked(compressor))
        compressor_tidy_locked(compressor, BLOB_LOG_TIDY);
    else
        return false;
    return true;
}

static void *compressor_main(void *arg)
{
    struct compressor *compressor = arg;
    os_thread_background();
    pthread_mutex_lock(&compressor->lock);
    while (!compressor->stop)
        if (!work_locked(compressor))
            sleep_locked(compressor);
    pthread_mutex_unlock(&compressor->lock);
    return NULL;
}

/* Functions in which a request waits for the compressor, or does some of its work. */

static void wait_ten_milliseconds_locked(struct compressor *compressor)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 10L * 1000 * 1000;
    if (until.tv_nsec >= 1000L * 1000 * 1000) {
        until.tv_nsec -= 1000L * 1000 * 1000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&compressor->progress, &compressor->lock, &until);
}

/* Compress a few ripe pages in the thread of a writer.  One call after each write is enough,
 * because a write makes no more frames hot than one call compresses.  If no page is ripe, the
 * writer waits instead: until the threads of the compressor have done some work, or for ten
 * milliseconds.  The threads need a grace period, which seldom takes longer. */
static void compressor_help(void *state)
{
    struct compressor *compressor = state;
    if (paged_gives_up(compressor->paged))
        return;
    pthread_mutex_lock(&compressor->lock);
    if (compressor->ripe_count) {
        compressor_pack_locked(compressor);
    } else if (compressor->thread_count && !compressor->no_room_for_blobs) {
        pthread_cond_broadcast(&compressor->wake);
        wait_ten_milliseconds_locked(compressor);
    }
    pthread_mutex_unlock(&compressor->lock);
}

enum goal { ONE_PAGE_PACKED, ALL_PAGES_TRIED };

/* Wait until the threads have reached `goal`: one page was compressed, or each page in a hot
 * frame was tried.  While a caller waits here, the threads freeze hot frames of any age.  After
 * two more rounds all of these pages have been tried, because the first of these rounds can have
 * begun before the call, but the second is complete.  Returns true if any page was compressed. */
static bool wait_for_packing(struct compressor *compressor, enum goal goal)
{
    pthread_mutex_lock(&compressor->lock);
    uint64_t packed = compressor->packed, last_round = compressor->rounds + 2;
    compressor->waiters++;
    compressor->waited_rounds = last_round;
    pthread_cond_broadcast(&compressor->wake);
    while (compressor->thread_count && !compressor->stop) {
        if (goal == ONE_PAGE_PACKED && paged_gives_up(compressor->paged))
            break;
        bool all_tried =
            compressor->rounds >= last_round && !compressor->ripe_count && !compressor->packing;
        if (all_tried || (goal == ONE_PAGE_PACKED && compressor->packed != packed))
            break;
        pthread_cond_wait(&compressor->progress, &compressor->lock);
    }
    compressor->waiters--;
    bool any = compressor->packed != packed;
    pthread_mutex_unlock(&compressor->lock);
    return any;
}

/* Free memory for a request.  If the machine has just refused memory for blobs, no page can be
 * compressed until the next round is due.  But emptying segments of the log can still free
 * memory. */
static bool compressor_make_room(void *state)
{
    struct compressor *compressor = state;
    const struct paged *paged = compressor->paged;
    pthread_mutex_lock(&compressor->lock);
    bool hopeless = paged->budget->limit == 0 && compressor->no_room_for_blobs &&
                    !compressor_is_round_due_locked(compressor);
    pthread_mutex_unlock(&compressor->lock);
    if (paged_hot(paged) > 0 && !hopeless && wait_for_packing(compressor, ONE_PAGE_PACKED))
        return true;
    pthread_mutex_lock(&compressor->lock);
    while (compressor->tidying && !paged_gives_up(paged))
        pthread_cond_wait(&compressor->progress, &compressor->lock);
    bool gained = !paged_gives_up(paged) && compressor_tidy_locked(compressor, BLOB_LOG_ROOM);
    pthread_mutex_unlock(&compressor->lock);
    return gained;
}

static void compressor_give_up_waiting(void *state)
{
    struct compressor *compressor = state;
    pthread_mutex_lock(&compressor->lock);
    pthread_cond_broadcast(&compressor->progress);
    pthread_mutex_unlock(&compressor->lock);
}

static void compressor_shrink(void *state)
{
    struct compressor *compressor = state;
    pool_shrink(&compressor->blobs.segments);
}

/* Wait until no work is left.  One kind of work leads to another.  Compressing pages leaves their
 * frames to reclaim.  Reclaim leaves dead blobs in the log, so that segments have to be emptied.
 * Emptying a segment leaves its old blobs to reclaim. */
static void compressor_settle(void *state)
{
    struct compressor *compressor = state;
    bool again = true;
    wait_for_packing(compressor, ALL_PAGES_TRIED);
    while (again) {
        reclaim_run(&compressor->paged->reclaim);
        pthread_mutex_lock(&compressor->lock);
        again = compressor->thread_count &&
                (compressor->tidying || compressor_should_tidy_locked(compressor));
        if (again)
            pthread_cond_wait(&compressor->progress, &compressor->lock);
        pthread_mutex_unlock(&compressor->lock);
    }
}

static void compressor_stats(void *state, struct disk_stats *stats)
{
    struct compressor *compressor = state;
    struct blob_log_stats blobs;
    blob_log_stats(&compressor->blobs, &blobs);
    stats->compressed = blobs.count;
    stats->blob_bytes = blobs.bytes;
}

/* Checks. */

static void compressor_pause(void *state)
{
    struct compressor *compressor = state;
    pthread_mutex_lock(&compressor->lock);
    compressor->paused = true;
    while (compressor->packing || compressor->sweeping || compressor->tidying)
        pthread_cond_wait(&compressor->progress, &compressor->lock);
    pthread_mutex_unlock(&compressor->lock);
}

static void compressor_resume(void *state)
{
    struct compressor *compressor = state;
    pthread_mutex_lock(&compressor->lock);
    compressor->paused = false;
    pthread_cond_broadcast(&compressor->wake);
    pthread_mutex_unlock(&compressor->lock);
}

static int compressor_check(void *state, const struct cold_page *pages, size_t count,
                            uint64_t *charged, struct reason *reason)
{
    struct compressor *compressor = state;
    struct blob_alive *alive = calloc(count ? count : 1, sizeof *alive);
    if (!alive)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        alive[i] =
            (struct blob_alive){.number = entry_number(pages[i].word), .page = pages[i].page};
    int r = blob_log_check(&compressor->blobs, alive, count, reason);
    *charged = pool_bytes_charged(&compressor->blobs.segments);
    free(alive);
    return r;
}

/* Functions that make, start and destroy the compressor. */

/* Start one thread for every two processors, so that the other half of the processors can serve
 * requests. */
static int compressor_start(void *state)
{
    struct compressor *compressor = state;
    unsigned wanted = (os_cpu_count() + 1) / 2;
    if (wanted > COMPRESSOR_THREADS_MAX)
        wanted = COMPRESSOR_THREADS_MAX;
    for (unsigned i = 0; i < wanted; i++) {
        int r = os_thread_start(&compressor->threads[i], compressor_main, compressor);
        if (r < 0)
            return r;
        compressor->thread_count++;
    }
    return 0;
}

static void compressor_stop(void *state)
{
    struct compressor *compressor = state;
    pthread_mutex_lock(&compressor->lock);
    compressor->stop = true;
    pthread_cond_broadcast(&compressor->wake);
    pthread_mutex_unlock(&compressor->lock);
    for (unsigned i = 0; i < compressor->thread_count; i++)
        pthread_join(compressor->threads[i], NULL);
    compressor->thread_count = 0;
}

static void compressor_destroy(void *state)
{
    struct compressor *compressor = state;
    blob_log_destroy(&compressor->blobs);
    codec_destroy(compressor->codec);
    pthread_cond_destroy(&compressor->wake);
    pthread_cond_destroy(&compressor->progress);
    pthread_mutex_destroy(&compressor->lock);
    free(compressor);
}

static const struct cold_store compressor_store = {
    .start = compressor_start,
    .stop = compressor_stop,
    .destroy = compressor_destroy,
    .cache_create = compressor_cache_create,
    .cache_destroy = compressor_cache_destroy,
    .read = compressor_read,
    .peek = compressor_peek,
    .drop = compressor_drop,
    .wake = compressor_wake,
    .help = compressor_help,
    .make_room = compressor_make_room,
    .give_up_waiting = compressor_give_up_waiting,
    .shrink = compressor_shrink,
    .settle = compressor_settle,
    .stats = compressor_stats,
    .pause = compressor_pause,
    .resume = compressor_resume,
    .check = compressor_check,
};

static void init_locks(struct compressor *compressor)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&compressor->lock, NULL);
    pthread_cond_init(&compressor->wake, &monotonic);
    pthread_cond_init(&compressor->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* The hot share, in frames: a quarter of the memory, or a quarter of the address space for
 * frames, whichever is less. */
static int64_t hot_share(const struct paged *paged)
{
    uint64_t most = least(budget_total(paged->budget), pool_capacity(&paged->frames));
    uint64_t share = most / 4 >> paged->page_shift;
    return share > HOT_SHARE_LEAST ? (int64_t)share : HOT_SHARE_LEAST;
}

int compressor_create(struct paged *paged, int level)
{
    struct compressor *compressor = calloc(1, sizeof *compressor);
    if (!compressor)
        return -ENOMEM;
    compressor->paged = paged;
    init_locks(compressor);
    int r = codec_create(level, paged->budget, &compressor->codec);
    if (r == 0)
        r = blob_log_create(&compressor->blobs, &paged->pool_options);
    if (r < 0) {
        compressor_destroy(compressor);
        return r;
    }
    int64_t share = hot_share(paged);
    paged->cold = (struct cold){
        .store = &compressor_store,
        .state = compressor,
        .hot_share = share,
        .hot_most = share + share / 8,
    };
    return 0;
}
