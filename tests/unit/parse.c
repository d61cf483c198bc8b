/* SPDX-License-Identifier: BSD-3-Clause */

/* text/parse.h: what each grammar accepts and refuses, up to the last value in range. */

#include "support/support.h"

#include <errno.h>
#include <limits.h>

#include "text/parse.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define UNTOUCHED 12345u

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t size;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"007", 7},
        {"1b", 1},
        {"1B", 1},
        {"3s", 1536},
        {"3S", 1536},
        {"1k", KiB},
        {"1K", KiB},
        {"2m", 2 * MiB},
        {"2M", 2 * MiB},
        {"1g", GiB},
        {"1G", GiB},
        {"1t", TiB},
        {"1T", TiB},
        {"1p", 1024 * TiB},
        {"1P", 1024 * TiB},
        {"7e", 7 * 1024 * 1024 * TiB},
        {"7E", 7 * 1024 * 1024 * TiB},
        {"+1", 1},
        {" 1", 1},
        {"-0", 0},
        {"9223372036854775807", INT64_MAX},
        {"9223372036854775807b", INT64_MAX},
        {"18014398509481983s", INT64_MAX - 511},
        {"9007199254740991k", INT64_MAX - 1023},
    };
    static const char *const bad[] = {
        "",
        " ",
        "x",
        "k",
        "-1",
        "-1k",
        "1.5M",
        "1,5M",
        "1MiB",
        "1MB",
        "1kk",
        "1 M",
        "1M ",
        "0x10",
        "0x",
        "1h",
        "1_000",
        "9223372036854775808",
        "18446744073709551616",
        "8E",
        "18014398509481984s",
        "9007199254740992k",
        "8796093022208M",
        "99999999999999999999",
        "infinity",
        "1e3",
        "M1",
        "\n",
        "1\n",
        "\xc3\xa9",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t size = 12345;
        if (parse_size(good[i].text, &size) != 0 || size != good[i].size)
            fail_msg("'%s': %llu", good[i].text, (unsigned long long)size);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t size = 12345;
        if (parse_size(bad[i], &size) != -EINVAL || size != 12345)
            fail_msg("'%s' was accepted: %llu", bad[i], (unsigned long long)size);
    }
}

static void number_is(const char *text, enum parse_base base, unsigned expected)
{
    unsigned number = UNTOUCHED;
    if (parse_number(text, base, 0, UINT_MAX, &number) != 0 || number != expected)
        fail_msg("'%s': %u", text, number);
}

static void no_number(const char *text, enum parse_base base)
{
    unsigned number = UNTOUCHED;
    if (parse_number(text, base, 0, UINT_MAX, &number) != -EINVAL || number != UNTOUCHED)
        fail_msg("'%s' was accepted: %u", text, number);
}

static void decimal_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    " ",   "+1",         "-1",
                                      " 1",  "1 ",  "1x",         "0x1",
                                      "1.0", "1e3", "4294967296", "99999999999999999999"};
    number_is("0", PARSE_DECIMAL, 0);
    number_is("017", PARSE_DECIMAL, 17);
    number_is("4294967295", PARSE_DECIMAL, UINT_MAX);
    number_is("00000000000000000000000000000001", PARSE_DECIMAL, 1);
    for (size_t i = 0; i < COUNT(bad); i++)
        no_number(bad[i], PARSE_DECIMAL);
}

static void octal_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   " ",  "8",    "0x1",        "-1",
                                      "+1", "7 ", "u=rw", "40000000000"};
    number_is("0", PARSE_OCTAL, 0);
    number_is("660", PARSE_OCTAL, 0660);
    number_is("0777", PARSE_OCTAL, 0777);
    for (size_t i = 0; i < COUNT(bad); i++)
        no_number(bad[i], PARSE_OCTAL);
}

static void numbers_as_in_c(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   " ",  "-1",         "-0",
                                      "1-", "1 ", "1x",         "08",
                                      "0x", "x1", "4294967296", "99999999999999999999"};
    number_is("0", PARSE_AS_IN_C, 0);
    number_is("31", PARSE_AS_IN_C, 31);
    number_is("017", PARSE_AS_IN_C, 15);
    number_is("0x1F", PARSE_AS_IN_C, 31);
    number_is(" +1", PARSE_AS_IN_C, 1);
    number_is("0xffffffff", PARSE_AS_IN_C, UINT_MAX);
    for (size_t i = 0; i < COUNT(bad); i++)
        no_number(bad[i], PARSE_AS_IN_C);
}

static void ranges(void **state)
{
    (void)state;
    unsigned number = UNTOUCHED;
    assert_int_equal(parse_number("4", PARSE_DECIMAL, 5, 7, &number), -EINVAL);
    assert_int_equal(parse_number("8", PARSE_DECIMAL, 5, 7, &number), -EINVAL);
    assert_int_equal(parse_number("9", PARSE_DECIMAL, 0, 0, &number), -EINVAL);
    assert_int_equal(number, UNTOUCHED);
    assert_int_equal(parse_number("5", PARSE_DECIMAL, 5, 7, &number), 0);
    assert_int_equal(number, 5);
    assert_int_equal(parse_number("7", PARSE_AS_IN_C, 5, 7, &number), 0);
    assert_int_equal(number, 7);
}

static void seconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned seconds;
    } good[] = {
        {"0", 0},      {"60", 60}, {"60s", 60},      {"1ms", 1}, {"1000ms", 1},
        {"1001ms", 2}, {"0ms", 0}, {"1000001us", 2}, {"1ns", 1}, {"60000000000ns", 60},
        {"0x10s", 16},
    };
    static const char *const bad[] = {"",   "s",  "61",  "61s", "60001ms",
                                      "-1", "1h", "1 s", "1S",  "1sx"};
    for (size_t i = 0; i < COUNT(good); i++) {
        unsigned parsed = UNTOUCHED;
        if (parse_seconds(good[i].text, 60, &parsed) != 0 || parsed != good[i].seconds)
            fail_msg("'%s': %u", good[i].text, parsed);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        unsigned parsed = UNTOUCHED;
        if (parse_seconds(bad[i], 60, &parsed) != -EINVAL || parsed != UNTOUCHED)
            fail_msg("'%s' was accepted: %u", bad[i], parsed);
    }
}

static void booleans(void **state)
{
    (void)state;
    static const char *const yes[] = {"1", "true", "t", "yes", "y", "on", "TRUE", "yEs", "oN"};
    static const char *const no[] = {"0", "false", "f", "no", "n", "off", "FALSE", "nO", "oFf"};
    static const char *const bad[] = {"", " ", "2", "01", "tr", "truex", " true", "true ", "o"};
    for (size_t i = 0; i < COUNT(yes); i++) {
        bool value = false;
        assert_int_equal(parse_bool(yes[i], &value), 0);
        assert_true(value);
    }
    for (size_t i = 0; i < COUNT(no); i++) {
        bool value = true;
        assert_int_equal(parse_bool(no[i], &value), 0);
        assert_false(value);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        bool value = true;
        assert_int_equal(parse_bool(bad[i], &value), -EINVAL);
        assert_true(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),         cmocka_unit_test(decimal_numbers),
        cmocka_unit_test(octal_numbers), cmocka_unit_test(numbers_as_in_c),
        cmocka_unit_test(ranges),        cmocka_unit_test(seconds),
        cmocka_unit_test(booleans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
