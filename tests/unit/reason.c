/* SPDX-License-Identifier: BSD-3-Clause */

/* reason_set: whatever the text is, the result is one line and fits. */

#include "support/support.h"

#include <errno.h>
#include <string.h>

#include "text/reason.h"

static void returns_the_error(void **state)
{
    (void)state;
    struct reason reason;
    assert_int_equal(reason_set(&reason, -ENOENT, "no %s", "bread"), -ENOENT);
    assert_string_equal(reason.text, "no bread");
}

static void a_colon_asks_for_the_words_of_the_system(void **state)
{
    (void)state;
    struct reason reason;
    reason_set(&reason, -ENOENT, "the file %s: ", "a");
    assert_string_equal(reason.text, "the file a: No such file or directory");
    reason_set(&reason, -ENOENT, "%s", "not from an argument: ");
    assert_string_equal(reason.text, "not from an argument: ");
}

static void stays_one_line(void **state)
{
    (void)state;
    struct reason reason;
    reason_set(&reason, -EINVAL, "a\nb\tc\x1b[31m\x7f");
    assert_string_equal(reason.text, "a?b?c?[31m?");
}

static void a_long_line_is_cut_off(void **state)
{
    (void)state;
    char word[2 * sizeof(struct reason)];
    struct {
        struct reason reason;
        char guard[64];
    } place;
    memset(word, 'x', sizeof word - 1);
    /* The text of the system may have to be cut as well. */
    for (size_t length = sizeof place.reason.text - 64; length < sizeof word; length++) {
        memset(&place, '#', sizeof place);
        word[length] = '\0';
        reason_set(&place.reason, -ENOENT, "%s: ", word);
        word[length] = 'x';
        const char *end = memchr(place.reason.text, '\0', sizeof place.reason.text);
        assert_non_null(end);
        size_t kept = (size_t)(end - place.reason.text);
        assert_true(kept >= length || kept == sizeof place.reason.text - 1);
        for (size_t i = 0; i < sizeof place.guard; i++)
            assert_int_equal(place.guard[i], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returns_the_error),
        cmocka_unit_test(a_colon_asks_for_the_words_of_the_system),
        cmocka_unit_test(stays_one_line),
        cmocka_unit_test(a_long_line_is_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
