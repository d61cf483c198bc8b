/* SPDX-License-Identifier: BSD-3-Clause */

/* command_line_parse: every option sets its field, the last one counts, and the message of a
 * refusal is one line that says what would have been accepted. */

#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "disk/allocator.h"
#include "server/cli/command_line.h"
#include "server/cli/option_table.h"
#include "server/cli/options.h"
#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "text/reason.h"

#define WORDS_MAX 40

/* The fixture: what the last call of parse() made. */
static struct options options;
static struct reason reason;

/* Parse a command line, whose words are separated by blanks. */
static enum command_line_action parse(const char *line)
{
    static char copy[512]; /* the strings of `options` are in it */
    static char name[] = "nbdram";
    char *argv[WORDS_MAX + 2] = {name}, *rest = NULL;
    int argc = 1;
    assert_true(strlen(line) < sizeof copy);
    strcpy(copy, line);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        assert_true(argc <= WORDS_MAX);
        argv[argc++] = word;
    }
    memset(&options, 0x5a, sizeof options);
    reason.text[0] = '\0';
    return command_line_parse(argc, argv, &options, &reason);
}

static void accepts(const char *line)
{
    if (parse(line) != COMMAND_LINE_SERVE)
        fail_msg("'%s' was refused: %s", line, reason.text);
}

static void refuses(const char *line, const char *because)
{
    if (parse(line) != COMMAND_LINE_WRONG)
        fail_msg("'%s' was accepted", line);
    if (!strstr(reason.text, because))
        fail_msg("'%s': '%s' does not tell '%s'", line, reason.text, because);
    assert_null(strchr(reason.text, '\n'));
}

static void defaults(void **state)
{
    (void)state;
    accepts("1G");
    assert_int_equal(options.disk.size, GiB);
    assert_int_equal(options.disk.limit, 0);
    assert_null(options.disk.allocator) /* the default */;
    assert_int_equal(options.disk.level, DISK_LEVEL_DEFAULT);
    assert_ptr_equal(options.listen.kind, &socket_tcp);
    assert_null(options.listen.port);
    assert_int_equal(options.listen.addresses.count, 0);
    assert_null(options.listen.second);
    assert_int_equal(options.listen.family, AF_UNSPEC);
    assert_false(options.foreground);
    assert_false(options.read_only);
    assert_int_equal(options.threads, 0);
    assert_int_equal(options.max_connections, 0);
    assert_int_equal(options.timeout_seconds, OPTIONS_TIMEOUT_DEFAULT);
    assert_int_equal(options.handshake_mask, UINT16_MAX);
    assert_int_equal(options.tls.mode, TLS_OFF);
    assert_int_equal(options.log, LOG_TO_DEFAULT);
    assert_null(options.run);
    assert_null(options.listen.export_name);
}

/* Options with a string, by each of their names. */
static void texts(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        const char **field;
    } table[] = {
        {"-U x", &options.listen.unix_path},
        {"--unix x", &options.listen.unix_path},
        {"-p x", &options.listen.port},
        {"--port=x", &options.listen.port},
        {"-i x", &options.listen.addresses.names[0]},
        {"--ip-addr x", &options.listen.addresses.names[0]},
        {"--ipaddr=x", &options.listen.addresses.names[0]},
        {"-U y --socket-group x", &options.listen.socket_group},
        {"-e x", &options.listen.export_name},
        {"--export x", &options.listen.export_name},
        {"--export-name=x", &options.listen.export_name},
        {"--exportname x", &options.listen.export_name},
        {"--run x", &options.run},
        {"-P x", &options.pidfile},
        {"--pidfile=x", &options.pidfile},
        {"--pid-file x", &options.pidfile},
        {"-u x", &options.run_as.user},
        {"--user x", &options.run_as.user},
        {"-gx", &options.run_as.group},
        {"--group=x", &options.run_as.group},
        {"--tls-certificates x", &options.tls.certificates},
        {"--tls-psk=x", &options.tls.psk_file},
        {"--stats x", &options.stats},
    };
    char line[64];
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "%s 1M", table[i].words);
        accepts(line);
        if (!*table[i].field || strcmp(*table[i].field, "x") != 0)
            fail_msg("'%s' is not where it should be", line);
        assert_int_equal(options.disk.size, MiB);
    }
}

static void flags(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        const bool *field;
    } table[] = {
        {"-f", &options.foreground},
        {"--foreground", &options.foreground},
        {"--no-fork", &options.foreground},
        {"-s", &options.foreground},
        {"--run true", &options.foreground},
        {"--exit-with-parent", &options.foreground},
        {"--exit-with-parent", &options.exit_with_parent},
        {"--print-uri", &options.print_uri},
        {"--swap", &options.swap},
        {"-r", &options.read_only},
        {"--readonly", &options.read_only},
        {"--read-only", &options.read_only},
        {"--keepalive", &options.keepalive},
        {"--no-sr", &options.no_structured},
        {"--no-structured-replies", &options.no_structured},
        {"--tls=on --tls-verify-peer", &options.tls.verify_peer},
        {"-v", &options.verbose},
        {"--verbose", &options.verbose},
        {"-nvf", &options.verbose},
    };
    char line[64];
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(line, sizeof line, "1M %s", table[i].words);
        accepts("1M");
        assert_false(*table[i].field);
        accepts(line);
        if (!*table[i].field)
            fail_msg("'%s' has no effect", line);
    }
}

static void numbers(void **state)
{
    (void)state;
    accepts("-t 1 --max-connections 7 --max-per-peer 3 --timeout 0 --idle-timeout 90s "
            "--mask-handshake 0 1M");
    assert_int_equal(options.max_per_peer, 3);
    assert_int_equal(options.idle_seconds, 90);
    assert_int_equal(options.threads, 1);
    assert_int_equal(options.max_connections, 7);
    assert_int_equal(options.timeout_seconds, 0);
    assert_int_equal(options.handshake_mask, 0);
    accepts("--threads=256 --timeout 1500ms --mask-handshake 0xfffffffe 1M");
    assert_int_equal(options.threads, 256);
    assert_int_equal(options.timeout_seconds, 2);
    assert_int_equal(options.handshake_mask, 0xfffe);
    accepts("-t0x10 --timeout=60s 1M");
    assert_int_equal(options.threads, 16);
    assert_int_equal(options.timeout_seconds, 60);
    refuses("-t 257 1M", "0 to 256");
    refuses("-t -1 1M", "0 to 256");
    refuses("-t 4294967297 1M", "0 to 256");
    refuses("-t 18446744073709551617 1M", "0 to 256");
    refuses("-t 1x 1M", "0 to 256");
    refuses("--threads= 1M", "0 to 256");
    refuses("--timeout 1000001 1M", "1000000 seconds");
    refuses("--timeout 18446744073709551615 1M", "1000000 seconds");
    refuses("--timeout 1h 1M", "seconds");
    refuses("--timeout -1 1M", "seconds");
    refuses("--max-connections many 1M", "0 to 1000000");
    refuses("--mask-handshake all 1M", "0xffff");
}

static void choices(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        enum tls_mode tls;
    } modes[] = {
        {"--tls=off", TLS_OFF},
        {"--tls=on", TLS_ON},
        {"--tls=require", TLS_REQUIRE},
        {"--tls=REQUIRED", TLS_REQUIRE},
        {"--tls=force", TLS_REQUIRE},
        {"--tls=0", TLS_OFF},
        {"--tls yes", TLS_ON},
        {"--tls-psk=x", TLS_ON},
        {"--tls-certificates=x", TLS_ON},
        {"--tls=off --tls-psk=x", TLS_OFF},
        {"--tls-certificates=x --tls=require", TLS_REQUIRE},
    };
    char line[64];
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        snprintf(line, sizeof line, "1M %s", modes[i].words);
        accepts(line);
        if (options.tls.mode != modes[i].tls)
            fail_msg("'%s': %d", line, options.tls.mode);
    }
    refuses("--tls=maybe 1M", "--tls=maybe: off, on and require are accepted");
    refuses("--tls= 1M", "off, on and require");
    accepts("--log=stderr 1M");
    assert_int_equal(options.log, LOG_TO_STDERR);
    accepts("--log=syslog 1M");
    assert_int_equal(options.log, LOG_TO_SYSLOG);
    accepts("--log=null 1M");
    assert_int_equal(options.log, LOG_TO_NULL);
    accepts("--log=null --log=default 1M");
    assert_int_equal(options.log, LOG_TO_DEFAULT);
    refuses("--log=/dev/null 1M", "stderr, syslog, null and default");
}

static void socket_rights(void **state)
{
    (void)state;
    static const char *const bad[] = {"0", "1000", "8", "rw", "", "-1", "0x1ff"};
    char line[64];
    accepts("-U x 1M");
    assert_int_equal(options.listen.socket_mode, 0);
    accepts("-U x --socket-mode 660 1M");
    assert_int_equal(options.listen.socket_mode, 0660);
    accepts("-U x --socket-mode=0777 1M");
    assert_int_equal(options.listen.socket_mode, 0777);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        snprintf(line, sizeof line, "-U x --socket-mode=%s 1M", bad[i]);
        refuses(line, "octal digits from 1 to 777");
    }
    refuses("--socket-mode 660 1M", "add --unix PATH");
    refuses("--vsock --socket-group x 1M", "add --unix PATH");
    refuses("-U - --socket-group x 1M", "give --unix a PATH");
}

static void places(void **state)
{
    (void)state;
    accepts("-U - 1M");
    assert_ptr_equal(options.listen.kind, &socket_unix);
    accepts("-s 1M");
    assert_ptr_equal(options.listen.kind, &socket_stdio);
    accepts("--stdin 1M");
    assert_ptr_equal(options.listen.kind, &socket_stdio);
    accepts("--vsock -p 4294967295 1M");
    assert_ptr_equal(options.listen.kind, &socket_vsock);
    accepts("-p 65535 -i :: -6 1M");
    assert_ptr_equal(options.listen.kind, &socket_tcp);
    assert_int_equal(options.listen.family, AF_INET6);
    accepts("-4 -p nbd 1M");
    assert_int_equal(options.listen.family, AF_INET);
    accepts("-i :: -i x --ipaddr=y 1M");
    assert_int_equal(options.listen.addresses.count, 3);
    assert_string_equal(options.listen.addresses.names[2], "y");
    assert_null(options.listen.second);
    accepts("-U x -p nbd 1M");
    assert_ptr_equal(options.listen.kind, &socket_unix);
    assert_ptr_equal(options.listen.second, &socket_tcp);
    accepts("-i :: -U x 1M");
    assert_ptr_equal(options.listen.second, &socket_tcp);
    accepts("-U x -4 1M");
    assert_null(options.listen.second);
    refuses("-U x -p 65536 1M", "0 to 65535");
    refuses("-i a -i a -i a -i a -i a -i a -i a -i a -i a -i a -i a -i a -i a -i a 1M -i a -i a "
            "-i a",
            "at most 16");
    refuses("-p 65536 1M", "0 to 65535");
    refuses("-p -1 1M", "0 to 65535");
    refuses("-p 1x 1M", "0 to 65535");
    refuses("--port= 1M", "--port: it must not be empty");
    refuses("--vsock -p 4294967296 1M", "0 to 4294967295");
    refuses("--vsock -p nbd 1M", "0 to 4294967295");
}

static void parameters(void **state)
{
    (void)state;
    accepts("memory 1G");
    assert_int_equal(options.disk.size, GiB);
    accepts("-f memory --run true size=1G -r");
    assert_int_equal(options.disk.size, GiB);
    assert_true(options.read_only);
    accepts("./build/nbdkit-memory-plugin.so 1G");
    accepts("1M allocator=zstd,level=3 limit=2G");
    assert_ptr_equal(options.disk.allocator, &allocator_zstd);
    assert_int_equal(options.disk.level, 3);
    assert_int_equal(options.disk.limit, 2 * GiB);
    accepts("allocator=malloc,mlock=true 1M");
    assert_ptr_equal(options.disk.allocator, &allocator_malloc);
    assert_true(options.disk.mlock);
    accepts("-f -- 1M");
    refuses("1M memory", "size=memory");
    refuses("memory memory", "size=memory");
    refuses("file 1M", "size=file");
    refuses("memory", "the size is missing");
    refuses("", "the size is missing");
    refuses("siz=1M", "unknown parameter 'siz': size, limit and allocator are accepted");
    refuses("sizes=1M", "unknown parameter 'sizes'");
    refuses("Size=1M", "unknown parameter 'Size'");
    refuses("1M limit=1023K", "at least 1M");
    refuses("1M limit=0", "at least 1M");
    refuses("1M allocator=zst", "unknown allocator 'zst'");
    refuses("1M allocator=zstd,level=20", "level=1..19");
    refuses("-- -f", "size=-f");
}

static void the_last_one_counts(void **state)
{
    (void)state;
    accepts("-U a -U b -e c --export=d -t 1 -t 2 1M size=2M 3M limit=4M limit=5M "
            "allocator=malloc allocator=zstd -4 -6 -D a.b=1 --debug=c.d");
    assert_int_equal(options.listen.family, AF_INET6);
    assert_string_equal(options.debug_flag, "c.d");
    assert_string_equal(options.listen.unix_path, "b");
    assert_string_equal(options.listen.export_name, "d");
    assert_int_equal(options.threads, 2);
    assert_int_equal(options.disk.size, 3 * MiB);
    assert_int_equal(options.disk.limit, 5 * MiB);
    assert_ptr_equal(options.disk.allocator, &allocator_zstd);
}

static void contradictions(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "-s -U x",    "-s -p 1",        "-s -i ::",     "-s --vsock",
        "-s --run x", "-s --print-uri", "--vsock -U x", "--vsock -i ::",
    };
    char line[64];
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        snprintf(line, sizeof line, "%s 1M", lines[i]);
        refuses(line, "contradict");
    }
}

/* Every option that takes a value is refused without one, and every other option with one.  The
 * options that nbdkit has and we do not have are refused with a reason. */
static void values(void **state)
{
    (void)state;
    char line[64];
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        snprintf(line, sizeof line, row->argument ? "1M --%s" : "1M --%s=x", row->names[0]);
        refuses(line, row->argument ? "needs a value" : "takes no value");
        if (row->letter && row->argument) {
            snprintf(line, sizeof line, "1M -%c", row->letter);
            refuses(line, row->names[0]);
        }
        if (row->kind != OPTION_REFUSED)
            continue;
        snprintf(line, sizeof line, row->argument ? "1M --%s=x" : "1M --%s", row->names[0]);
        refuses(line, "is not accepted: ");
    }
}

static void unknown_options(void **state)
{
    (void)state;
    refuses("--no-such 1M", "'--no-such': see nbdram --help");
    refuses("--tl 1M", "'--tl': see nbdram --help");
    refuses("-Z 1M", "'-Z': see nbdram --help");
    refuses("-fZ 1M", "'-Z': see nbdram --help");
    refuses("-\xc3\xa9 1M", "see nbdram --help");
    accepts("--foregr 1M"); /* shortened to a unique beginning */
    assert_true(options.foreground);
}

static void one_line(void **state)
{
    (void)state;
    refuses("1M\n\tx", "size=1M??x");
    refuses("k\x1b[31m=1", "size=k?[31m=1");
}

static void set_activation(long pid, const char *fds)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", pid);
    assert_int_equal(setenv("LISTEN_PID", text, 1), 0);
    assert_int_equal(fds ? setenv("LISTEN_FDS", fds, 1) : unsetenv("LISTEN_FDS"), 0);
}

static void activation(void **state)
{
    (void)state;
    static const char *const other_places[] = {
        "-U x", "-p 1", "-i ::", "-s", "--vsock", "--run x"};
    static const char *const bad[] = {"0", "65", "-1", "x", "", "1x"};
    char line[64];
    set_activation(getpid(), "1");
    accepts("1M");
    assert_ptr_equal(options.listen.kind, &socket_activated);
    assert_true(options.foreground);
    for (size_t i = 0; i < COUNT_OF(other_places); i++) {
        snprintf(line, sizeof line, "%s 1M", other_places[i]);
        refuses(line, "socket activation");
    }
    set_activation(getpid(), "64");
    accepts("1M");
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        set_activation(getpid(), bad[i]);
        refuses("1M", "1 to 64 sockets");
    }
    set_activation(getpid(), NULL);
    accepts("1M");
    assert_ptr_equal(options.listen.kind, &socket_tcp);
    set_activation((long)getpid() + 1, "1");
    accepts("-U x 1M");
    assert_ptr_equal(options.listen.kind, &socket_unix);
    unsetenv("LISTEN_PID");
    accepts("1M");
    assert_ptr_equal(options.listen.kind, &socket_tcp);
    unsetenv("LISTEN_FDS");
}

/* No name and no letter is in the table twice. */
static void names_are_unique(void **state)
{
    (void)state;
    const char *names[256];
    size_t n = 0;
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        for (size_t j = 0; j < OPTION_NAMES_MAX && row->names[j]; j++)
            names[n++] = row->names[j];
        for (size_t j = 0; j < i; j++)
            assert_true(!row->letter || row->letter != option_table[j].letter);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(names[i], names[j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(texts),
        cmocka_unit_test(flags),
        cmocka_unit_test(numbers),
        cmocka_unit_test(choices),
        cmocka_unit_test(places),
        cmocka_unit_test(socket_rights),
        cmocka_unit_test(parameters),
        cmocka_unit_test(the_last_one_counts),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(values),
        cmocka_unit_test(unknown_options),
        cmocka_unit_test(one_line),
        cmocka_unit_test(activation),
        cmocka_unit_test(names_are_unique),
    };
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
