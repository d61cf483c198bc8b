/* SPDX-License-Identifier: BSD-3-Clause */

#include "text/parse.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

static bool read_unit(const char *suffix, uint64_t *unit)
{
    static const char powers[] = "bkmgtpe";
    const int letter = tolower((unsigned char)suffix[0]);
    *unit = letter == 's' ? 512 : 1;
    if (letter == '\0' || suffix[1] != '\0')
        return letter == '\0';
    const char *power = strchr(powers, letter);
    if (power)
        *unit = (uint64_t)1 << (10 * (power - powers));
    return power || letter == 's';
}

int parse_size(const char *text, uint64_t *size)
{
    char *end;
    uint64_t unit;
    errno = 0;
    intmax_t number = strtoimax(text, &end, 10);
    if (end == text || errno || number < 0 || !read_unit(end, &unit))
        return -EINVAL;
    if ((uint64_t)number > (uint64_t)INT64_MAX / unit)
        return -EINVAL;
    *size = (uint64_t)number * unit;
    return 0;
}

/* Parse the number at the beginning of text, and set *end to the first byte after the number. */
static bool read_number(const char *text, int base, char **end, uint64_t *number)
{
    if (strchr(text, '-')) /* strtoumax would turn a negative number into a large one */
        return false;
    errno = 0;
    *number = strtoumax(text, end, base);
    return *end != text && errno == 0;
}

int parse_number(const char *text, enum parse_base base, unsigned min, unsigned max,
                 unsigned *number)
{
    char *end;
    uint64_t parsed;
    static const struct {
        const char *digits; /* NULL: other characters are accepted, too */
        int radix;          /* 0: as in C */
    } bases[] = {
        [PARSE_DECIMAL] = {"0123456789", 10},
        [PARSE_OCTAL] = {"01234567", 8},
        [PARSE_AS_IN_C] = {NULL, 0},
    };
    const char *digits = bases[base].digits;
    if (digits && text[strspn(text, digits)] != '\0')
        return -EINVAL;
    if (!read_number(text, bases[base].radix, &end, &parsed) || *end != '\0')
        return -EINVAL;
    if (parsed < min || parsed > max)
        return -EINVAL;
    *number = (unsigned)parsed;
    return 0;
}

int parse_seconds(const char *text, unsigned max, unsigned *seconds)
{
    static const struct {
        const char *name;
        uint64_t per_second;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1000}, {"us", 1000000}, {"ns", 1000000000}};
    char *end;
    uint64_t number;
    if (!read_number(text, 0, &end, &number))
        return -EINVAL;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        const uint64_t per_second = units[i].per_second;
        const uint64_t whole = number / per_second + (number % per_second != 0);
        if (whole > max)
            return -EINVAL;
        *seconds = (unsigned)whole;
        return 0;
    }
    return -EINVAL;
}

int parse_bool(const char *text, bool *value)
{
    static const char *const yes[] = {"1", "true", "t", "yes", "y", "on"};
    static const char *const no[] = {"0", "false", "f", "no", "n", "off"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        const bool is_yes = strcasecmp(text, yes[i]) == 0;
        if (!is_yes && strcasecmp(text, no[i]) != 0)
            continue;
        *value = is_yes;
        return 0;
    }
    return -EINVAL;
}
