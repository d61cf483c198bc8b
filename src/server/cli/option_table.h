/* SPDX-License-Identifier: BSD-3-Clause */

/* option_table - every option of nbdram, once
 *
 * The parser, --help, --long-options and --short-options are all made from this table, so none of
 * them can know an option that another does not.  For options.c and usage.c only.
 */

#ifndef NBDRAM_SERVER_CLI_OPTION_TABLE_H
#define NBDRAM_SERVER_CLI_OPTION_TABLE_H

#include <stddef.h>

#define OPTION_ALIASES_MAX 2

/* What becomes of the value.  `field` is where in struct options; its type is in brackets. */
enum option_kind {
    OPTION_FLAG,    /* becomes true [bool] */
    OPTION_TEXT,    /* as it is [const char *] */
    OPTION_NAME,    /* the same, not empty [const char *] */
    OPTION_NUMBER,  /* 0 to max [unsigned] */
    OPTION_SECONDS, /* a time, 0 to max seconds [unsigned] */
    OPTION_MASK,    /* its low 16 bits [uint16_t] */
    OPTION_TLS,     /* [enum tls_mode] */
    OPTION_LOG,     /* [enum log_target] */
    OPTION_FAMILY,  /* becomes max, an address family [int] */
    OPTION_PRINT,   /* print, and be done */
    OPTION_NOTED,   /* that it was given is all */
    OPTION_REFUSED, /* nbdkit's, and not ours: `help` says why */
};

struct option_row {
    const char *name;
    const char *aliases[OPTION_ALIASES_MAX];
    char letter;          /* '\0': none */
    const char *argument; /* what it is called in --help; NULL: there is none */
    const char *help;     /* NULL: told in the line of the next option */
    enum option_kind kind;
    size_t field;
    unsigned max;
    void (*print)(void);
};

extern const struct option_row option_table[];
extern const size_t option_count;

#endif
