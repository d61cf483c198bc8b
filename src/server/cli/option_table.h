/* SPDX-License-Identifier: BSD-3-Clause */

/* option_table - the table of all options of nbdram
 *
 * The parser, --help, --long-options and --short-options all read this table, so all of them know
 * the same options.  Only command_line.c and usage.c use it.
 *
 * To add an option: add a field to struct options, and one row to the table, by the macro of its
 * kind.  The macro refuses to compile if the field does not have the type of that kind.
 */

#ifndef NBDRAM_SERVER_CLI_OPTION_TABLE_H
#define NBDRAM_SERVER_CLI_OPTION_TABLE_H

#include <stddef.h>

#define OPTION_NAMES_MAX 3

/* What the option does with its value.  The type in brackets is that of its field in struct
 * options. */
enum option_kind {
    OPTION_FLAG,    /* takes no value; becomes true [bool] */
    OPTION_TEXT,    /* any text, kept unchanged [const char *] */
    OPTION_NAME,    /* a text that is not empty, kept unchanged [const char *] */
    OPTION_NUMBER,  /* a number from 0 to max [unsigned] */
    OPTION_SECONDS, /* a time from 0 to max seconds [unsigned] */
    OPTION_MASK,    /* a number; its low 16 bits are kept [uint16_t] */
    OPTION_TLS,     /* the name of a TLS mode [enum tls_mode] */
    OPTION_LOG,     /* the name of a log target [enum log_target] */
    OPTION_FAMILY,  /* takes no value; becomes the row's address family [int] */
    OPTION_PRINT,   /* takes no value; prints something instead of serving */
    OPTION_SOCKET,  /* takes no value; listens on the row's kind of socket */
    OPTION_IGNORED, /* takes no value; has no effect, and is accepted because nbdkit has it */
    OPTION_REFUSED, /* an option of nbdkit that is not accepted here; `help` says why */
};

/* What an option of the kind OPTION_PRINT prints. */
enum option_text {
    TEXT_HELP,          /* usage, and a line for each option */
    TEXT_VERSION,       /* the program's name and version */
    TEXT_CONFIG,        /* NAME=VALUE lines about this build, as nbdkit's --dump-config */
    TEXT_PLUGIN,        /* NAME=VALUE lines about the plugin, as nbdkit's --dump-plugin */
    TEXT_LONG_OPTIONS,  /* one name of an option a line, for completion in shells */
    TEXT_SHORT_OPTIONS, /* one letter of an option a line */
};

struct socket_kind; /* server/net/socket_kind.h */

struct option_row {
    enum option_kind kind;
    char letter;                         /* '\0': the option has no letter */
    const char *names[OPTION_NAMES_MAX]; /* the name that messages use, then its aliases */
    const char *argument;                /* the value's name in --help; NULL: it takes no value */
    const char *help; /* NULL: --help shows the option in the line of the next one */
    size_t field;     /* offset of the field in struct options; `kind` determines its type */
    unsigned max;     /* the largest value of an OPTION_NUMBER or OPTION_SECONDS */
    int family;       /* the address family that an OPTION_FAMILY chooses */
    const struct socket_kind *socket; /* the kind of socket that the option chooses; NULL: none */
    enum option_text print;           /* the text that an OPTION_PRINT prints */
};

extern const struct option_row option_table[];
extern const size_t option_count;

#endif
