/* SPDX-License-Identifier: BSD-3-Clause */

/* hex - bytes of the wire, written as in the specification
 *
 *     "3e88 9045"  hexadecimal digits, with blanks anywhere
 *     "'text'"     characters
 *     "~124"       this number of zero bytes; a blank ends the number
 *     "#124"       this number of letters
 *     "?"          only in hex_expect: the length and the message of an error, whatever they are
 *
 * Only the test's own thread may call these functions, because they use cmocka's asserts.
 */

#ifndef NBDRAM_TESTS_HEX_H
#define NBDRAM_TESTS_HEX_H

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#define HEX_MESSAGE_MAX 4096u /* of a string, by the specification */

static inline unsigned hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *digit = strchr(digits, c);
    if (!digit || !c)
        fail_msg("'%c' is no digit", c);
    return digit ? (unsigned)(digit - digits) : 0;
}

/* Take one item, which begins at *text, and put its bytes at `at`.  Returns their number: 0 for a
 * blank. */
static inline size_t hex_item(const char **text, uint8_t *at)
{
    const char *from = *text;
    if (*from == ' ') {
        ++*text;
        return 0;
    }
    if (*from == '\'') {
        size_t n = strcspn(from + 1, "'");
        memcpy(at, from + 1, n);
        *text = from + n + 2;
        return n;
    }
    if (*from == '~' || *from == '#') {
        char *end;
        size_t n = strtoul(from + 1, &end, 10);
        memset(at, *from == '#' ? 'x' : 0, n);
        *text = end;
        return n;
    }
    *at = (uint8_t)(hex_digit(from[0]) << 4 | hex_digit(from[1]));
    *text = from + 2;
    return 1;
}

/* Put all bytes at `at`, where there has to be room.  Returns their number. */
static inline size_t hex_put(uint8_t *at, const char *text)
{
    size_t n = 0;
    while (*text)
        n += hex_item(&text, at + n);
    return n;
}

/* The size of an error's length and message together.  Fails the test if they are malformed. */
static inline size_t hex_message(const uint8_t *bytes, size_t left)
{
    assert_true(left >= 4);
    size_t n = (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
    assert_true(n <= HEX_MESSAGE_MAX && n <= left - 4);
    for (size_t i = 0; i < n; i++)
        assert_in_range(bytes[4 + i], ' ', '~');
    return 4 + n;
}

/* Fails the test, and says where, if these are not exactly the bytes of the text. */
static inline void hex_expect(const char *name, const uint8_t *bytes, size_t n, const char *text)
{
    uint8_t item[4096];
    size_t at = 0;
    while (*text) {
        if (*text == '?') {
            at += hex_message(bytes + at, n - at);
            text++;
            continue;
        }
        size_t count = hex_item(&text, item);
        if (count > n - at)
            fail_msg("%s: only %zu bytes, before '%s'", name, n, text);
        for (size_t i = 0; i < count; i++, at++)
            if (bytes[at] != item[i])
                fail_msg("%s: byte %zu is %02x, not %02x, before '%s'", name, at, bytes[at],
                         item[i], text);
    }
    if (at != n)
        fail_msg("%s: %zu bytes too many", name, n - at);
}

#endif
