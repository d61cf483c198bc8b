/* SPDX-License-Identifier: BSD-3-Clause */

/* command_line - the parser of nbdram's command line
 *
 * The letters and names of the options are nbdkit's.  The parser opens, locks and starts nothing.
 * It turns the words of the command line into a struct options, or into one line that says what
 * is wrong and what is accepted.
 *
 * Called once, by the main thread, before there are other threads.
 */

#ifndef NBDRAM_SERVER_CLI_COMMAND_LINE_H
#define NBDRAM_SERVER_CLI_COMMAND_LINE_H

struct options; /* server/cli/options.h */
struct reason;  /* text/reason.h */

enum command_line_action {
    COMMAND_LINE_SERVE, /* serve as the options say */
    COMMAND_LINE_DONE,  /* exit with 0: --help or another such option has printed its text */
    COMMAND_LINE_WRONG, /* exit with 1: the reason says what is wrong */
};

/* Parse the command line.  With socket activation (LISTEN_PID and LISTEN_FDS in the environment),
 * the kind of socket is socket_activated.  `options` is overwritten.  Its content is valid only
 * if the result is COMMAND_LINE_SERVE. */
enum command_line_action command_line_parse(int argc, char **argv, struct options *options,
                                            struct reason *reason);

#endif
