/* SPDX-License-Identifier: BSD-3-Clause */

/* Values on the command line, compared with a second parser; and URIs, which have to give back
 * the name and the path that they were made of.  The first byte of the input chooses. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "demand.h"
#include "disk/allocator.h"
#include "server/cli/options.h"
#include "server/cli/parse_value.h"
#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "server/net/uri.h"
#include "text.h"
#include "text/parse.h"
#include "text/reason.h"

#define UNTOUCHED 0x5a5a5a5au

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_size(const char *text)
{
    uint64_t size = UNTOUCHED, wanted;
    bool good = text_is_size(text, &wanted);
    int r = parse_size(text, &size);
    DEMAND(r == (good ? 0 : -EINVAL), "%d", r);
    DEMAND(size == (good ? wanted : UNTOUCHED), "%llu", (unsigned long long)size);
}

static void try_number(const char *text)
{
    static const unsigned limits[] = {0, 256, 1000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        unsigned number = UNTOUCHED;
        const char *end;
        uint64_t wanted;
        bool good = text_is_number(text, limits[i], &wanted, &end) && *end == '\0';
        int r = parse_number(text, PARSE_AS_IN_C, 0, limits[i], &number);
        DEMAND(r == (good ? 0 : -EINVAL), "%d", r);
        DEMAND(number == (good ? (unsigned)wanted : UNTOUCHED), "%u", number);
    }
}

static void try_port(const char *text)
{
    static const unsigned limits[] = {64, 65535, UINT32_MAX};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        unsigned number = UNTOUCHED;
        uint64_t wanted;
        bool good = *text && strspn(text, "0123456789") == strlen(text) &&
                    text_is_size(text, &wanted) && wanted <= limits[i];
        int r = parse_number(text, PARSE_DECIMAL, 0, limits[i], &number);
        DEMAND((r == 0) == good, "%d", r);
        DEMAND(r < 0 || number == wanted, "%u", number);
    }
}

static void try_seconds(const char *text)
{
    static const struct {
        const char *unit;
        uint64_t in_a_second;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1000}, {"us", 1000000}, {"ns", 1000000000}};
    unsigned seconds = UNTOUCHED;
    uint64_t number;
    const char *end;
    bool good = false;
    unsigned __int128 wanted = 0;
    if (text_is_number(text, UINT64_MAX, &number, &end))
        for (size_t i = 0; !good && i < sizeof units / sizeof *units; i++) {
            uint64_t each = units[i].in_a_second;
            wanted = ((unsigned __int128)number + each - 1) / each;
            good = strcmp(end, units[i].unit) == 0 && wanted <= OPTIONS_TIMEOUT_MAX;
        }
    int r = parse_seconds(text, OPTIONS_TIMEOUT_MAX, &seconds);
    DEMAND(r == (good ? 0 : -EINVAL), "%d", r);
    DEMAND(seconds == (good ? (unsigned)wanted : UNTOUCHED), "%u", seconds);
}

static void try_words(const char *text)
{
    enum tls_mode mode = TLS_REQUIRE;
    enum log_target target;
    bool value = false;
    if (parse_bool(text, &value) == 0)
        DEMAND(parse_tls_mode(text, &mode) == 0 && mode == (value ? TLS_ON : TLS_OFF),
               "a boolean that is none for TLS");
    else
        DEMAND(parse_tls_mode(text, &mode) < 0 || mode == TLS_REQUIRE, "%d", (int)mode);
    if (parse_log_target(text, &target) == 0)
        DEMAND(target <= LOG_TO_NULL && strlen(text) <= 7, "%d", (int)target);
}

/* What was accepted means the same when it is written out. */
static void try_allocator(const char *text)
{
    struct disk_options before = {.size = UNTOUCHED, .limit = 7, .level = 9, .mlock = true};
    struct disk_options options = before, again = before;
    struct reason reason = {0};
    char written[64];
    int r = disk_parse_allocator(text, &options, &reason);
    if (r < 0) {
        text_check_reason(&reason);
        DEMAND(memcmp(&options, &before, sizeof options) == 0, "refused, and changed");
        return;
    }
    DEMAND(options.allocator && options.size == before.size && options.limit == 7,
           "more than the allocator has changed");
    DEMAND(options.level >= DISK_LEVEL_MIN && options.level <= DISK_LEVEL_MAX, "level %d",
           options.level);
    const char *name = options.allocator->name;
    DEMAND(strncmp(text, name, strlen(name)) == 0, "%s is not %s", text, name);
    if (options.allocator == &allocator_zstd)
        snprintf(written, sizeof written, "zstd,level=%d", options.level);
    else
        snprintf(written, sizeof written, "%s,mlock=%d", name, options.mlock);
    again = before;
    r = disk_parse_allocator(written, &again, &reason);
    DEMAND(r == 0 && again.allocator == options.allocator && again.mlock == options.mlock &&
               again.level == options.level,
           "%s is another", written);
}

/* URIs of a socket whose name is that of the input: the linker replaces getsockname (--wrap). */

static struct sockaddr_un bound;
static socklen_t bound_length;

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    (void)fd;
    memcpy(address, &bound, bound_length < *length ? bound_length : *length);
    *length = bound_length;
    return 0;
}

static int hex(char digit)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *found = digit ? strchr(digits, digit) : NULL;
    DEMAND(found, "%c is not a digit of a URI", digit);
    return (int)(found - digits);
}

/* A piece of a URI, which ends with `end`, has to decode to these bytes.  Returns where it
 * ends. */
static const char *expect_decoded(const char *at, char end, const char *bytes, size_t size)
{
    size_t n = 0;
    for (; *at != end; at++, n++) {
        int byte = (unsigned char)*at;
        DEMAND(byte > ' ' && byte < 0x7f && !strchr("?#[]@\"<>", byte), "%#x in a URI", byte);
        if (*at == '%') {
            byte = hex(at[1]) * 16 + hex(at[2]);
            at += 2;
        }
        DEMAND(n < size && (unsigned char)bytes[n] == byte, "byte %zu became %#x", n, byte);
    }
    DEMAND(n == size, "%zu bytes of %zu", n, size);
    return at;
}

/* The path is what follows the first newline. */
static void try_uri(const char *text)
{
    char *copy = strdup(text), *path = copy ? strchr(copy, '\n') : NULL;
    const struct listeners listeners = {.count = 1};
    if (path)
        *path++ = '\0';
    const struct listen_options options = {
        .kind = &socket_unix,
        .export_name = copy,
        .unix_path = path,
        .is_tls_required = strlen(text) % 2,
    };
    bound = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    n = n < sizeof bound.sun_path ? n : sizeof bound.sun_path;
    memcpy(bound.sun_path, path ? path : "", n);
    bound_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    char *uri = uri_of_listener(&options, &listeners, 0);
    const char *start = options.is_tls_required ? "nbds+unix:///" : "nbd+unix:///";
    DEMAND(uri && copy && strncmp(uri, start, strlen(start)) == 0, "no URI");
    const char *at = expect_decoded(uri + strlen(start), '?', copy, strlen(copy));
    DEMAND(strncmp(at, "?socket=", 8) == 0, "%s", at);
    expect_decoded(at + 8, '\0', bound.sun_path, n);
    free(uri);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const char *text) = {
        try_size,      try_number, try_seconds, try_allocator,
        try_allocator, try_uri,    try_words,   try_port,
    };
    if (size == 0)
        return 0;
    char *text = text_copy(data + 1, size - 1);
    tries[data[0] % (sizeof tries / sizeof *tries)](text);
    free(text);
    return 0;
}
