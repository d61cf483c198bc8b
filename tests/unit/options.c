/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_parse_allocator: names are not shortened, what is not understood is refused, and the
 * reason says what would have been accepted. */

#include "support/support.h"

#include <stdio.h>
#include <string.h>

#include "text/reason.h"

/* Options with unusual values, so that every change by the parser shows. */
static const struct disk_options odd = {
    .size = 12345,
    .limit = 67 * MiB,
    .allocator = &allocator_malloc,
    .mlock = true,
    .level = 11,
};

static void assert_same_options(const struct disk_options *a, const struct disk_options *b)
{
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->limit, b->limit);
    assert_ptr_equal(a->allocator, b->allocator);
    assert_int_equal(a->mlock, b->mlock);
    assert_int_equal(a->level, b->level);
}

static void parses(const char *text, const struct allocator *allocator, bool mlock, int level)
{
    struct disk_options options = odd;
    struct reason reason = {0};
    int err = disk_parse_allocator(text, &options, &reason);
    if (err != 0)
        fail_msg("'%s': %d, %s", text, err, reason.text);
    assert_ptr_equal(options.allocator, allocator);
    assert_int_equal(options.mlock, mlock);
    if (allocator == &allocator_zstd)
        assert_int_equal(options.level, level);
    assert_int_equal(options.size, odd.size);
    assert_int_equal(options.limit, odd.limit);

    struct disk *disk = NULL;
    if (mlock) /* whether the machine lets us lock memory is not tested here */
        return;
    assert_int_equal(disk_create(&options, &disk), 0);
    disk_destroy(disk);
}

static void names(void **state)
{
    (void)state;
    parses("sparse", &allocator_sparse, false, 0);
    parses("malloc", &allocator_malloc, false, 0);
    parses("zstd", &allocator_zstd, false, DISK_LEVEL_DEFAULT);
}

static void booleans(void **state)
{
    (void)state;
    static const char *const yes[] = {"1", "true", "t", "yes", "y",    "on",  "TRUE",
                                      "T", "YES",  "Y", "ON",  "True", "yEs", "oN"};
    static const char *const no[] = {"0", "false", "f", "no",  "n",     "off", "FALSE",
                                     "F", "NO",    "N", "OFF", "False", "nO",  "oFf"};
    char text[64];
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        snprintf(text, sizeof text, "malloc,mlock=%s", yes[i]);
        parses(text, &allocator_malloc, true, 0);
        snprintf(text, sizeof text, "sparse,mlock=%s", yes[i]);
        parses(text, &allocator_sparse, true, 0);
    }
    for (size_t i = 0; i < COUNT_OF(no); i++) {
        snprintf(text, sizeof text, "malloc,mlock=%s", no[i]);
        parses(text, &allocator_malloc, false, 0);
        snprintf(text, sizeof text, "sparse,mlock=%s", no[i]);
        parses(text, &allocator_sparse, false, 0);
    }
}

static void levels(void **state)
{
    (void)state;
    for (int level = DISK_LEVEL_MIN; level <= DISK_LEVEL_MAX; level++) {
        char text[32];
        snprintf(text, sizeof text, "zstd,level=%d", level);
        parses(text, &allocator_zstd, false, level);
    }
}

static void last_one_wins(void **state)
{
    (void)state;
    parses("malloc,mlock=true,mlock=false", &allocator_malloc, false, 0);
    parses("malloc,mlock=off,mlock=on", &allocator_malloc, true, 0);
    parses("malloc,mlock=off,mlock", &allocator_malloc, true, 0);
    parses("zstd,level=3,level=19,level=7", &allocator_zstd, false, 7);
}

/* The text is refused, the reason has each of these words, and the options are unchanged. */
static void refused(const char *text, const char *const *words)
{
    struct disk_options options = odd;
    struct reason reason;
    memset(&reason, '#', sizeof reason);
    int err = disk_parse_allocator(text, &options, &reason);
    if (err != -EINVAL)
        fail_msg("'%s': %d instead of -EINVAL", text, err);
    assert_same_options(&options, &odd);
    assert_non_null(memchr(reason.text, '\0', sizeof reason.text));
    assert_null(strchr(reason.text, '\n'));
    for (; *words != NULL; words++)
        if (strstr(reason.text, *words) == NULL)
            fail_msg("'%s' is refused with '%s', which does not name '%s'", text, reason.text,
                     *words);
}

static void unknown_names(void **state)
{
    (void)state;
    static const char *const accepted[] = {"sparse", "malloc", "zstd", NULL};
    static const char *const texts[] = {
        "",        "s",     "spars", "sparsely", "m",        "mallo",        "mallocs",
        "z",       "zstd1", "zst",   " sparse",  "sparse ",  "Sparse",       "MALLOC",
        "ram",     ",",     "=",     ",zstd",    "sparse=1", "zstd level=3", "malloc;mlock=true",
        "sparse\n"};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        refused(texts[i], accepted);
}

static void unknown_settings(void **state)
{
    (void)state;
    static const char *const nothing[] = {NULL};
    static const char *const texts[] = {
        /* empty settings */
        "sparse,", "malloc,", "zstd,", "malloc,,mlock=true", "zstd,,level=3",
        "malloc,mlock=true,", "zstd,level=3,", "malloc,,",
        /* settings of another allocator */
        "sparse,level=3", "malloc,level=3", "zstd,mlock=true", "zstd,mlock=false",
        /* settings with a shortened name, a longer one, or an unknown one */
        "malloc,m=true", "malloc,mloc=true", "malloc,mlocks=true", "malloc,Mlock=true",
        "zstd,l=3", "zstd,leve=3", "zstd,levels=3", "zstd,level", "zstd,3", "sparse,true",
        "sparse,sparse", "malloc,=true", "zstd,=", "malloc, mlock=true", "malloc,mlock =true",
        "zstd,level=3;level=4"};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        refused(texts[i], nothing);
}

static void bad_booleans(void **state)
{
    (void)state;
    static const char *const accepted[] = {"mlock", NULL};
    static const char *const values[] = {"",   "maybe",   "2",     "10",    "-1",    "01",
                                         "tr", "truex",   " true", "true ", "yess",  "o",
                                         "of", "enabled", "=true", "null",  "true\n"};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        char text[64];
        snprintf(text, sizeof text, "malloc,mlock=%s", values[i]);
        refused(text, accepted);
        snprintf(text, sizeof text, "sparse,mlock=%s", values[i]);
        refused(text, accepted);
    }
}

static void bad_levels(void **state)
{
    (void)state;
    static const char *const accepted[] = {"level", "19", NULL};
    static const char *const values[] = {"",
                                         "0",
                                         "20",
                                         "-1",
                                         "-3",
                                         "3x",
                                         "x3",
                                         "3.",
                                         "1.5",
                                         "0x3",
                                         " 3",
                                         "3 ",
                                         "+3",
                                         "100000000000000000000000",
                                         "4294967299",
                                         "18446744073709551619",
                                         "-4294967293",
                                         "three"};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        char text[64];
        snprintf(text, sizeof text, "zstd,level=%s", values[i]);
        refused(text, accepted);
    }
}

/* If there is a bad setting, the good ones before it or after it have no effect. */
static void all_or_nothing(void **state)
{
    (void)state;
    static const char *const nothing[] = {NULL};
    refused("malloc,mlock=false,mlock=maybe", nothing);
    refused("malloc,mlock=maybe,mlock=false", nothing);
    refused("sparse,mlock=false,level=3", nothing);
    refused("zstd,level=4,level=0", nothing);
    refused("zstd,level=0,level=4", nothing);
}

/* One row of the registry makes an allocator known everywhere. */
static void every_allocator_is_listed(void **state)
{
    (void)state;
    struct disk_options options = odd;
    struct reason reason;
    char help[1024] = "", features[1024] = "", line[64];
    FILE *to = fmemopen(help, sizeof help, "w");
    assert_non_null(to);
    disk_print_allocators(to, "");
    fclose(to);
    to = fmemopen(features, sizeof features, "w");
    assert_non_null(to);
    disk_print_features(to);
    fclose(to);
    disk_parse_allocator("none", &options, &reason);
    for (size_t i = 0; allocators[i]; i++) {
        assert_non_null(strstr(help, allocators[i]->name));
        assert_non_null(strstr(help, allocators[i]->summary));
        assert_non_null(strstr(reason.text, allocators[i]->name));
        snprintf(line, sizeof line, "%s=yes\n", allocators[i]->name);
        assert_non_null(strstr(features, line));
    }
}

static void long_text(void **state)
{
    (void)state;
    static char text[70000];
    static const char *const starts[] = {"", "sparse", "malloc,mlock=", "zstd,level=", "zstd,"};
    for (size_t i = 0; i < COUNT_OF(starts); i++) {
        memset(text, '1', sizeof text - 1);
        memcpy(text, starts[i], strlen(starts[i]));
        struct disk_options options = odd;
        struct reason reason;
        assert_int_equal(disk_parse_allocator(text, &options, &reason), -EINVAL);
        assert_non_null(memchr(reason.text, '\0', sizeof reason.text));
        assert_same_options(&options, &odd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),          cmocka_unit_test(booleans),
        cmocka_unit_test(levels),         cmocka_unit_test(last_one_wins),
        cmocka_unit_test(unknown_names),  cmocka_unit_test(unknown_settings),
        cmocka_unit_test(bad_booleans),   cmocka_unit_test(bad_levels),
        cmocka_unit_test(all_or_nothing), cmocka_unit_test(every_allocator_is_listed),
        cmocka_unit_test(long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
