/* SPDX-License-Identifier: BSD-3-Clause */

/* cold_store - what a paged disk asks of the store that keeps its cold pages
 *
 * A page starts its life in a frame, where it is read and written in place.  The frame is hot
 * until the cold store has looked at it.  The store decides when a page has become cold.  Then
 * the store keeps the page's bytes in its own form, and swaps a word of kind ENTRY_BLOB into the
 * page's slot.  Only the store can read the bytes to which such a word leads.  A write brings the
 * page back into a frame.
 *
 *     frame, hot --the store takes the page--> blob     by the rules of paged.h: freeze, wait for
 *         ^                                     |       a grace period, swap the word
 *         '------- a request writes to it ------'
 *
 * If all pages of a disk stay in frames, the disk has no cold store.  A read or write of a page
 * that is in a frame never calls the store.
 *
 * The first argument of each function is the store's state.  Any thread may call a function,
 * concurrently with any other function, but not inside a read section.  Where a function differs
 * from this, its comment says so.
 */

#ifndef NBDRAM_DISK_PAGED_COLD_STORE_H
#define NBDRAM_DISK_PAGED_COLD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_cache; /* disk/disk.h */
struct disk_stats; /* disk/disk.h */
struct reason;     /* text/reason.h */

/* A page that the store keeps: its number, and the word in its slot. */
struct cold_page {
    uint64_t page, word;
};

struct cold_store {
    /* Life. */

    /* Start the store's threads.  Called at most once, after the last fork.  Returns 0 or
     * -errno. */
    int (*start)(void *state);

    /* Stop the store's threads.  Afterwards the store takes no more pages.  Called while no
     * request is running, even if start failed or was not called. */
    void (*stop)(void *state);

    /* Free the store.  Called after stop.  Blobs whose words were taken out of the table have
     * been dropped before this call.  Blobs whose words are still in the table have not been
     * dropped, and this function frees them. */
    void (*destroy)(void *state);

    /* Pages. */

    /* Create and destroy a cache, which holds the pages that were inflated last.  The contract is
     * that of disk_cache_create and disk_cache_destroy. */
    int (*cache_create)(void *state, struct disk_cache **cache);
    void (*cache_destroy)(void *state, struct disk_cache *cache);

    /* Write the whole page to the buffer `page`.  `word` leads to the blob of the page.  Called
     * inside the read section in which `word` was found in the table.  cache is NULL, or a cache
     * that no other thread uses during the call.  Returns 0 or -ENOMEM.  On -ENOMEM nothing is
     * written. */
    int (*read)(void *state, struct disk_cache *cache, uint64_t word, void *page);

    /* Inflate the page into `cache`, which must not be NULL, and set *page to the address of its
     * bytes.  The bytes stay there until the cache is used again.  On -ENOMEM *page is undefined.
     * The rest of the contract is that of `read`. */
    int (*peek)(void *state, struct disk_cache *cache, uint64_t word, const void **page);

    /* Free the blob to which `word` leads.  The word was taken out of the table at least a grace
     * period ago.  Reclaim calls this function, so it must not wait for a grace period or for
     * reclaim. */
    void (*drop)(void *state, uint64_t word);

    /* Called when the number of hot frames rises above 0, and again when it rises above
     * hot_share.  The caller can be inside a read section, so this function must not wait for a
     * grace period. */
    void (*wake)(void *state);

    /* Called by a writer if more than hot_most frames are hot.  The writer then does some of the
     * work of the store, or waits a few milliseconds for the store. */
    void (*help)(void *state);

    /* Memory. */

    /* Called by a request that could not get memory.  Waits until the store has freed some
     * memory.  Returns false if the store cannot free any. */
    bool (*make_room)(void *state);

    /* End all waits in make_room and help.  Called after paged->gives_up was set. */
    void (*give_up_waiting)(void *state);

    /* Give the store's free memory back to the system and to the budget. */
    void (*shrink)(void *state);

    /* The whole disk. */

    /* Wait until the store has tried to compress each page that is in a hot frame, even if the
     * page is not cold yet. */
    void (*settle)(void *state);

    /* Set stats->compressed and stats->blob_bytes. */
    void (*stats)(void *state, struct disk_stats *stats);

    /* Only tests and debug builds call the functions below. */

    /* Wait until the store's threads have finished their current work.  From then on they do
     * nothing, until resume is called.  Called while no request is running. */
    void (*pause)(void *state);
    void (*resume)(void *state);

    /* Verify the store's invariants, and that its blobs are exactly those in `pages`.  Called
     * while the store is paused.  The array `pages` has `count` entries, one for each word in the
     * table that leads to a blob.  *charged becomes the number of bytes that the budget is
     * charged for the store.  Returns 0; -EUCLEAN, and reason says what is broken; or -ENOMEM. */
    int (*check)(void *state, const struct cold_page *pages, size_t count, uint64_t *charged,
                 struct reason *reason);
};

/* The cold store of one disk. */
struct cold {
    const struct cold_store *store; /* NULL if the disk has no cold store */
    void *state;                    /* state of the store */
    int64_t hot_share; /* above this number of hot frames, pages become cold sooner */
    int64_t hot_most;  /* above this number of hot frames, writers help the store */
};

#endif
