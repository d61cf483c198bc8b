/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/cli/parse_value.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "disk/disk.h"

static bool parse_suffix(const char *suffix, uint64_t *unit)
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

int grammar_parse_size(const char *text, uint64_t *size)
{
    char *end;
    uint64_t unit;
    errno = 0;
    intmax_t number = strtoimax(text, &end, 10);
    if (end == text || errno || number < 0 || !parse_suffix(end, &unit))
        return -EINVAL;
    if ((uint64_t)number > (uint64_t)INT64_MAX / unit)
        return -EINVAL;
    *size = (uint64_t)number * unit;
    return 0;
}

static bool parse_number(const char *text, uint64_t max, char **end, uint64_t *number)
{
    if (strchr(text, '-')) /* strtoumax would wrap it around */
        return false;
    errno = 0;
    *number = strtoumax(text, end, 0);
    return *end != text && errno == 0 && *number <= max;
}

int grammar_parse_number(const char *text, unsigned max, unsigned *number)
{
    char *end;
    uint64_t parsed;
    if (!parse_number(text, max, &end, &parsed) || *end)
        return -EINVAL;
    *number = (unsigned)parsed;
    return 0;
}

int grammar_parse_seconds(const char *text, unsigned max, unsigned *seconds)
{
    static const struct {
        const char *name;
        uint64_t per_second;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1000}, {"us", 1000000}, {"ns", 1000000000}};
    char *end;
    uint64_t number;
    if (!parse_number(text, UINT64_MAX, &end, &number))
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

int grammar_parse_tls(const char *text, enum tls_mode *mode)
{
    static const char *const require[] = {"require", "required", "force"};
    bool on;
    for (size_t i = 0; i < sizeof require / sizeof require[0]; i++) {
        if (strcasecmp(text, require[i]) == 0) {
            *mode = TLS_REQUIRE;
            return 0;
        }
    }
    if (disk_parse_bool(text, &on) < 0)
        return -EINVAL;
    *mode = on ? TLS_ON : TLS_OFF;
    return 0;
}

int grammar_parse_log(const char *text, enum log_target *target)
{
    static const struct {
        const char *name;
        enum log_target target;
    } targets[] = {
        {"default", LOG_TO_DEFAULT},
        {"stderr", LOG_TO_STDERR},
        {"syslog", LOG_TO_SYSLOG},
        {"null", LOG_TO_NULL},
    };
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        if (strcmp(text, targets[i].name) == 0) {
            *target = targets[i].target;
            return 0;
        }
    }
    return -EINVAL;
}
