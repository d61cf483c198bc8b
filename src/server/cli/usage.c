/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/cli/usage.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "disk/disk.h"
#include "server/cli/option_table.h"

#define HELP_COLUMN 36

/* Print the names of an option, as in "-U, --unix PATH".  Returns the number of characters. */
static int print_option(const struct option_row *row)
{
    int length = 0;
    if (row->letter)
        length += printf("-%c, ", row->letter);
    length += printf("--%s", row->names[0]);
    if (row->argument)
        length += printf(strchr(row->argument, '|') ? "=%s" : " %s", row->argument);
    return length;
}

/* Print the options.  An option without a help text is printed in the same line as the next
 * option. */
static void print_options(void)
{
    int column = 0;
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        if (row->kind == OPTION_REFUSED)
            continue;
        column += printf("  ");
        column += print_option(row);
        if (!row->help)
            continue;
        printf("%*s%s\n", column < HELP_COLUMN ? HELP_COLUMN - column : 2, "", row->help);
        column = 0;
    }
}

static void print_help(void)
{
    printf("nbdram [OPTION...] [memory] [size=]SIZE [limit=SIZE] [allocator=KIND]\n"
           "A RAM disk over NBD, on loopback unless told otherwise.  Try: nbdram 1G\n");
    print_options();
    printf("SIZE: bytes, or as 100M, 10G, 2T.  limit=: the most memory to take.  KIND:\n");
    disk_print_allocators(stdout, "  ");
    printf("  nbdram -U /tmp/s -P pid 10G allocator=zstd,level=3\n"
           "  nbdram -U - 1G --run 'nbdcopy fedora.img $uri'\n");
}

static void print_version(void)
{
    printf("nbdram " NBDRAM_VERSION "\n");
}

static void print_config(void)
{
    int major = 0, minor = 0;
    char binary[4096];
    struct utsname host;
    ssize_t length = readlink("/proc/self/exe", binary, sizeof binary);
    sscanf(NBDRAM_VERSION, "%d.%d", &major, &minor);
    if (length > 0 && (size_t)length < sizeof binary)
        printf("binary=%.*s\n", (int)length, binary);
    printf("exit_with_parent=yes\n");
    if (uname(&host) == 0)
        printf("host_cpu=%s\n", host.machine);
    printf("host_os=linux\n"
           "name=nbdram\n"
           "selinux=no\n"
           "tls=yes\n"
           "version=" NBDRAM_VERSION "\n"
           "version_major=%d\n"
           "version_minor=%d\n"
           "zstd=yes\n",
           major, minor);
}

static void print_plugin(void)
{
    printf("name=memory\n"
           "version=" NBDRAM_VERSION "\n"
           "max_thread_model=parallel\n"
           "thread_model=parallel\n"
           "errno_is_preserved=1\n"
           "magic_config_key=size\n");
    disk_print_features(stdout);
}

static void print_long_options(void)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        if (row->kind == OPTION_REFUSED)
            continue;
        for (size_t j = 0; j < OPTION_NAMES_MAX && row->names[j]; j++)
            printf("--%s\n", row->names[j]);
    }
}

static void print_short_options(void)
{
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].letter && option_table[i].kind != OPTION_REFUSED)
            printf("-%c\n", option_table[i].letter);
}

void usage_print(enum option_text text)
{
    switch (text) {
    case TEXT_HELP:
        print_help();
        return;
    case TEXT_VERSION:
        print_version();
        return;
    case TEXT_CONFIG:
        print_config();
        return;
    case TEXT_PLUGIN:
        print_plugin();
        return;
    case TEXT_LONG_OPTIONS:
        print_long_options();
        return;
    case TEXT_SHORT_OPTIONS:
        print_short_options();
        return;
    }
}
