/* SPDX-License-Identifier: BSD-3-Clause */

/* One thread at a time sweeps: the hand goes round the disk in page order and ages the frames it
 * meets, 0 -> 1 -> 2; a frame still aged 2 when the hand comes by again was not written for two
 * rounds, and is frozen.  A round starts every EPOCH seconds, at once when more frames are hot
 * than their share (then age 1 is old enough), and at once and with no regard to age when
 * somebody waits for room.  After a grace period the frozen pages are ripe, and every thread
 * works on those:
 *
 *     hot frame --sweep--> frozen --grace period--> ripe --pack--> blob      it shrank by 1/32
 *         ^                  |                              +----> hole      all zeroes
 *         '---- written -----'                              '----> INERT     it did not shrink
 *
 * Packing works on a copy of the page, because zstd makes no promise for input that changes under
 * it.  What makes the copy true is that the word is still the very one that was frozen when the
 * blob is swapped in.  That holds from one look at the word to the swap within one section: only
 * so can the frame not have been trimmed, released and used for the same page again in between.
 *
 * With nothing hot and nothing to tidy the threads sleep.
 *
 * The log of blobs is tidied here too: when too much of it is dead, the emptiest segment's blobs
 * are stored again, at its end.
 *
 * Locks: `lock` guards the hand and the ripe pages; it is not held while anything is packed,
 * swept or waited for.
 */

#include "disk/zstd/compressor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/zstd/blob_log.h"
#include "os/bytes.h"
#include "disk/zstd/codec.h"
#include "disk/memory/rcu.h"
#include "os/thread.h"

#define EPOCH 1           /* seconds */
#define RIPE_MAX 256      /* pages frozen for one grace period */
#define SWEEP_STEPS 8192  /* looks at the table in one section */
#define SWEEP_SECTIONS 64 /* sections until somebody may want to stop */
#define WORK_PAGES 4      /* pages that a thread takes on at once */
#define THREADS_MAX 16
#define HOT_LEAST 8 /* frames that may stay hot however little memory there is */

struct compressor {
    /* constant after start */
    struct paged *paged;
    struct codec *codec;
    struct blob_log blobs;
    int64_t hot_share; /* frames: beyond this, compress at once */
    int64_t hot_most;  /* frames: beyond this, writers help */
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;

    _Atomic int64_t hot; /* frames that wait to be compressed */
    _Atomic bool untidy; /* too much of the log is dead */

    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t wake;     /* for the threads: there may be something to do */
    pthread_cond_t progress; /* for everybody else: something was done */
    struct reclaim_item ripe[RIPE_MAX];
    unsigned ripe_count;    /* only a sweep adds, and only when there are none */
    unsigned at_work;       /* pages taken from ripe that are not done */
    bool sweeping, tidying; /* one thread is */
    bool round_on;          /* the hand is on its way round */
    uint64_t hand;          /* the page where it is */
    uint64_t rounds;        /* that were completed */
    uint64_t compressed;      /* pages that no longer take a frame */
    unsigned demand;        /* callers who wait for room */
    uint64_t demanded;      /* rounds, by which the last of them will have seen all of the disk */
    struct timespec next_round;
    bool blocked; /* blobs find no room: no haste until the next round */
    bool stop;

    struct reclaim_item frozen[RIPE_MAX]; /* the sweeping thread's own */
    unsigned frozen_count;
};

/* Hot frames. */

static int64_t hot_now(struct compressor *compressor)
{
    return atomic_load_explicit(&compressor->hot, memory_order_relaxed);
}

static void wake_threads(struct compressor *compressor)
{
    pthread_mutex_lock(&compressor->lock);
    pthread_cond_broadcast(&compressor->wake);
    pthread_mutex_unlock(&compressor->lock);
}

/* The threads look at `hot` under the lock before they sleep, and are woken under it. */
void compressor_count(struct compressor *compressor, int change)
{
    int64_t before = atomic_fetch_add_explicit(&compressor->hot, change, memory_order_relaxed);
    if (change > 0 && (before == 0 || before == compressor->hot_share))
        wake_threads(compressor);
}

/* Squeezing one page. */

int compressor_inflate(struct compressor *compressor, uint64_t word, void *page)
{
    const struct blob *blob = blob_log_at(&compressor->blobs, entry_number(word));
    return codec_unpack(compressor->codec, blob->bytes, blob->size, page,
                        paged_page_size(compressor->paged));
}

void compressor_drop(struct compressor *compressor, uint64_t word)
{
    if (blob_log_drop(&compressor->blobs, entry_number(word)) &&
        !atomic_exchange_explicit(&compressor->untidy, true, memory_order_relaxed))
        wake_threads(compressor);
}

/* What came of a frozen page.  LOST: it was written or trimmed meanwhile, or did not shrink. */
enum outcome { LOST, SQUEEZED, NO_ROOM };

/* In a section: put a blob where `word` stands. */
static enum outcome swap_in_blob(struct compressor *compressor, slot_t *slot, uint64_t page,
                                 uint64_t word, const void *packed, size_t size,
                                 struct deferred *left)
{
    uint64_t number, expected = word;
    if (blob_log_store(&compressor->blobs, page, packed, size, &number) < 0) {
        paged_swap(compressor->paged, slot, &expected, entry_thawed(word));
        return NO_ROOM;
    }
    if (!slot_swap(slot, &expected, entry_make(ENTRY_BLOB, number))) {
        blob_log_drop(&compressor->blobs, number);
        return LOST;
    }
    deferred_add(left, page, word, false);
    return SQUEEZED;
}

/* In a section: finish with the frozen page behind slot, whose word is exactly `word`. */
static enum outcome compressor_page(struct compressor *compressor, slot_t *slot, uint64_t page,
                                 uint64_t word, struct deferred *left)
{
    struct paged *paged = compressor->paged;
    size_t size = paged_page_size(paged);
    char copy[PAGE_SIZE_MAX], packed[PAGE_SIZE_MAX];
    bytes_load(copy, paged_frame(paged, word), size);
    if (bytes_are_zero(copy, size)) {
        paged_make_hole(paged, slot, page, word, left);
        return left->count > 0 ? SQUEEZED : LOST;
    }
    long n = codec_pack(compressor->codec, copy, size, packed, size - size / 32);
    if (n > 0)
        return swap_in_blob(compressor, slot, page, word, packed, (size_t)n, left);
    unsigned age = n == 0 ? ENTRY_AGE_INERT : 0;
    paged_swap(paged, slot, &word, entry_thawed(entry_aged(word, age)));
    return n == 0 ? LOST : NO_ROOM;
}

static enum outcome compressor_one(struct compressor *compressor, const struct reclaim_item *ripe)
{
    uint64_t span;
    struct deferred left = {0};
    enum outcome outcome = LOST;
    rcu_enter();
    slot_t *slot = table_find(&compressor->paged->table, ripe->page, &span);
    if (slot) {
        slot = table_resolve(&compressor->paged->table, slot);
        if (slot_load(slot) == ripe->word)
            outcome = compressor_page(compressor, slot, ripe->page, ripe->word, &left);
    }
    rcu_leave();
    deferred_flush(compressor->paged, &left);
    return outcome;
}

/* Work on a few ripe pages.  Releases the lock, and takes it again. */
static void work_locked(struct compressor *compressor)
{
    struct reclaim_item work[WORK_PAGES];
    unsigned count = 0, outcomes[3] = {0};
    while (count < WORK_PAGES && compressor->ripe_count)
        work[count++] = compressor->ripe[--compressor->ripe_count];
    compressor->at_work += count;
    pthread_mutex_unlock(&compressor->lock);
    for (unsigned i = 0; i < count; i++)
        outcomes[compressor_one(compressor, &work[i])]++;
    if (outcomes[NO_ROOM]) /* for the next: free frames are no room for blobs */
        paged_collect(compressor->paged);
    pthread_mutex_lock(&compressor->lock);
    compressor->at_work -= count;
    compressor->compressed += outcomes[SQUEEZED];
    if (outcomes[NO_ROOM] && !outcomes[SQUEEZED])
        compressor->blocked = true;
    pthread_cond_broadcast(&compressor->progress);
}

/* Sweeping. */

/* How old a frame must be to be frozen, as things are. */
static unsigned old_enough_locked(struct compressor *compressor)
{
    if (compressor->demand)
        return 0;
    return hot_now(compressor) > compressor->hot_share ? 1 : ENTRY_AGE_COLD;
}

/* In a section: age a frame, or freeze it. */
static void sweep_page(struct compressor *compressor, slot_t *slot, uint64_t page, unsigned old_enough)
{
    uint64_t word = slot_load(slot);
    if (!entry_hot(word) || (word & ENTRY_FROZEN))
        return;
    if (entry_age(word) < old_enough)
        slot_swap(slot, &word, entry_aged(word, entry_age(word) + 1));
    else if (table_freeze(&compressor->paged->table, slot, &word))
        compressor->frozen[compressor->frozen_count++] =
            (struct reclaim_item){.word = word, .page = page, .frozen = true};
}

/* One section's worth of the way round; returns where it got to. */
static uint64_t sweep_some(struct compressor *compressor, uint64_t hand, unsigned old_enough)
{
    struct table *table = &compressor->paged->table;
    rcu_enter();
    for (unsigned steps = 0; steps < SWEEP_STEPS && hand < table->pages; steps++) {
        uint64_t span;
        slot_t *slot = table_find(table, hand, &span);
        for (uint64_t i = 0; slot && i < span && compressor->frozen_count < RIPE_MAX; i++, hand++)
            sweep_page(compressor, table_resolve(table, slot + i), hand, old_enough);
        if (compressor->frozen_count == RIPE_MAX)
            break;
        if (!slot)
            hand += span;
    }
    rcu_leave();
    return hand;
}

static void set_next_round_locked(struct compressor *compressor)
{
    clock_gettime(CLOCK_MONOTONIC, &compressor->next_round);
    compressor->next_round.tv_sec += EPOCH;
}

/* Go on with the round for a while, or until enough pages are frozen, or it is over, and wait
 * until they are ripe.  To be called with none ripe.  Releases the lock, and takes it again. */
static void sweep_locked(struct compressor *compressor)
{
    uint64_t hand = compressor->hand, pages = compressor->paged->table.pages;
    unsigned old_enough = old_enough_locked(compressor);
    compressor->sweeping = true;
    compressor->round_on = true;
    compressor->blocked = false;
    compressor->frozen_count = 0;
    pthread_mutex_unlock(&compressor->lock);
    for (unsigned i = 0; i < SWEEP_SECTIONS && hand < pages; i++) {
        if (compressor->frozen_count == RIPE_MAX)
            break;
        hand = sweep_some(compressor, hand, old_enough);
    }
    if (compressor->frozen_count)
        rcu_wait();
    pthread_mutex_lock(&compressor->lock);
    memcpy(compressor->ripe, compressor->frozen, compressor->frozen_count * sizeof compressor->ripe[0]);
    compressor->ripe_count = compressor->frozen_count;
    compressor->hand = hand;
    if (hand >= pages) {
        compressor->hand = 0;
        compressor->rounds++;
        compressor->round_on = false;
        set_next_round_locked(compressor);
    }
    compressor->sweeping = false;
    pthread_cond_broadcast(&compressor->wake);
    pthread_cond_broadcast(&compressor->progress);
}

static bool is_time_locked(const struct compressor *compressor)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > compressor->next_round.tv_sec ||
           (now.tv_sec == compressor->next_round.tv_sec &&
            now.tv_nsec >= compressor->next_round.tv_nsec);
}

static bool should_sweep_locked(struct compressor *compressor)
{
    if (compressor->sweeping || compressor->ripe_count)
        return false;
    if (compressor->round_on || (compressor->demand && compressor->rounds < compressor->demanded))
        return true;
    int64_t hot = hot_now(compressor);
    return (hot > compressor->hot_share && !compressor->blocked) ||
           (hot > 0 && is_time_locked(compressor));
}

/* Tidying the log. */

/* Store a blob again, elsewhere, if it is still somebody's. */
static int move_blob(struct compressor *compressor, uint64_t number)
{
    const struct blob *blob = blob_log_at(&compressor->blobs, number);
    struct table *table = &compressor->paged->table;
    struct deferred left = {0};
    uint64_t span, moved;
    int r = 0;
    rcu_enter();
    slot_t *slot = table_find(table, blob->page, &span);
    uint64_t word = slot ? slot_load(slot = table_resolve(table, slot)) : 0;
    if (entry_kind(word) == ENTRY_BLOB && entry_number(word) == number) {
        r = blob_log_store(&compressor->blobs, blob->page, blob->bytes, blob->size, &moved);
        if (r == 0 && slot_swap(slot, &word, entry_make(ENTRY_BLOB, moved)))
            deferred_add(&left, blob->page, word, false);
        else if (r == 0)
            blob_log_drop(&compressor->blobs, moved);
    }
    rcu_leave();
    deferred_flush(compressor->paged, &left);
    return r;
}

/* Empty the worst segment.  False if there is none, or no room to move its blobs to.  It is gone
 * only after a grace period, and must be before the next is chosen. */
static bool empty_segment(struct compressor *compressor, bool must)
{
    uint64_t number;
    int r = 0;
    if (!blob_log_worst(&compressor->blobs, must, &number))
        return false;
    do
        r = r < 0 ? r : move_blob(compressor, number);
    while (blob_log_next(&compressor->blobs, &number));
    reclaim_run(&compressor->paged->reclaim);
    return r == 0;
}

/* Empty segments until the log is tidy, or if there must be room, one.  Releases the lock, and
 * takes it again.  False if nothing was gained. */
static bool tidy_locked(struct compressor *compressor, bool must)
{
    compressor->tidying = true;
    atomic_store_explicit(&compressor->untidy, false, memory_order_relaxed);
    pthread_mutex_unlock(&compressor->lock);
    bool gained = empty_segment(compressor, must);
    while (gained && !must && empty_segment(compressor, must))
        ;
    pthread_mutex_lock(&compressor->lock);
    compressor->tidying = false;
    pthread_cond_broadcast(&compressor->progress);
    return gained;
}

static bool should_tidy_locked(struct compressor *compressor)
{
    return !compressor->tidying && atomic_load_explicit(&compressor->untidy, memory_order_relaxed);
}

/* The threads. */

static void sleep_locked(struct compressor *compressor)
{
    if (hot_now(compressor) > 0 && !compressor->sweeping && !compressor->ripe_count)
        pthread_cond_timedwait(&compressor->wake, &compressor->lock, &compressor->next_round);
    else
        pthread_cond_wait(&compressor->wake, &compressor->lock);
}

static void *thread_main(void *arg)
{
    struct compressor *compressor = arg;
    os_thread_background();
    pthread_mutex_lock(&compressor->lock);
    while (!compressor->stop) {
        if (compressor->ripe_count)
            work_locked(compressor);
        else if (should_sweep_locked(compressor))
            sweep_locked(compressor);
        else if (should_tidy_locked(compressor))
            tidy_locked(compressor, false);
        else
            sleep_locked(compressor);
    }
    pthread_mutex_unlock(&compressor->lock);
    return NULL;
}

/* Callers. */

/* One turn is enough: it does as much as a write of a few pages adds.  With nothing ripe there is
 * a grace period to be waited for, some ten milliseconds at the most. */
void compressor_help(struct compressor *compressor)
{
    if (hot_now(compressor) <= compressor->hot_most)
        return;
    pthread_mutex_lock(&compressor->lock);
    if (compressor->ripe_count) {
        work_locked(compressor);
    } else if (compressor->thread_count && !compressor->blocked) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 10L * 1000 * 1000;
        if (until.tv_nsec >= 1000L * 1000 * 1000) {
            until.tv_nsec -= 1000L * 1000 * 1000;
            until.tv_sec++;
        }
        pthread_cond_broadcast(&compressor->wake);
        pthread_cond_timedwait(&compressor->progress, &compressor->lock, &until);
    }
    pthread_mutex_unlock(&compressor->lock);
}

/* Wait, with the threads sparing no frame, until one is compressed (if that is enough), or all were
 * tried: of two rounds that end from now on, the second has seen all of the disk. */
static bool demand(struct compressor *compressor, bool one_is_enough)
{
    pthread_mutex_lock(&compressor->lock);
    uint64_t compressed = compressor->compressed, rounds = compressor->rounds;
    compressor->demand++;
    compressor->demanded = rounds + 2;
    pthread_cond_broadcast(&compressor->wake);
    while (compressor->thread_count && !compressor->stop) {
        bool all_tried =
            compressor->rounds >= rounds + 2 && !compressor->ripe_count && !compressor->at_work;
        if (all_tried || (one_is_enough && compressor->compressed != compressed))
            break;
        pthread_cond_wait(&compressor->progress, &compressor->lock);
    }
    compressor->demand--;
    bool any = compressor->compressed != compressed;
    pthread_mutex_unlock(&compressor->lock);
    return any;
}

/* If it is the machine that had no room for blobs just now, there will be none before the next
 * round; but there may be some between those that live. */
bool compressor_make_room(struct compressor *compressor)
{
    pthread_mutex_lock(&compressor->lock);
    bool hopeless =
        compressor->paged->budget->limit == 0 && compressor->blocked && !is_time_locked(compressor);
    pthread_mutex_unlock(&compressor->lock);
    if (hot_now(compressor) > 0 && !hopeless && demand(compressor, true))
        return true;
    pthread_mutex_lock(&compressor->lock);
    while (compressor->tidying)
        pthread_cond_wait(&compressor->progress, &compressor->lock);
    bool gained = tidy_locked(compressor, true);
    pthread_mutex_unlock(&compressor->lock);
    return gained;
}

/* Squeezing leaves frames to reclaim, reclaiming leaves blobs to tidy, and that more to reclaim.
 */
void compressor_settle(struct compressor *compressor)
{
    bool again = true;
    demand(compressor, false);
    while (again) {
        reclaim_run(&compressor->paged->reclaim);
        pthread_mutex_lock(&compressor->lock);
        again = compressor->thread_count && (compressor->tidying || should_tidy_locked(compressor));
        if (again)
            pthread_cond_wait(&compressor->progress, &compressor->lock);
        pthread_mutex_unlock(&compressor->lock);
    }
}

void compressor_shrink(struct compressor *compressor)
{
    pool_shrink(&compressor->blobs.segments);
}

void compressor_stats(struct compressor *compressor, struct disk_stats *stats)
{
    struct blob_log_stats blobs;
    blob_log_stats(&compressor->blobs, &blobs);
    stats->compressed = blobs.count;
    stats->blob_bytes = blobs.bytes;
}

/* Making and unmaking. */

static void init_sync(struct compressor *compressor)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&compressor->lock, NULL);
    pthread_cond_init(&compressor->wake, &monotonic);
    pthread_cond_init(&compressor->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int compressor_create(struct paged *paged, int level, const struct pool_options *options,
                   struct compressor **made)
{
    struct compressor *compressor = calloc(1, sizeof *compressor);
    if (!compressor)
        return -ENOMEM;
    compressor->paged = paged;
    init_sync(compressor);
    uint64_t share = budget_total(paged->budget) / 4 >> paged->page_shift;
    compressor->hot_share = share > HOT_LEAST ? (int64_t)share : HOT_LEAST;
    compressor->hot_most = compressor->hot_share + compressor->hot_share / 8;
    int r = codec_create(level, &compressor->codec);
    if (r == 0)
        r = blob_log_create(&compressor->blobs, options);
    if (r < 0) {
        compressor_destroy(compressor);
        return r;
    }
    *made = compressor;
    return 0;
}

/* Half of the processors: the other half has requests to serve. */
int compressor_start(struct compressor *compressor)
{
    unsigned wanted = (os_cpu_count() + 1) / 2;
    if (wanted > THREADS_MAX)
        wanted = THREADS_MAX;
    for (unsigned i = 0; i < wanted; i++) {
        int r = os_thread_start(&compressor->threads[i], thread_main, compressor);
        if (r < 0)
            return r;
        compressor->thread_count++;
    }
    return 0;
}

void compressor_stop(struct compressor *compressor)
{
    pthread_mutex_lock(&compressor->lock);
    compressor->stop = true;
    pthread_cond_broadcast(&compressor->wake);
    pthread_mutex_unlock(&compressor->lock);
    for (unsigned i = 0; i < compressor->thread_count; i++)
        pthread_join(compressor->threads[i], NULL);
    compressor->thread_count = 0;
}

void compressor_destroy(struct compressor *compressor)
{
    if (!compressor)
        return;
    blob_log_destroy(&compressor->blobs);
    codec_destroy(compressor->codec);
    pthread_cond_destroy(&compressor->wake);
    pthread_cond_destroy(&compressor->progress);
    pthread_mutex_destroy(&compressor->lock);
    free(compressor);
}
