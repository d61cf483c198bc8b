/* SPDX-License-Identifier: BSD-3-Clause */

/* option_table - the table of all options of nbdram
 *
 * The parser, --help, --long-options and --short-options all read this table, so they all know
 * the same options.  Only command_line.c and usage.c use the table.
 *
 * To add an option, add a field to struct options, and add a row to the table with the macro for
 * the kind of option.  The macro compiles only if the field has the type of that kind.
 */

#ifndef NBDRAM_SERVER_CLI_OPTION_TABLE_H
#define NBDRAM_SERVER_CLI_OPTION_TABLE_H

#include <stddef.h>

#define OPTION_NAMES_MAX 3

/* What an option does with its value.  The brackets contain the type of the option's field in
 * struct options. */
enum option_kind {
    OPTION_FLAG,    /* takes no value; sets the field to true [bool] */
    OPTION_TEXT,    /* any text, kept unchanged [const char *] */
    OPTION_NAME,    /* a text that is not empty, kept unchanged [const char *] */
    OPTION_ADDRESS, /* one more address, added to a list [struct listen_addresses] */
    OPTION_NUMBER,  /* a number from 0 to the row's max [unsigned] */
    OPTION_SECONDS, /* a time from 0 to the row's max, in seconds [unsigned] */
    OPTION_MODE,    /* the mode of a file, in octal, from 1 to 777 [mode_t] */
    OPTION_MASK,    /* a number, of which the low 16 bits are stored [uint16_t] */
    OPTION_TLS,     /* the name of a TLS mode [enum tls_mode] */
    OPTION_LOG,     /* the name of a log target [enum log_target] */
    OPTION_FAMILY,  /* takes no value; stores the row's address family [int] */
    OPTION_PRINT,   /* takes no value; prints a text instead of serving */
    OPTION_SOCKET,  /* takes no value; listens on the row's kind of socket */
    OPTION_IGNORED, /* takes no value; does nothing, and is accepted because nbdkit has it */
    OPTION_REFUSED, /* an option of nbdkit that is refused; `help` says why */
};

/* What an option of the kind OPTION_PRINT prints. */
enum option_text {
    TEXT_HELP,          /* usage, and a line for each option */
    TEXT_VERSION,       /* the program's name and version */
    TEXT_CONFIG,        /* NAME=VALUE lines about this build, like --dump-config of nbdkit */
    TEXT_PLUGIN,        /* NAME=VALUE lines about the plugin, like --dump-plugin of nbdkit */
    TEXT_LONG_OPTIONS,  /* the long names of all options, one a line, for completion in shells */
    TEXT_SHORT_OPTIONS, /* the letters of all options, one a line */
};

struct socket_kind; /* server/net/socket_kind.h */

struct option_row {
    enum option_kind kind;
    char letter;                         /* the option's letter; '\0': none */
    const char *names[OPTION_NAMES_MAX]; /* the name that messages use, followed by aliases */
    const char *argument;                /* name of the value in --help; NULL: no value */
    const char *help;                    /* help text; NULL: the row shares the next row's text */
    size_t field;                        /* offset of the option's field in struct options */
    unsigned max; /* the largest value of an OPTION_NUMBER or OPTION_SECONDS */
    int family;   /* the address family that an OPTION_FAMILY chooses */
    const struct socket_kind *socket; /* the kind of socket that the option chooses; NULL: none */
    enum option_text print;           /* the text that an OPTION_PRINT prints */
};

extern const struct option_row option_table[];
extern const size_t option_count;

#endif
