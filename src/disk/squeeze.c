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

#include "disk/squeeze.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/blobs.h"
#include "disk/bytes.h"
#include "disk/codec.h"
#include "disk/rcu.h"
#include "os/thread.h"

#define EPOCH 1           /* seconds */
#define RIPE_MAX 256      /* pages frozen for one grace period */
#define SWEEP_STEPS 8192  /* looks at the table in one section */
#define SWEEP_SECTIONS 64 /* sections until somebody may want to stop */
#define WORK_PAGES 4      /* pages that a thread takes on at once */
#define THREADS_MAX 16
#define HOT_LEAST 8 /* frames that may stay hot however little memory there is */

struct squeeze {
    /* constant after start */
    struct paged *paged;
    struct codec *codec;
    struct blobs blobs;
    int64_t hot_share; /* frames: beyond this, squeeze at once */
    int64_t hot_most;  /* frames: beyond this, writers help */
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;

    _Atomic int64_t hot; /* frames that wait to be squeezed */
    _Atomic bool untidy; /* too much of the log is dead */

    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t wake;     /* for the threads: there may be something to do */
    pthread_cond_t progress; /* for everybody else: something was done */
    struct pending ripe[RIPE_MAX];
    unsigned ripe_count;    /* only a sweep adds, and only when there are none */
    unsigned at_work;       /* pages taken from ripe that are not done */
    bool sweeping, tidying; /* one thread is */
    bool round_on;          /* the hand is on its way round */
    uint64_t hand;          /* the page where it is */
    uint64_t rounds;        /* that were completed */
    uint64_t squeezed;      /* pages that no longer take a frame */
    unsigned demand;        /* callers who wait for room */
    uint64_t demanded;      /* rounds, by which the last of them will have seen all of the disk */
    struct timespec next_round;
    bool blocked; /* blobs find no room: no haste until the next round */
    bool stop;

    struct pending frozen[RIPE_MAX]; /* the sweeping thread's own */
    unsigned frozen_count;
};

/* Hot frames. */

static int64_t hot_now(struct squeeze *squeeze)
{
    return atomic_load_explicit(&squeeze->hot, memory_order_relaxed);
}

static void wake_threads(struct squeeze *squeeze)
{
    pthread_mutex_lock(&squeeze->lock);
    pthread_cond_broadcast(&squeeze->wake);
    pthread_mutex_unlock(&squeeze->lock);
}

/* The threads look at `hot` under the lock before they sleep, and are woken under it. */
void squeeze_count(struct squeeze *squeeze, int change)
{
    int64_t before = atomic_fetch_add_explicit(&squeeze->hot, change, memory_order_relaxed);
    if (change > 0 && (before == 0 || before == squeeze->hot_share))
        wake_threads(squeeze);
}

/* Squeezing one page. */

int squeeze_inflate(struct squeeze *squeeze, uint64_t word, void *page)
{
    const struct blob *blob = blobs_at(&squeeze->blobs, entry_number(word));
    return codec_unpack(squeeze->codec, blob->bytes, blob->size, page,
                        paged_page_size(squeeze->paged));
}

void squeeze_drop(struct squeeze *squeeze, uint64_t word)
{
    if (blobs_drop(&squeeze->blobs, entry_number(word)) &&
        !atomic_exchange_explicit(&squeeze->untidy, true, memory_order_relaxed))
        wake_threads(squeeze);
}

/* What came of a frozen page.  LOST: it was written or trimmed meanwhile, or did not shrink. */
enum outcome { LOST, SQUEEZED, NO_ROOM };

/* In a section: put a blob where `word` stands. */
static enum outcome swap_in_blob(struct squeeze *squeeze, slot_t *slot, uint64_t page,
                                 uint64_t word, const void *packed, size_t size,
                                 struct left *left)
{
    uint64_t number, expected = word;
    if (blobs_store(&squeeze->blobs, page, packed, size, &number) < 0) {
        paged_swap(squeeze->paged, slot, &expected, entry_thawed(word));
        return NO_ROOM;
    }
    if (!slot_swap(slot, &expected, entry_make(ENTRY_BLOB, number))) {
        blobs_drop(&squeeze->blobs, number);
        return LOST;
    }
    left_add(left, page, word, false);
    return SQUEEZED;
}

/* In a section: finish with the frozen page behind slot, whose word is exactly `word`. */
static enum outcome squeeze_page(struct squeeze *squeeze, slot_t *slot, uint64_t page,
                                 uint64_t word, struct left *left)
{
    struct paged *paged = squeeze->paged;
    size_t size = paged_page_size(paged);
    char copy[PAGE_SIZE_MAX], packed[PAGE_SIZE_MAX];
    bytes_load(copy, paged_frame(paged, word), size);
    if (bytes_are_zero(copy, size)) {
        paged_make_hole(paged, slot, page, word, left);
        return left->count > 0 ? SQUEEZED : LOST;
    }
    long n = codec_pack(squeeze->codec, copy, size, packed, size - size / 32);
    if (n > 0)
        return swap_in_blob(squeeze, slot, page, word, packed, (size_t)n, left);
    unsigned age = n == 0 ? ENTRY_AGE_INERT : 0;
    paged_swap(paged, slot, &word, entry_thawed(entry_aged(word, age)));
    return n == 0 ? LOST : NO_ROOM;
}

static enum outcome squeeze_one(struct squeeze *squeeze, const struct pending *ripe)
{
    uint64_t span;
    struct left left = {0};
    enum outcome outcome = LOST;
    rcu_enter();
    slot_t *slot = table_find(&squeeze->paged->table, ripe->page, &span);
    if (slot) {
        slot = table_resolve(&squeeze->paged->table, slot);
        if (slot_load(slot) == ripe->word)
            outcome = squeeze_page(squeeze, slot, ripe->page, ripe->word, &left);
    }
    rcu_leave();
    left_flush(squeeze->paged, &left);
    return outcome;
}

/* Work on a few ripe pages.  Releases the lock, and takes it again. */
static void work_locked(struct squeeze *squeeze)
{
    struct pending work[WORK_PAGES];
    unsigned count = 0, outcomes[3] = {0};
    while (count < WORK_PAGES && squeeze->ripe_count)
        work[count++] = squeeze->ripe[--squeeze->ripe_count];
    squeeze->at_work += count;
    pthread_mutex_unlock(&squeeze->lock);
    for (unsigned i = 0; i < count; i++)
        outcomes[squeeze_one(squeeze, &work[i])]++;
    if (outcomes[NO_ROOM]) /* for the next: free frames are no room for blobs */
        paged_collect(squeeze->paged);
    pthread_mutex_lock(&squeeze->lock);
    squeeze->at_work -= count;
    squeeze->squeezed += outcomes[SQUEEZED];
    if (outcomes[NO_ROOM] && !outcomes[SQUEEZED])
        squeeze->blocked = true;
    pthread_cond_broadcast(&squeeze->progress);
}

/* Sweeping. */

/* How old a frame must be to be frozen, as things are. */
static unsigned old_enough_locked(struct squeeze *squeeze)
{
    if (squeeze->demand)
        return 0;
    return hot_now(squeeze) > squeeze->hot_share ? 1 : ENTRY_AGE_COLD;
}

/* In a section: age a frame, or freeze it. */
static void sweep_page(struct squeeze *squeeze, slot_t *slot, uint64_t page, unsigned old_enough)
{
    uint64_t word = slot_load(slot);
    if (!entry_hot(word) || (word & ENTRY_FROZEN))
        return;
    if (entry_age(word) < old_enough)
        slot_swap(slot, &word, entry_aged(word, entry_age(word) + 1));
    else if (table_freeze(&squeeze->paged->table, slot, &word))
        squeeze->frozen[squeeze->frozen_count++] =
            (struct pending){.word = word, .page = page, .frozen = true};
}

/* One section's worth of the way round; returns where it got to. */
static uint64_t sweep_some(struct squeeze *squeeze, uint64_t hand, unsigned old_enough)
{
    struct table *table = &squeeze->paged->table;
    rcu_enter();
    for (unsigned steps = 0; steps < SWEEP_STEPS && hand < table->pages; steps++) {
        uint64_t span;
        slot_t *slot = table_find(table, hand, &span);
        for (uint64_t i = 0; slot && i < span && squeeze->frozen_count < RIPE_MAX; i++, hand++)
            sweep_page(squeeze, table_resolve(table, slot + i), hand, old_enough);
        if (squeeze->frozen_count == RIPE_MAX)
            break;
        if (!slot)
            hand += span;
    }
    rcu_leave();
    return hand;
}

static void set_next_round_locked(struct squeeze *squeeze)
{
    clock_gettime(CLOCK_MONOTONIC, &squeeze->next_round);
    squeeze->next_round.tv_sec += EPOCH;
}

/* Go on with the round for a while, or until enough pages are frozen, or it is over, and wait
 * until they are ripe.  To be called with none ripe.  Releases the lock, and takes it again. */
static void sweep_locked(struct squeeze *squeeze)
{
    uint64_t hand = squeeze->hand, pages = squeeze->paged->table.pages;
    unsigned old_enough = old_enough_locked(squeeze);
    squeeze->sweeping = true;
    squeeze->round_on = true;
    squeeze->blocked = false;
    squeeze->frozen_count = 0;
    pthread_mutex_unlock(&squeeze->lock);
    for (unsigned i = 0; i < SWEEP_SECTIONS && hand < pages; i++) {
        if (squeeze->frozen_count == RIPE_MAX)
            break;
        hand = sweep_some(squeeze, hand, old_enough);
    }
    if (squeeze->frozen_count)
        rcu_wait();
    pthread_mutex_lock(&squeeze->lock);
    memcpy(squeeze->ripe, squeeze->frozen, squeeze->frozen_count * sizeof squeeze->ripe[0]);
    squeeze->ripe_count = squeeze->frozen_count;
    squeeze->hand = hand;
    if (hand >= pages) {
        squeeze->hand = 0;
        squeeze->rounds++;
        squeeze->round_on = false;
        set_next_round_locked(squeeze);
    }
    squeeze->sweeping = false;
    pthread_cond_broadcast(&squeeze->wake);
    pthread_cond_broadcast(&squeeze->progress);
}

static bool is_time_locked(const struct squeeze *squeeze)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > squeeze->next_round.tv_sec ||
           (now.tv_sec == squeeze->next_round.tv_sec &&
            now.tv_nsec >= squeeze->next_round.tv_nsec);
}

static bool should_sweep_locked(struct squeeze *squeeze)
{
    if (squeeze->sweeping || squeeze->ripe_count)
        return false;
    if (squeeze->round_on || (squeeze->demand && squeeze->rounds < squeeze->demanded))
        return true;
    int64_t hot = hot_now(squeeze);
    return (hot > squeeze->hot_share && !squeeze->blocked) ||
           (hot > 0 && is_time_locked(squeeze));
}

/* Tidying the log. */

/* Store a blob again, elsewhere, if it is still somebody's. */
static int move_blob(struct squeeze *squeeze, uint64_t number)
{
    const struct blob *blob = blobs_at(&squeeze->blobs, number);
    struct table *table = &squeeze->paged->table;
    struct left left = {0};
    uint64_t span, moved;
    int r = 0;
    rcu_enter();
    slot_t *slot = table_find(table, blob->page, &span);
    uint64_t word = slot ? slot_load(slot = table_resolve(table, slot)) : 0;
    if (entry_kind(word) == ENTRY_BLOB && entry_number(word) == number) {
        r = blobs_store(&squeeze->blobs, blob->page, blob->bytes, blob->size, &moved);
        if (r == 0 && slot_swap(slot, &word, entry_make(ENTRY_BLOB, moved)))
            left_add(&left, blob->page, word, false);
        else if (r == 0)
            blobs_drop(&squeeze->blobs, moved);
    }
    rcu_leave();
    left_flush(squeeze->paged, &left);
    return r;
}

/* Empty the worst segment.  False if there is none, or no room to move its blobs to.  It is gone
 * only after a grace period, and must be before the next is chosen. */
static bool empty_segment(struct squeeze *squeeze, bool must)
{
    uint64_t number;
    int r = 0;
    if (!blobs_worst(&squeeze->blobs, must, &number))
        return false;
    do
        r = r < 0 ? r : move_blob(squeeze, number);
    while (blobs_next(&squeeze->blobs, &number));
    reclaim_run(&squeeze->paged->reclaim);
    return r == 0;
}

/* Empty segments until the log is tidy, or if there must be room, one.  Releases the lock, and
 * takes it again.  False if nothing was gained. */
static bool tidy_locked(struct squeeze *squeeze, bool must)
{
    squeeze->tidying = true;
    atomic_store_explicit(&squeeze->untidy, false, memory_order_relaxed);
    pthread_mutex_unlock(&squeeze->lock);
    bool gained = empty_segment(squeeze, must);
    while (gained && !must && empty_segment(squeeze, must))
        ;
    pthread_mutex_lock(&squeeze->lock);
    squeeze->tidying = false;
    pthread_cond_broadcast(&squeeze->progress);
    return gained;
}

static bool should_tidy_locked(struct squeeze *squeeze)
{
    return !squeeze->tidying && atomic_load_explicit(&squeeze->untidy, memory_order_relaxed);
}

/* The threads. */

static void sleep_locked(struct squeeze *squeeze)
{
    if (hot_now(squeeze) > 0 && !squeeze->sweeping && !squeeze->ripe_count)
        pthread_cond_timedwait(&squeeze->wake, &squeeze->lock, &squeeze->next_round);
    else
        pthread_cond_wait(&squeeze->wake, &squeeze->lock);
}

static void *thread_main(void *arg)
{
    struct squeeze *squeeze = arg;
    os_thread_background();
    pthread_mutex_lock(&squeeze->lock);
    while (!squeeze->stop) {
        if (squeeze->ripe_count)
            work_locked(squeeze);
        else if (should_sweep_locked(squeeze))
            sweep_locked(squeeze);
        else if (should_tidy_locked(squeeze))
            tidy_locked(squeeze, false);
        else
            sleep_locked(squeeze);
    }
    pthread_mutex_unlock(&squeeze->lock);
    return NULL;
}

/* Callers. */

/* One turn is enough: it does as much as a write of a few pages adds.  With nothing ripe there is
 * a grace period to be waited for, some ten milliseconds at the most. */
void squeeze_help(struct squeeze *squeeze)
{
    if (hot_now(squeeze) <= squeeze->hot_most)
        return;
    pthread_mutex_lock(&squeeze->lock);
    if (squeeze->ripe_count) {
        work_locked(squeeze);
    } else if (squeeze->thread_count && !squeeze->blocked) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 10L * 1000 * 1000;
        if (until.tv_nsec >= 1000L * 1000 * 1000) {
            until.tv_nsec -= 1000L * 1000 * 1000;
            until.tv_sec++;
        }
        pthread_cond_broadcast(&squeeze->wake);
        pthread_cond_timedwait(&squeeze->progress, &squeeze->lock, &until);
    }
    pthread_mutex_unlock(&squeeze->lock);
}

/* Wait, with the threads sparing no frame, until one is squeezed (if that is enough), or all were
 * tried: of two rounds that end from now on, the second has seen all of the disk. */
static bool demand(struct squeeze *squeeze, bool one_is_enough)
{
    pthread_mutex_lock(&squeeze->lock);
    uint64_t squeezed = squeeze->squeezed, rounds = squeeze->rounds;
    squeeze->demand++;
    squeeze->demanded = rounds + 2;
    pthread_cond_broadcast(&squeeze->wake);
    while (squeeze->thread_count && !squeeze->stop) {
        bool all_tried =
            squeeze->rounds >= rounds + 2 && !squeeze->ripe_count && !squeeze->at_work;
        if (all_tried || (one_is_enough && squeeze->squeezed != squeezed))
            break;
        pthread_cond_wait(&squeeze->progress, &squeeze->lock);
    }
    squeeze->demand--;
    bool any = squeeze->squeezed != squeezed;
    pthread_mutex_unlock(&squeeze->lock);
    return any;
}

/* If it is the machine that had no room for blobs just now, there will be none before the next
 * round; but there may be some between those that live. */
bool squeeze_make_room(struct squeeze *squeeze)
{
    pthread_mutex_lock(&squeeze->lock);
    bool hopeless =
        squeeze->paged->budget->limit == 0 && squeeze->blocked && !is_time_locked(squeeze);
    pthread_mutex_unlock(&squeeze->lock);
    if (hot_now(squeeze) > 0 && !hopeless && demand(squeeze, true))
        return true;
    pthread_mutex_lock(&squeeze->lock);
    while (squeeze->tidying)
        pthread_cond_wait(&squeeze->progress, &squeeze->lock);
    bool gained = tidy_locked(squeeze, true);
    pthread_mutex_unlock(&squeeze->lock);
    return gained;
}

/* Squeezing leaves frames to reclaim, reclaiming leaves blobs to tidy, and that more to reclaim.
 */
void squeeze_settle(struct squeeze *squeeze)
{
    bool again = true;
    demand(squeeze, false);
    while (again) {
        reclaim_run(&squeeze->paged->reclaim);
        pthread_mutex_lock(&squeeze->lock);
        again = squeeze->thread_count && (squeeze->tidying || should_tidy_locked(squeeze));
        if (again)
            pthread_cond_wait(&squeeze->progress, &squeeze->lock);
        pthread_mutex_unlock(&squeeze->lock);
    }
}

void squeeze_shrink(struct squeeze *squeeze)
{
    pool_shrink(&squeeze->blobs.segments);
}

void squeeze_stats(struct squeeze *squeeze, struct disk_stats *stats)
{
    struct blobs_stats blobs;
    blobs_stats(&squeeze->blobs, &blobs);
    stats->compressed = blobs.count;
    stats->blob_bytes = blobs.bytes;
}

/* Making and unmaking. */

static void init_sync(struct squeeze *squeeze)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&squeeze->lock, NULL);
    pthread_cond_init(&squeeze->wake, &monotonic);
    pthread_cond_init(&squeeze->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int squeeze_create(struct paged *paged, int level, const struct pool_options *options,
                   struct squeeze **made)
{
    struct squeeze *squeeze = calloc(1, sizeof *squeeze);
    if (!squeeze)
        return -ENOMEM;
    squeeze->paged = paged;
    init_sync(squeeze);
    uint64_t share = budget_total(paged->budget) / 4 >> paged->page_shift;
    squeeze->hot_share = share > HOT_LEAST ? (int64_t)share : HOT_LEAST;
    squeeze->hot_most = squeeze->hot_share + squeeze->hot_share / 8;
    int r = codec_create(level, &squeeze->codec);
    if (r == 0)
        r = blobs_create(&squeeze->blobs, options);
    if (r < 0) {
        squeeze_destroy(squeeze);
        return r;
    }
    *made = squeeze;
    return 0;
}

/* Half of the processors: the other half has requests to serve. */
int squeeze_start(struct squeeze *squeeze)
{
    unsigned wanted = (os_cpu_count() + 1) / 2;
    if (wanted > THREADS_MAX)
        wanted = THREADS_MAX;
    for (unsigned i = 0; i < wanted; i++) {
        int r = os_thread_start(&squeeze->threads[i], thread_main, squeeze);
        if (r < 0)
            return r;
        squeeze->thread_count++;
    }
    return 0;
}

void squeeze_stop(struct squeeze *squeeze)
{
    pthread_mutex_lock(&squeeze->lock);
    squeeze->stop = true;
    pthread_cond_broadcast(&squeeze->wake);
    pthread_mutex_unlock(&squeeze->lock);
    for (unsigned i = 0; i < squeeze->thread_count; i++)
        pthread_join(squeeze->threads[i], NULL);
    squeeze->thread_count = 0;
}

void squeeze_destroy(struct squeeze *squeeze)
{
    if (!squeeze)
        return;
    blobs_destroy(&squeeze->blobs);
    codec_destroy(squeeze->codec);
    pthread_cond_destroy(&squeeze->wake);
    pthread_cond_destroy(&squeeze->progress);
    pthread_mutex_destroy(&squeeze->lock);
    free(squeeze);
}
