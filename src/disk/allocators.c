/* SPDX-License-Identifier: BSD-3-Clause */

/* The grammar of allocator=.  Whole words are compared: a name that is nearly right is a mistake
 * to be told, not guessed at. */

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "disk/allocator.h"
#include "text/parse.h"
#include "text/reason.h"

struct word {
    const char *at;
    size_t length;
};

/* Cut the next word, up to `separator` or the end, off text.  False after the last. */
static bool next_word(const char **text, char separator, struct word *word)
{
    if (!*text)
        return false;
    const char *end = strchr(*text, separator);
    word->at = *text;
    word->length = end ? (size_t)(end - *text) : strlen(*text);
    *text = end ? end + 1 : NULL;
    return true;
}

static bool is(const struct word *word, const char *name)
{
    return strlen(name) == word->length && strncmp(word->at, name, word->length) == 0;
}

/* A bare "mlock" turns it on: the stock plugin takes that, too. */
static int parse_switch(const char *value, bool *on)
{
    if (value)
        return parse_bool(value, on);
    *on = true;
    return 0;
}

/* The level that is written without needless zeroes before it. */
static int parse_level(const char *value, int *level)
{
    unsigned parsed;
    if (!value || strlen(value) > 2 ||
        parse_number(value, PARSE_DECIMAL, DISK_LEVEL_MIN, DISK_LEVEL_MAX, &parsed) < 0)
        return -EINVAL;
    *level = (int)parsed;
    return 0;
}

const struct allocator *const allocators[] = {
    &allocator_sparse,
    &allocator_malloc,
    &allocator_zstd,
    NULL,
};

#define refuse(reason, ...) reason_set(reason, -EINVAL, __VA_ARGS__)

static int parse_parameter(const struct word *word, const struct allocator *allocator,
                           struct disk_options *options, struct reason *reason)
{
    const char *rest = word->at;
    char copy[64];
    struct word key;
    if (word->length >= sizeof copy)
        return refuse(reason, "allocator=%s: a parameter is too long", allocator->name);
    memcpy(copy, rest, word->length);
    copy[word->length] = '\0';
    rest = copy;
    next_word(&rest, '=', &key);
    if (allocator->takes_mlock && is(&key, "mlock"))
        return parse_switch(rest, &options->mlock) == 0
                   ? 0
                   : refuse(reason,
                            "allocator=%s: '%s' is not accepted: mlock=true or mlock=false",
                            allocator->name, copy);
    if (allocator->takes_level && is(&key, "level"))
        return parse_level(rest, &options->level) == 0
                   ? 0
                   : refuse(reason, "allocator=%s: '%s' is not accepted: level=%d to level=%d",
                            allocator->name, copy, DISK_LEVEL_MIN, DISK_LEVEL_MAX);
    return refuse(reason, "allocator=%s: unknown parameter '%s': %s is accepted", allocator->name,
                  copy, allocator->takes_mlock ? "mlock=true|false" : "level=1..19");
}

static int find_name(const struct word *word, const struct allocator **found,
                     struct reason *reason)
{
    for (size_t i = 0; allocators[i]; i++) {
        if (is(word, allocators[i]->name)) {
            *found = allocators[i];
            return 0;
        }
    }
    return refuse(reason,
                  "unknown allocator '%.*s': sparse[,mlock=true|false], "
                  "malloc[,mlock=true|false] and zstd[,level=1..19] are accepted",
                  word->length < 64 ? (int)word->length : 64, word->at);
}

int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason)
{
    struct disk_options parsed = *options;
    struct word word = {.at = ""};
    const struct allocator *allocator = NULL;
    next_word(&text, ',', &word);
    int r = find_name(&word, &allocator, reason);
    parsed.allocator = allocator;
    parsed.mlock = false;
    parsed.level = DISK_LEVEL_DEFAULT;
    while (r == 0 && next_word(&text, ',', &word))
        r = parse_parameter(&word, allocator, &parsed, reason);
    if (r == 0)
        *options = parsed;
    return r;
}

/* Once the limit is above 0 the kernel says of it, too, that there is no memory. */
static bool is_beyond_lock_limit(const struct disk_options *options)
{
    struct rlimit limit;
    return options->mlock && geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
           limit.rlim_cur != RLIM_INFINITY && options->size > limit.rlim_cur;
}

void disk_explain(const struct disk_options *options, int error, struct reason *reason)
{
    unsigned long long size = options->size, limit = options->limit;
    if (error == -EPERM || (error == -ENOMEM && is_beyond_lock_limit(options)))
        reason_set(reason, error,
                   "locking memory is not permitted: raise the limit on locked memory "
                   "(ulimit -l, RLIMIT_MEMLOCK)");
    else if (error == -ENOMEM && options->allocator && options->allocator->takes_all && limit)
        reason_set(reason, error,
                   "a disk of %llu bytes does not fit into limit=%llu with allocator=%s", size,
                   limit, options->allocator->name);
    else if (error == -ENOMEM)
        reason_set(reason, error,
                   "not enough memory for a disk of %llu bytes with this allocator: the machine "
                   "and its control group cannot give that much now",
                   size);
    else
        reason_set(reason, error, "making a disk of %llu bytes: ", size);
}
