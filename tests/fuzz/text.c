/* SPDX-License-Identifier: BSD-3-Clause */

#include "text.h"

#include <ctype.h>
#include <string.h>

#include "demand.h"
#include "text/reason.h"

char *text_copy(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    DEMAND(text, "no memory");
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

void text_check_reason(const struct reason *reason)
{
    const char *at = reason->text, *end = memchr(at, '\0', sizeof reason->text);
    DEMAND(end && end > at, "no reason");
    for (; at < end; at++)
        DEMAND((unsigned char)*at >= ' ' && *at != 0x7f, "%#x in a reason", *at);
}

/* Read the digits of a number.  Returns how many there are. */
static size_t read_digits(const char *text, unsigned base, uint64_t max, uint64_t *number)
{
    static const char digits[] = "0123456789abcdef";
    unsigned __int128 value = 0;
    size_t n = 0;
    for (; text[n]; n++) {
        const char *digit = strchr(digits, tolower((unsigned char)text[n]));
        if (!digit || digit - digits >= (int)base)
            break;
        value = value * base + (unsigned)(digit - digits);
        if (value > max)
            value = (unsigned __int128)max + 1; /* too large, and stays so */
    }
    *number = (uint64_t)value;
    return value > max ? 0 : n;
}

static const char *skip_sign(const char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    return *text == '+' ? text + 1 : text;
}

bool text_is_size(const char *text, uint64_t *size)
{
    static const char letters[] = "bkmgtpe";
    const char *digits = skip_sign(text);
    bool negative = *digits == '-' && (digits == text || digits[-1] != '+');
    text = digits + negative;
    size_t n = read_digits(text, 10, INT64_MAX, size);
    if (n == 0 || (negative && *size))
        return false;
    unsigned __int128 value = *size;
    char letter = (char)tolower((unsigned char)text[n]);
    if (letter && text[n + 1])
        return false;
    if (letter && letter != 's' && !strchr(letters, letter))
        return false;
    if (letter)
        value *= letter == 's' ? 512 : (uint64_t)1 << 10 * (strchr(letters, letter) - letters);
    *size = (uint64_t)value;
    return value <= INT64_MAX;
}

bool text_is_number(const char *text, uint64_t max, uint64_t *number, const char **end)
{
    if (strchr(text, '-'))
        return false;
    text = skip_sign(text);
    unsigned base = *text == '0' ? 8 : 10;
    if (*text == '0' && tolower((unsigned char)text[1]) == 'x' &&
        isxdigit((unsigned char)text[2])) {
        base = 16;
        text += 2;
    }
    size_t n = read_digits(text, base, max, number);
    *end = text + n;
    return n > 0;
}
