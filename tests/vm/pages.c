/* SPDX-License-Identifier: BSD-3-Clause */

/* pages MIB SECONDS - use more memory than there is, and check every page of it
 *
 * Each round writes every page, with what no other page and no other round has in it.  Before a
 * page is written, it must hold what the round before has written.  The rounds alternate between
 * the order of the addresses and an order that jumps, which defeats read-ahead.  After SECONDS,
 * and at least two rounds, it checks all pages once more and prints the number of rounds.  The
 * exit status is 1 if a page holds anything else, or if there is no memory. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define WORDS 512 /* in a page of 4 KiB */
#define PRIME 99991

typedef uint64_t page_t[WORDS];

/* The first word of a page.  The others follow from it. */
static uint64_t first_word(uint64_t page, uint64_t round)
{
    return (page << 32 | round) * 0x9E3779B97F4A7C15;
}

static void write_page(page_t page, uint64_t number, uint64_t round)
{
    uint64_t word = first_word(number, round);
    for (unsigned i = 0; i < WORDS; i++, word += 0xD1B54A32D192ED03)
        page[i] = word;
}

static bool holds(const page_t page, uint64_t number, uint64_t round)
{
    uint64_t word = first_word(number, round);
    for (unsigned i = 0; i < WORDS; i++, word += 0xD1B54A32D192ED03)
        if (page[i] != word)
            return false;
    return true;
}

static void check(const page_t page, uint64_t number, uint64_t round)
{
    if (holds(page, number, round))
        return;
    printf("page %ju does not hold what round %ju has written, but %jx %jx ...\n",
           (uintmax_t)number, (uintmax_t)round, (uintmax_t)page[0], (uintmax_t)page[1]);
    exit(1);
}

static void do_round(page_t *pages, uint64_t count, uint64_t round)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = round % 2 == 0 ? i : i * PRIME % count;
        if (round > 0)
            check(pages[number], number, round - 1);
        write_page(pages[number], number, round);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 1;
    const uint64_t count = strtoul(argv[1], NULL, 10) * 256;
    const time_t end = time(NULL) + atoi(argv[2]);
    page_t *pages = mmap(NULL, count * sizeof *pages, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t round = 0;
    if (pages == MAP_FAILED)
        return 1;
    do
        do_round(pages, count, round++);
    while (round < 2 || time(NULL) < end);
    for (uint64_t number = 0; number < count; number++)
        check(pages[number], number, round - 1);
    printf("%ju\n", (uintmax_t)round);
    return 0;
}
