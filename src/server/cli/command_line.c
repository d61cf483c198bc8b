/* SPDX-License-Identifier: BSD-3-Clause */

/* Options and parameters may come in any order.  The parser takes the words one by one, from left
 * to right.  For each option, its row in option_table.c determines whether a value is stored or
 * the option is refused.  After the last word, the parser looks for contradictions. */

#include "server/cli/command_line.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd/protocol.h"
#include "server/cli/option_table.h"
#include "server/cli/options.h"
#include "server/cli/parse_value.h"
#include "server/cli/usage.h"
#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "text/parse.h"
#include "text/reason.h"

#define ROWS_MAX 64
#define SEE_HELP "see nbdram --help"
#define SIZE_GRAMMAR "a whole number with at most one of the letters b k m g t p e s"

struct parse {
    struct options *options;
    bool given[ROWS_MAX]; /* given[i]: whether the option in option_table[i] was given */
    unsigned parameters;  /* how many parameters have been parsed so far */
    bool has_size;
    const struct option_row *print; /* the last OPTION_PRINT option that was given; NULL: none */
    struct reason *reason;
};

#define refuse(parse, ...) reason_set((parse)->reason, -EINVAL, __VA_ARGS__)

/* These functions store the values of options. */

static int store_name(struct parse *parse, const struct option_row *row, const char **field,
                      const char *value)
{
    if (*value == '\0')
        return refuse(parse, "--%s: it must not be empty: %s is needed", row->names[0],
                      row->argument);
    *field = value;
    return 0;
}

static int store_address(struct parse *parse, const struct option_row *row,
                         struct listen_addresses *field, const char *value)
{
    if (field->count == LISTEN_ADDRESSES_MAX)
        return refuse(parse, "--%s: at most %d are accepted", row->names[0],
                      LISTEN_ADDRESSES_MAX);
    int r = store_name(parse, row, &field->names[field->count], value);
    if (r == 0)
        field->count++;
    return r;
}

static int store_number(struct parse *parse, const struct option_row *row, unsigned *field,
                        const char *value)
{
    if (parse_number(value, PARSE_AS_IN_C, 0, row->max, field) < 0)
        return refuse(parse, "--%s=%.60s: 0 to %u are accepted", row->names[0], value, row->max);
    return 0;
}

static int store_seconds(struct parse *parse, const struct option_row *row, unsigned *field,
                         const char *value)
{
    if (parse_seconds(value, row->max, field) < 0)
        return refuse(parse, "--%s=%.60s: 0 to %u seconds are accepted", row->names[0], value,
                      row->max);
    return 0;
}

static int store_mode(struct parse *parse, const struct option_row *row, mode_t *field,
                      const char *value)
{
    unsigned mode;
    if (parse_number(value, PARSE_OCTAL, 1, 0777, &mode) < 0)
        return refuse(parse, "--%s=%.60s: octal digits from 1 to 777 are accepted, such as 660",
                      row->names[0], value);
    *field = (mode_t)mode;
    return 0;
}

static int store_mask(struct parse *parse, const struct option_row *row, uint16_t *field,
                      const char *value)
{
    unsigned mask;
    if (parse_number(value, PARSE_AS_IN_C, 0, UINT_MAX, &mask) < 0)
        return refuse(parse, "--%s=%.60s: a number is accepted, decimal or as 0xffff",
                      row->names[0], value);
    *field = (uint16_t)(mask & UINT16_MAX);
    return 0;
}

static int store_tls_mode(struct parse *parse, const struct option_row *row, enum tls_mode *field,
                          const char *value)
{
    if (parse_tls_mode(value, field) < 0)
        return refuse(parse, "--%s=%.60s: off, on and require are accepted", row->names[0],
                      value);
    return 0;
}

static int store_log_target(struct parse *parse, const struct option_row *row,
                            enum log_target *field, const char *value)
{
    if (parse_log_target(value, field) < 0)
        return refuse(parse, "--%s=%.60s: stderr, syslog, null and default are accepted",
                      row->names[0], value);
    return 0;
}

/* Return a pointer to the field of struct options in which the option of this row is stored.  The
 * macros of option_table.c have checked at compile time that the field has the type for
 * row->kind. */
static void *field_of(struct options *options, const struct option_row *row)
{
    return (char *)options + row->field;
}

static void store_flag(bool *field)
{
    *field = true;
}

static void store_text(const char **field, const char *value)
{
    *field = value;
}

static void store_family(int *field, int family)
{
    *field = family;
}

/* Store the value of an option.  If the option takes no value, value is NULL. */
static int store_option(struct parse *parse, const struct option_row *row, const char *value)
{
    void *field = field_of(parse->options, row);
    switch (row->kind) {
    case OPTION_FLAG:
        store_flag(field);
        return 0;
    case OPTION_TEXT:
        store_text(field, value);
        return 0;
    case OPTION_FAMILY:
        store_family(field, row->family);
        return 0;
    case OPTION_NAME:
        return store_name(parse, row, field, value);
    case OPTION_ADDRESS:
        return store_address(parse, row, field, value);
    case OPTION_NUMBER:
        return store_number(parse, row, field, value);
    case OPTION_SECONDS:
        return store_seconds(parse, row, field, value);
    case OPTION_MODE:
        return store_mode(parse, row, field, value);
    case OPTION_MASK:
        return store_mask(parse, row, field, value);
    case OPTION_TLS:
        return store_tls_mode(parse, row, field, value);
    case OPTION_LOG:
        return store_log_target(parse, row, field, value);
    case OPTION_PRINT:
        parse->print = row;
        return 0;
    case OPTION_SOCKET: /* choose_socket handles OPTION_SOCKET after all words are parsed */
    case OPTION_IGNORED:
        return 0;
    case OPTION_REFUSED:
        return refuse(parse, "--%s is not accepted: %s", row->names[0], row->help);
    }
    return 0;
}

/* Parameters. */

/* Is this word "memory", the name of nbdkit's memory plugin, or the name of that plugin's file?
 * Users of nbdkit type such a word before the parameters. */
static bool is_plugin(const char *word)
{
    const char *slash = strrchr(word, '/');
    return strcmp(word, "memory") == 0 ||
           strcmp(slash ? slash + 1 : word, "nbdkit-memory-plugin.so") == 0;
}

static int set_size(struct parse *parse, const char *value)
{
    if (parse_size(value, &parse->options->disk.size) < 0)
        return refuse(parse, "size=%.60s: " SIZE_GRAMMAR ", up to 2^63-1, is accepted", value);
    parse->has_size = true;
    return 0;
}

static int set_limit(struct parse *parse, const char *value)
{
    uint64_t limit;
    if (parse_size(value, &limit) < 0 || limit < DISK_LIMIT_MIN)
        return refuse(parse, "limit=%.60s: " SIZE_GRAMMAR ", at least 1M, is accepted", value);
    parse->options->disk.limit = limit;
    return 0;
}

/* Return the length of KEY if word is KEY=VALUE, or 0 if word is a size.  A key begins with a
 * letter, as in nbdkit. */
static size_t key_length(const char *word)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    size_t length = strspn(word, allowed);
    bool starts_with_letter = length && !strchr("0123456789._-", *word);
    return starts_with_letter && word[length] == '=' ? length : 0;
}

static int set_parameter(struct parse *parse, const char *word)
{
    if (parse->parameters++ == 0 && is_plugin(word))
        return 0;
    size_t length = key_length(word);
    if (length == 0)
        return set_size(parse, word);
    const char *value = word + length + 1;
    if (strncmp(word, "size=", length + 1) == 0)
        return set_size(parse, value);
    if (strncmp(word, "limit=", length + 1) == 0)
        return set_limit(parse, value);
    if (strncmp(word, "allocator=", length + 1) == 0)
        return disk_parse_allocator(value, &parse->options->disk, parse->reason);
    return refuse(parse, "unknown parameter '%.*s': size, limit and allocator are accepted",
                  (int)(length < 60 ? length : 60), word);
}

/* getopt_long splits the command line into options and parameters. */

/* getopt_long returns FIRST_LONG + i for a long name of the option in option_table[i]. */
#define FIRST_LONG (UCHAR_MAX + 1)
#define NAMES_MAX (ROWS_MAX * OPTION_NAMES_MAX)

struct tables {
    char letters[2 + 2 * ROWS_MAX + 1];
    struct option longs[NAMES_MAX + 1];
};

static void make_tables(struct tables *tables)
{
    struct option *next = tables->longs;
    char *letter = tables->letters;
    assert(option_count <= ROWS_MAX);
    *letter++ = '-'; /* '-' makes getopt_long return all words in order, including parameters */
    *letter++ = ':'; /* ':' makes getopt_long print no messages */
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        const int has_argument = row->argument ? required_argument : no_argument;
        const int code = FIRST_LONG + (int)i;
        for (size_t j = 0; j < OPTION_NAMES_MAX && row->names[j]; j++)
            *next++ = (struct option){row->names[j], has_argument, NULL, code};
        if (row->letter)
            *letter++ = row->letter;
        if (row->letter && row->argument)
            *letter++ = ':';
    }
    *next = (struct option){0};
    *letter = '\0';
}

/* Find the option for which getopt_long uses `code`.  Returns the index of the option's row, or
 * option_count if there is no such option. */
static size_t find_row(int code)
{
    if (code >= FIRST_LONG)
        return (size_t)(code - FIRST_LONG);
    for (size_t i = 0; i < option_count; i++)
        if (code && option_table[i].letter == code)
            return i;
    return option_count;
}

/* Refuse an option after getopt_long has returned '?' or ':' for word.  If the option is in the
 * table, getopt_long has stored the code of that option in optopt. */
static int refuse_option_word(struct parse *parse, int code, const char *word)
{
    size_t i = find_row(optopt);
    if (i < option_count && code == ':')
        return refuse(parse, "--%s: it needs a value: %s", option_table[i].names[0],
                      option_table[i].argument);
    if (i < option_count)
        return refuse(parse, "--%s: it takes no value", option_table[i].names[0]);
    if (optopt > ' ' && optopt < 0x7f)
        return refuse(parse, "unknown option '-%c': " SEE_HELP, optopt);
    if (optopt)
        return refuse(parse, "unknown option: " SEE_HELP);
    return refuse(parse, "unknown or ambiguous option '%.60s': " SEE_HELP, word);
}

static int parse_words(struct parse *parse, int argc, char **argv)
{
    struct tables tables;
    make_tables(&tables);
    optind = 0; /* 0 makes getopt_long start anew, even if an earlier parse was not finished */
    int r = 0, code;
    while (r == 0 && (code = getopt_long(argc, argv, tables.letters, tables.longs, NULL)) != -1) {
        size_t i = find_row(code);
        if (code == 1) {
            r = set_parameter(parse, optarg);
        } else if (i < option_count) {
            parse->given[i] = true;
            r = store_option(parse, &option_table[i], optarg);
        } else {
            r = refuse_option_word(parse, code, argv[optind - 1]);
        }
    }
    for (; r == 0 && optind < argc; optind++)
        r = set_parameter(parse, argv[optind]);
    return r;
}

/* These checks need the whole command line. */

static bool is_given(const struct parse *parse, const char *name)
{
    size_t i = 0;
    while (strcmp(option_table[i].names[0], name) != 0) {
        i++;
        assert(i < option_count);
    }
    return parse->given[i];
}

static int refuse_both(struct parse *parse, const char *name, const char *other)
{
    return refuse(parse, "--%s and --%s contradict each other: one of them is accepted", name,
                  other);
}

static int check_contradictions(struct parse *parse)
{
    if (is_given(parse, "tls-verify-peer") && is_given(parse, "tls-psk"))
        return refuse_both(parse, "tls-verify-peer", "tls-psk");
    return 0;
}

/* Find the first option, starting at row i, that was given and that chooses a kind of socket.
 * Returns the row of that option, or NULL if there is none. */
static const struct option_row *find_socket_row(const struct parse *parse, size_t i)
{
    for (; i < option_count; i++)
        if (parse->given[i] && option_table[i].socket)
            return &option_table[i];
    return NULL;
}

static int choose_socket(struct parse *parse)
{
    const struct option_row *row = find_socket_row(parse, 0);
    if (!row)
        return 0;
    const struct option_row *second = find_socket_row(parse, (size_t)(row - option_table) + 1);
    if (second)
        return refuse_both(parse, row->names[0], second->names[0]);
    const struct {
        const char *name;
        bool is_accepted;
    } others[] = {
        {"port", row->socket->port_max > 0 || row->socket->allows_tcp},
        {"ip-addr", row->socket->has_addresses || row->socket->allows_tcp},
        {"run", !row->socket->is_single},
        {"print-uri", !row->socket->is_single},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (is_given(parse, others[i].name) && !others[i].is_accepted)
            return refuse_both(parse, row->names[0], others[i].name);
    parse->options->listen.kind = row->socket;
    if (row->socket->allows_tcp && (is_given(parse, "port") || is_given(parse, "ip-addr")))
        parse->options->listen.second = &socket_tcp;
    return 0;
}

/* Did a service manager pass us sockets?  By sd_listen_fds(3), LISTEN_FDS counts only if
 * LISTEN_PID is the id of this process. */
static bool is_activated(void)
{
    const char *pid = getenv("LISTEN_PID");
    unsigned number;
    return pid && getenv("LISTEN_FDS") &&
           parse_number(pid, PARSE_DECIMAL, 0, INT_MAX, &number) == 0 &&
           number == (unsigned)getpid();
}

static int refuse_with_activation(struct parse *parse, const char *name)
{
    return refuse(
        parse, "--%s is not accepted with socket activation: leave it out, or unset LISTEN_FDS",
        name);
}

static int check_activation(struct parse *parse)
{
    static const char *const others[] = {"port", "ip-addr", "run"};
    const struct option_row *row = find_socket_row(parse, 0);
    const char *count = getenv("LISTEN_FDS");
    unsigned number;
    if (!is_activated())
        return 0;
    if (parse_number(count, PARSE_DECIMAL, 1, LISTENERS_MAX, &number) < 0)
        return refuse(parse, "LISTEN_FDS=%.60s: 1 to %d sockets are accepted", count,
                      LISTENERS_MAX);
    if (row)
        return refuse_with_activation(parse, row->names[0]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (is_given(parse, others[i]))
            return refuse_with_activation(parse, others[i]);
    parse->options->listen.kind = &socket_activated;
    return 0;
}

/* Check the port, unless it is the name of a service.  The system looks up such a name when we
 * listen. */
static int check_port(struct parse *parse)
{
    const char *port = parse->options->listen.port;
    const struct listen_options *listen = &parse->options->listen;
    const struct socket_kind *kind = listen->second ? listen->second : listen->kind;
    unsigned number;
    if (!port || (kind->has_service_names && !strchr("+-0123456789", *port)))
        return 0;
    if (parse_number(port, PARSE_DECIMAL, 0, kind->port_max, &number) < 0)
        return refuse(parse, "--port=%.60s: 0 to %u %s accepted for %s", port, kind->port_max,
                      kind->has_service_names ? "and names of services are" : "are", kind->name);
    return 0;
}

/* Nobody but its owner can enter the folder of a private socket. */
static int check_socket_rights(struct parse *parse)
{
    static const char *const names[] = {"socket-mode", "socket-group"};
    const struct listen_options *listen = &parse->options->listen;
    bool is_private = listen->unix_path && strcmp(listen->unix_path, "-") == 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (is_given(parse, names[i]) && !listen->unix_path)
            return refuse(parse, "--%s is accepted only with a Unix socket: add --unix PATH",
                          names[i]);
        if (is_given(parse, names[i]) && is_private)
            return refuse(parse,
                          "--%s has no effect on a socket in a private folder: "
                          "give --unix a PATH",
                          names[i]);
    }
    return 0;
}

/* An NBD string has at most NBD_STRING_MAX bytes, so no client could ask for a longer name. */
static int check_export_name(struct parse *parse)
{
    const char *name = parse->options->listen.export_name;
    if (name && strlen(name) > NBD_STRING_MAX)
        return refuse(parse, "--export-name: a name of at most %u bytes is accepted",
                      NBD_STRING_MAX);
    return 0;
}

static int check_size(struct parse *parse)
{
    if (!parse->has_size)
        return refuse(parse, "the size is missing: nbdram SIZE, as in 'nbdram 1G'; " SEE_HELP);
    return 0;
}

static int complete_tls(struct parse *parse)
{
    struct options *options = parse->options;
    if (!is_given(parse, "tls") && (options->tls.certificates || options->tls.psk_file))
        options->tls.mode = TLS_ON;
    options->listen.is_tls_required = options->tls.mode == TLS_REQUIRE;
    if (options->tls.verify_peer && options->tls.mode == TLS_OFF)
        return refuse(parse, "--tls-verify-peer is accepted only with TLS: add --tls=require, "
                             "--tls=on or --tls-certificates");
    return 0;
}

static int complete(struct parse *parse)
{
    static int (*const steps[])(struct parse *) = {
        check_contradictions, choose_socket, check_socket_rights, check_export_name,
        check_activation,     check_size,    complete_tls,        check_port,
    };
    struct options *options = parse->options;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int r = steps[i](parse);
        if (r < 0)
            return r;
    }
    const struct socket_kind *kind = options->listen.kind;
    if (kind->is_passed || kind->is_single || options->run || options->exit_with_parent)
        options->foreground = true;
    return 0;
}

static enum command_line_action print(struct parse *parse)
{
    usage_print(parse->print->print);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return COMMAND_LINE_DONE;
    reason_set(parse->reason, -errno, "standard output: ");
    return COMMAND_LINE_WRONG;
}

enum command_line_action command_line_parse(int argc, char **argv, struct options *options,
                                            struct reason *reason)
{
    struct parse parse = {.options = options, .reason = reason};
    *options = (struct options){
        .disk = {.level = DISK_LEVEL_DEFAULT},
        .listen = {.kind = &socket_tcp, .family = AF_UNSPEC},
        .timeout_seconds = OPTIONS_TIMEOUT_DEFAULT,
        .handshake_mask = UINT16_MAX,
    };
    if (parse_words(&parse, argc, argv) < 0)
        return COMMAND_LINE_WRONG;
    if (parse.print)
        return print(&parse);
    return complete(&parse) < 0 ? COMMAND_LINE_WRONG : COMMAND_LINE_SERVE;
}
