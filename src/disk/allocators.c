/* SPDX-License-Identifier: BSD-3-Clause */

/* The list of all allocators, and the code that reads it: the grammar of allocator=, the help
 * texts of both fronts, and the messages about a disk that cannot be made.
 *
 * The grammar compares whole words.  It does not guess which name was meant by a misspelt one:
 * the error message lists the accepted names. */

#include "disk/allocator.h"
#include "disk/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "os/memory.h"
#include "text/parse.h"
#include "text/reason.h"

const struct allocator *const allocators[] = {
    &allocator_sparse,
    &allocator_malloc,
    &allocator_zstd,
    NULL,
};

/* The parameters of allocators. */

#define DIGITS_(number) #number
#define DIGITS(number) DIGITS_(number)

static bool takes_mlock(const struct allocator *allocator)
{
    return allocator->takes_mlock;
}

/* A bare "mlock", without a value, turns locking on, as in nbdkit's own memory plugin. */
static int parse_mlock(const char *value, struct disk_options *options)
{
    if (value)
        return parse_bool(value, &options->mlock);
    options->mlock = true;
    return 0;
}

static bool takes_level(const struct allocator *allocator)
{
    return allocator->takes_level;
}

static int parse_level(const char *value, struct disk_options *options)
{
    unsigned level;
    bool has_leading_zeroes = value && strlen(value) > strlen(DIGITS(DISK_LEVEL_MAX));
    if (!value || has_leading_zeroes ||
        parse_number(value, PARSE_DECIMAL, DISK_LEVEL_MIN, DISK_LEVEL_MAX, &level) < 0)
        return -EINVAL;
    options->level = (int)level;
    return 0;
}

/* The parameters that may follow an allocator's name. */
static const struct parameter {
    const char *name;
    const char *synopsis; /* the accepted form, for help texts and messages */
    bool (*is_taken_by)(const struct allocator *allocator);
    /* Parse the text after the equals sign.  value is NULL if there was no equals sign.  Returns
     * 0 or -EINVAL. */
    int (*parse)(const char *value, struct disk_options *options);
} parameters[] = {
    {"mlock", "mlock=true|false", takes_mlock, parse_mlock},
    {"level", "level=" DIGITS(DISK_LEVEL_MIN) ".." DIGITS(DISK_LEVEL_MAX), takes_level,
     parse_level},
};

#define PARAMETER_COUNT (sizeof parameters / sizeof parameters[0])

/* Lists of accepted words, for help texts and messages. */

/* A line of text to which text can be appended.  Text that does not fit is cut off. */
struct list {
    char text[256];
    size_t length;
};

static void append_to_list(struct list *list, const char *text)
{
    size_t room = sizeof list->text - 1 - list->length;
    size_t length = strnlen(text, room);
    memcpy(list->text + list->length, text, length);
    list->length += length;
    list->text[list->length] = '\0';
}

/* Append the name of an allocator and its parameters to the list, such as
 * "zstd[,level=1..19]". */
static void append_synopsis(struct list *list, const struct allocator *allocator)
{
    append_to_list(list, allocator->name);
    for (size_t i = 0; i < PARAMETER_COUNT; i++) {
        if (!parameters[i].is_taken_by(allocator))
            continue;
        append_to_list(list, "[,");
        append_to_list(list, parameters[i].synopsis);
        append_to_list(list, "]");
    }
}

static struct list list_allocators(void)
{
    struct list list = {.length = 0};
    for (size_t i = 0; allocators[i]; i++) {
        if (i > 0)
            append_to_list(&list, allocators[i + 1] ? ", " : " and ");
        append_synopsis(&list, allocators[i]);
    }
    return list;
}

static struct list list_parameters(const struct allocator *allocator)
{
    struct list list = {.length = 0};
    for (size_t i = 0; i < PARAMETER_COUNT; i++) {
        if (!parameters[i].is_taken_by(allocator))
            continue;
        append_to_list(&list, list.length > 0 ? " and " : "");
        append_to_list(&list, parameters[i].synopsis);
    }
    append_to_list(&list, list.length == 0 ? "no parameter" : "");
    return list;
}

void disk_print_allocators(FILE *to, const char *indent)
{
    for (size_t i = 0; allocators[i]; i++) {
        struct list synopsis = {.length = 0};
        append_synopsis(&synopsis, allocators[i]);
        fprintf(to, "%s%-25s  %s", indent, synopsis.text, allocators[i]->summary);
        if (allocators[i]->takes_level)
            fprintf(to, " (level=%d)", DISK_LEVEL_DEFAULT);
        fprintf(to, "%s\n", i == 0 ? " (default)" : "");
    }
}

void disk_print_features(FILE *to)
{
    for (size_t i = 0; allocators[i]; i++)
        fprintf(to, "%s=yes\n", allocators[i]->name);
    fprintf(to, "mlock=yes\n"
                "limit=yes\n");
}

/* The grammar of allocator=. */

#define refuse(reason, ...) reason_set(reason, -EINVAL, __VA_ARGS__)

#define WORD_MAX 64 /* size of a buffer in bytes; no accepted word is as long as that */

/* Copy the next word of *text to word.  The word ends at the separator or at the end of the
 * string.  Then set *text to the text after the separator, or to NULL if this was the last word.
 * A word that does not fit is cut off, which does no harm: all accepted words fit. */
static void next_word(const char **text, char separator, char word[WORD_MAX])
{
    const char *end = strchr(*text, separator);
    size_t length = end ? (size_t)(end - *text) : strlen(*text);
    size_t kept = length < WORD_MAX ? length : WORD_MAX - 1;
    memcpy(word, *text, kept);
    word[kept] = '\0';
    *text = end ? end + 1 : NULL;
}

static const struct allocator *find_allocator(const char *name)
{
    for (size_t i = 0; allocators[i]; i++)
        if (strcmp(allocators[i]->name, name) == 0)
            return allocators[i];
    return NULL;
}

static const struct parameter *find_parameter(const char *name, const struct allocator *allocator)
{
    for (size_t i = 0; i < PARAMETER_COUNT; i++)
        if (strcmp(parameters[i].name, name) == 0 && parameters[i].is_taken_by(allocator))
            return &parameters[i];
    return NULL;
}

static int parse_parameter(const char *word, struct disk_options *options, struct reason *reason)
{
    const struct allocator *allocator = options->allocator;
    const char *value = word;
    char name[WORD_MAX];
    next_word(&value, '=', name);
    const struct parameter *parameter = find_parameter(name, allocator);
    if (!parameter)
        return refuse(reason, "allocator=%s: unknown parameter '%s': %s is accepted",
                      allocator->name, word, list_parameters(allocator).text);
    if (parameter->parse(value, options) < 0)
        return refuse(reason, "allocator=%s: '%s' is wrong: %s is accepted", allocator->name,
                      word, parameter->synopsis);
    return 0;
}

int disk_parse_allocator(const char *text, struct disk_options *options, struct reason *reason)
{
    struct disk_options parsed = *options;
    char word[WORD_MAX];
    next_word(&text, ',', word);
    parsed.allocator = find_allocator(word);
    parsed.mlock = false;
    parsed.level = DISK_LEVEL_DEFAULT;
    if (!parsed.allocator)
        return refuse(reason, "unknown allocator '%s': %s are accepted", word,
                      list_allocators().text);
    while (text) {
        next_word(&text, ',', word);
        int r = parse_parameter(word, &parsed, reason);
        if (r < 0)
            return r;
    }
    *options = parsed;
    return 0;
}
/* Messages about disks that cannot be made. */

/* Whether the disk is larger than the limit on locked memory.  If that limit is above 0 and a
 * process tries to lock more, the kernel's error is ENOMEM, not EPERM. */
static bool is_beyond_lock_limit(const struct disk_options *options)
{
    struct rlimit limit;
    return options->mlock && geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
           limit.rlim_cur != RLIM_INFINITY && options->size > limit.rlim_cur;
}

void disk_explain(const struct disk_options *options, int error, struct reason *reason)
{
    unsigned long long size = options->size, limit = options->limit;
    const struct allocator *allocator = options->allocator ? options->allocator : allocators[0];
    if (error == -EPERM || (error == -ENOMEM && is_beyond_lock_limit(options)))
        reason_set(reason, error,
                   "locking memory is not permitted: raise the limit on locked memory "
                   "(ulimit -l, RLIMIT_MEMLOCK)");
    else if (error == -ENOMEM && allocator->takes_all && limit)
        reason_set(reason, error,
                   "a disk of %llu bytes does not fit into limit=%llu with allocator=%s: raise "
                   "the limit or use allocator=%s",
                   size, limit, allocator->name, allocators[0]->name);
    else if (error == -EAGAIN)
        reason_set(reason, error,
                   "no thread can be started for the disk: raise the limit on processes "
                   "(ulimit -u, pids.max) or on address space (ulimit -v, RLIMIT_AS)");
    else if (error == -ENOMEM && os_address_space_left() != UINT64_MAX)
        reason_set(
            reason, error,
            "not enough memory for a disk of %llu bytes with allocator=%s: the machine and "
            "its control group cannot give that much now, or the limit on address space "
            "(ulimit -v, RLIMIT_AS) does not allow it",
            size, allocator->name);
    else if (error == -ENOMEM)
        reason_set(
            reason, error,
            "not enough memory for a disk of %llu bytes with allocator=%s: the machine and "
            "its control group cannot give that much now",
            size, allocator->name);
    else
        reason_set(reason, error, "making a disk of %llu bytes: ", size);
}
