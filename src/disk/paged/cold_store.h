/* SPDX-License-Identifier: BSD-3-Clause */

/* cold_store - what a paged disk asks of the store that keeps its cold pages
 *
 * A page starts its life in a frame, where it is read and written in place.  It is hot until the
 * cold store has looked at it.  The store decides when a page has become cold: then it keeps the
 * page's bytes in a form of its own, and swaps a word of kind ENTRY_BLOB into the page's slot.
 * Only the store can read what such a word leads to.  Writing the page brings it back into a
 * frame.
 *
 *     frame, hot --the store takes the page--> blob     by the rules of paged.h: freeze, wait for
 *         ^                                     |       a grace period, swap the word
 *         '------- a request writes to it ------'
 *
 * A disk whose pages all stay in frames has no cold store.  A read or write of a page that is in
 * a frame never calls the store.
 *
 * Every function gets the store's state as its first argument.  Unless its comment says
 * otherwise, it may be called from any thread, concurrently with any other function, but not
 * inside a read section.
 */

#ifndef NBDRAM_DISK_PAGED_COLD_STORE_H
#define NBDRAM_DISK_PAGED_COLD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_cache; /* disk/disk.h */
struct disk_stats; /* disk/disk.h */
struct reason;     /* text/reason.h */

/* A page that the store keeps, and the word in its slot. */
struct cold_page {
    uint64_t page, word;
};

struct cold_store {
    /* Life. */

    /* Start the store's threads, after the last fork.  Called at most once.  Returns 0 or
     * -errno. */
    int (*start)(void *state);

    /* Stop the store's threads: afterwards the store takes no more pages.  No request is running.
     * start may not have been called, or may have failed. */
    void (*stop)(void *state);

    /* Free everything.  Called after stop, and after each blob whose word was taken out of the
     * table has been dropped.  Blobs whose words are still in the table are not dropped. */
    void (*destroy)(void *state);

    /* Pages. */

    /* Make and free a cache of the pages that were read last, as disk_cache_create and
     * disk_cache_destroy. */
    int (*cache_create)(void *state, struct disk_cache **cache);
    void (*cache_destroy)(void *state, struct disk_cache *cache);

    /* Unpack the whole page of a blob, to which `word` leads, to `page`.  Called inside the read
     * section in which the word was found in the table.  cache is NULL, or belongs to the caller.
     * Returns 0; or -ENOMEM, and nothing was written. */
    int (*read)(void *state, struct disk_cache *cache, uint64_t word, void *page);

    /* As read, but into the cache: *page is the whole page, and is good until the cache is used
     * again.  After -ENOMEM *page is undefined. */
    int (*peek)(void *state, struct disk_cache *cache, uint64_t word, const void **page);

    /* Free a blob whose word was taken out of the table a grace period ago.  Reclaim calls this,
     * so it must not wait for a grace period or for reclaim. */
    void (*drop)(void *state, uint64_t word);

    /* Called when hot frames have appeared: when there was none before, or when there are now
     * more than hot_share.  May be called inside a read section, so it must not wait for a
     * grace period. */
    void (*wake)(void *state);

    /* Called after writers have made more than hot_most frames hot: do some of the store's work
     * in the writer's thread.  May wait a few milliseconds. */
    void (*help)(void *state);

    /* Memory. */

    /* Called by a request that found no memory: wait until the store has freed some.  Returns
     * false if the store cannot free any. */
    bool (*make_room)(void *state);

    /* Called after paged->gives_up was set: end all waits in make_room and help. */
    void (*give_up_waiting)(void *state);

    /* Give free memory that the store holds back to the system and to the budget. */
    void (*shrink)(void *state);

    /* The whole disk. */

    /* Wait until the store has taken every page that it would ever take, cold or not. */
    void (*settle)(void *state);

    /* Set stats->compressed and stats->blob_bytes. */
    void (*stats)(void *state, struct disk_stats *stats);

    /* For tests and debug builds. */

    /* Wait until the store's threads have finished what they are doing, and let them do nothing
     * more until resume is called.  No request is running. */
    void (*pause)(void *state);
    void (*resume)(void *state);

    /* While the store is paused: verify its invariants, and that the words in the table lead to
     * all blobs that the store keeps.  pages has count entries: every word in the table that
     * leads to a blob.  Returns 0, and *charged is the number of bytes that the budget is charged
     * for the store; -EUCLEAN, and reason says what is broken; or -ENOMEM. */
    int (*check)(void *state, const struct cold_page *pages, size_t count, uint64_t *charged,
                 struct reason *reason);
};

/* The cold store of one disk. */
struct cold {
    const struct cold_store *store; /* NULL: the disk has no cold store */
    void *state;                    /* state of the store */
    int64_t hot_share; /* frames: if more are hot, the store does not wait until they are old */
    int64_t hot_most;  /* frames: if more are hot, writers help the store */
};

#endif
