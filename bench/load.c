/* SPDX-License-Identifier: BSD-3-Clause */

/* load - an NBD client that does nothing but load a server
 *
 *     load [OPTION...] ADDRESS        ADDRESS: a Unix socket's path (with a slash) or HOST:PORT
 *
 *     --connections N   (1)           --read PERCENT     (100; the rest are writes)
 *     --in-flight N     (1) on each   --pattern random|sequential
 *     --threads N       (1)           --offset BYTES --range BYTES   (the whole disk)
 *     --block BYTES     (4k)          --seconds S (1) | --requests N
 *     --structured, --extended        ask for such replies
 *     --unbatched       send each request by itself
 *     --verify          write a pattern made of the offset, and check that reads return it;
 *                       zeroes are right as well where this run has not written
 *     --stalled N       N more connections that ask for 1 MiB again and again and never read
 *     --idle N          N more that do nothing after the handshake
 *     --hold            when all are connected print "ready", and wait for the end of stdin
 *                       before the first request; with --connections 0 that is all
 *     --seed N, --json
 *
 * Prints requests per second, MiB/s, latencies, the client's CPU time, and how many errors and
 * wrong contents there were.  Exits with 1 if there were any, or if the server breaks the
 * protocol.
 *
 * fio's NBD engine, which uses libnbd, takes more processor time than the servers measured here;
 * this program takes less.
 */

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "drive.h"

enum { THREADS_MAX = 64, IN_FLIGHT_MAX = 1 << 16, BLOCK_MAX = 32 << 20, SPARE_FILES = 64 };
enum { STALLED_BLOCK = 1 << 20, STALLED_BATCH = 64, STALLED_LOOK_MS = 50 };

struct options {
    struct drive_job job;
    const char *address;
    unsigned threads, stalled, idle;
    bool does_verify, does_hold, is_json;
};

struct stall {
    const struct drive_job *job;
    const int *fds;
    unsigned count;
    atomic_bool is_over; /* main sets it, the thread reads it; no data goes with it: relaxed */
    uint64_t requests;   /* belongs to the thread until it is joined */
};

/* Options. */

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    static const char suffixes[] = "kmgtpe";
    char *end;
    const char *suffix;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 10);
    suffix = *end ? strchr(suffixes, *end) : NULL;
    if (errno || *text < '0' || *text > '9' || (*end && (!suffix || end[1])))
        errx(EXIT_FAILURE, "--%s: not a number: %s", name, text);
    if (suffix) {
        const unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);

        if (value > UINT64_MAX >> shift)
            errx(EXIT_FAILURE, "--%s: too large: %s", name, text);
        value <<= shift;
    }
    if (value < min || value > max)
        errx(EXIT_FAILURE, "--%s is %" PRIu64 " to %" PRIu64, name, min, max);
    return value;
}

static const struct option long_options[] = {
    {"connections", required_argument, NULL, 'c'},
    {"in-flight", required_argument, NULL, 'd'},
    {"threads", required_argument, NULL, 't'},
    {"block", required_argument, NULL, 'b'},
    {"read", required_argument, NULL, 'r'},
    {"pattern", required_argument, NULL, 'p'},
    {"offset", required_argument, NULL, 'o'},
    {"range", required_argument, NULL, 'R'},
    {"seconds", required_argument, NULL, 's'},
    {"requests", required_argument, NULL, 'n'},
    {"structured", no_argument, NULL, 'S'},
    {"extended", no_argument, NULL, 'E'},
    {"verify", no_argument, NULL, 'v'},
    {"stalled", required_argument, NULL, 'l'},
    {"idle", required_argument, NULL, 'i'},
    {"hold", no_argument, NULL, 'h'},
    {"unbatched", no_argument, NULL, 'u'},
    {"seed", required_argument, NULL, 'x'},
    {"json", no_argument, NULL, 'j'},
    {NULL, 0, NULL, 0},
};

static void set_flag(struct options *o, int c)
{
    switch (c) {
    case 'S':
        o->job.style = CLIENT_STRUCTURED;
        break;
    case 'E':
        o->job.style = CLIENT_EXTENDED;
        break;
    case 'u':
        o->job.is_unbatched = true;
        break;
    case 'v':
        o->does_verify = true;
        break;
    case 'h':
        o->does_hold = true;
        break;
    case 'j':
        o->is_json = true;
        break;
    default: /* getopt has printed the reason */
        exit(EXIT_FAILURE);
    }
}

static bool is_sequential(const char *text)
{
    if (strcmp(text, "sequential") != 0 && strcmp(text, "random") != 0)
        errx(EXIT_FAILURE, "--pattern is random or sequential");
    return strcmp(text, "sequential") == 0;
}

static double parse_seconds(const char *text)
{
    char *end;
    const double seconds = strtod(text, &end);

    if (*end || !(seconds > 0 && seconds < 1e6))
        errx(EXIT_FAILURE, "--seconds: %s", text);
    return seconds;
}

static void set_option(struct options *o, int c, const char *name)
{
    struct drive_job *job = &o->job;

    if (!optarg)
        set_flag(o, c);
    else if (c == 'c')
        job->connections = (unsigned)parse_number(name, optarg, 0, 1000000);
    else if (c == 'd')
        job->in_flight = (unsigned)parse_number(name, optarg, 1, IN_FLIGHT_MAX);
    else if (c == 't')
        o->threads = (unsigned)parse_number(name, optarg, 1, THREADS_MAX);
    else if (c == 'b')
        job->block = (uint32_t)parse_number(name, optarg, 1, BLOCK_MAX);
    else if (c == 'r')
        job->read_percent = (unsigned)parse_number(name, optarg, 0, 100);
    else if (c == 'p')
        job->is_sequential = is_sequential(optarg);
    else if (c == 'o')
        job->offset = parse_number(name, optarg, 0, INT64_MAX);
    else if (c == 'R')
        job->range = parse_number(name, optarg, 1, INT64_MAX);
    else if (c == 's')
        job->seconds = parse_seconds(optarg);
    else if (c == 'n')
        job->requests = parse_number(name, optarg, 1, INT64_MAX >> 20);
    else if (c == 'l')
        o->stalled = (unsigned)parse_number(name, optarg, 0, 1000000);
    else if (c == 'i')
        o->idle = (unsigned)parse_number(name, optarg, 0, 1000000);
    else
        job->seed = parse_number(name, optarg, 0, UINT64_MAX);
}

static struct options parse_options(int argc, char **argv)
{
    struct options o = {
        .job = {.connections = 1, .in_flight = 1, .block = 4096, .read_percent = 100},
        .threads = 1};
    int c, index = 0;

    o.job.seed = (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
    while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1)
        set_option(&o, c, long_options[index].name);
    if (optind + 1 != argc)
        errx(EXIT_FAILURE, "usage: load [OPTION...] ADDRESS (see load.c)");
    o.address = argv[optind];
    if (!o.job.requests && o.job.seconds <= 0)
        o.job.seconds = 1;
    if (o.does_verify && (o.job.block % 8 || o.job.offset % 8))
        errx(EXIT_FAILURE, "--verify goes by words of 8 bytes");
    if (o.threads > o.job.connections && o.job.connections)
        o.threads = o.job.connections;
    return o;
}

/* Connections. */

static void allow_files(unsigned count)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < count + SPARE_FILES)
        errx(EXIT_FAILURE, "%u connections, and the limit is %ju files", count,
             (uintmax_t)limit.rlim_cur);
}

/* Returns the sockets: those of the job, then the stalled ones, then the idle ones. */
static int *connect_all(struct options *o)
{
    const unsigned count = o->job.connections + o->stalled + o->idle;
    int *fds = calloc(count + 1, sizeof *fds);
    uint64_t size = 0;

    if (!fds)
        errx(EXIT_FAILURE, "out of memory");
    allow_files(count);
    for (unsigned i = 0; i < count; i++) {
        fds[i] = client_connect(o->address);
        size = client_handshake(fds[i], o->job.style);
    }
    if (o->job.offset < size && !o->job.range)
        o->job.range = size - o->job.offset;
    if (o->job.offset > size || o->job.range > size - o->job.offset)
        errx(EXIT_FAILURE, "the disk has only %" PRIu64 " bytes", size);
    if (o->stalled && size < STALLED_BLOCK)
        errx(EXIT_FAILURE, "--stalled needs a disk of 1 MiB");
    o->job.range -= o->job.range % o->job.block;
    if (o->job.connections && !o->job.range)
        errx(EXIT_FAILURE, "the range is smaller than a block");
    return fds;
}

static void make_map(struct drive_job *job)
{
    const uint64_t blocks = job->range / job->block;

    if (blocks > UINT64_C(1) << 32)
        errx(EXIT_FAILURE, "--verify: at most 2^32 blocks: give a --range");
    job->written = calloc(blocks / 64 + 1, sizeof *job->written);
    if (!job->written)
        errx(EXIT_FAILURE, "out of memory");
}

/* Report that all are connected, and wait for the end of the standard input. */
static void hold(void)
{
    char ignored[64];

    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
        continue;
}

/* Clients that send requests and do not receive. */

static size_t make_stalled_batch(const struct stall *stall, char *batch, uint64_t cookie)
{
    char *p = batch;

    for (unsigned i = 0; i < STALLED_BATCH; i++) {
        const struct client_request request = {.cookie = cookie + i, .count = STALLED_BLOCK};

        p += client_put_request(p, stall->job->style, &request);
    }
    return (size_t)(p - batch);
}

/* All connections send the same batch again and again; at[] is how much of it each has sent. */
static void send_stalled(struct stall *stall, struct pollfd *ready, size_t *at)
{
    char batch[STALLED_BATCH * CLIENT_REQUEST_MAX];
    const size_t size = make_stalled_batch(stall, batch, 0);

    for (unsigned i = 0; i < stall->count; i++) {
        ssize_t n;

        if (!(ready[i].revents & POLLOUT))
            continue;
        n = send(stall->fds[i], batch + at[i], size - at[i], MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            ready[i].fd = -1; /* the server may end such a connection */
        if (n > 0) {
            at[i] = (at[i] + (size_t)n) % size;
            stall->requests += at[i] == 0 ? STALLED_BATCH : 0;
        }
    }
}

static void *run_stalled(void *opaque)
{
    struct stall *stall = opaque;
    struct pollfd *ready = calloc(stall->count, sizeof *ready);
    size_t *at = calloc(stall->count, sizeof *at);

    if (!ready || !at)
        errx(EXIT_FAILURE, "out of memory");
    for (unsigned i = 0; i < stall->count; i++)
        ready[i] = (struct pollfd){.fd = stall->fds[i], .events = POLLOUT};
    while (!atomic_load_explicit(&stall->is_over, memory_order_relaxed))
        if (poll(ready, stall->count, STALLED_LOOK_MS) > 0)
            send_stalled(stall, ready, at);
    free(ready);
    free(at);
    return NULL;
}

/* The load. */

static pthread_t start(void *(*act)(void *), void *argument)
{
    pthread_t thread;
    const int error = pthread_create(&thread, NULL, act, argument);

    if (error)
        errx(EXIT_FAILURE, "thread: %s", strerror(error));
    return thread;
}

static void *run_driver(void *driver)
{
    drive_run(driver);
    return NULL;
}

static void run_drivers(const struct options *o, const int *fds, struct tally *tally,
                        struct tally_run *run)
{
    const unsigned connections = o->job.connections;
    struct driver *drivers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    uint64_t started, cpu;

    for (unsigned t = 0; t < o->threads; t++) {
        const unsigned first = connections * t / o->threads;
        const unsigned end = connections * (t + 1) / o->threads;

        drivers[t] = drive_begin(&o->job, fds + first, first, end - first);
    }
    started = clock_ns();
    cpu = clock_ns_of(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned t = 0; t < o->threads; t++)
        threads[t] = start(run_driver, drivers[t]);
    for (unsigned t = 0; t < o->threads; t++)
        pthread_join(threads[t], NULL);
    run->seconds = (double)(clock_ns() - started) / 1e9;
    run->client_cpu = (double)(clock_ns_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9;
    for (unsigned t = 0; t < o->threads; t++) {
        tally_merge(tally, drive_tally(drivers[t]));
        drive_end(drivers[t]);
    }
}

static bool run_load(const struct options *o, const int *fds)
{
    static struct tally tally;
    struct tally_run run = {.seed = o->job.seed, .is_json = o->is_json};
    struct stall stall = {.job = &o->job, .fds = fds + o->job.connections, .count = o->stalled};
    const pthread_t stalled = start(run_stalled, &stall);

    run_drivers(o, fds, &tally, &run);
    atomic_store_explicit(&stall.is_over, true, memory_order_relaxed);
    pthread_join(stalled, NULL);
    run.stalled_requests = stall.requests;
    tally_print(&tally, &run);
    return tally.errors == 0 && tally.mismatches == 0;
}

int main(int argc, char **argv)
{
    struct options o = parse_options(argc, argv);
    int *fds = connect_all(&o);
    bool is_good = true;

    if (o.does_verify)
        make_map(&o.job);
    if (o.does_hold)
        hold();
    if (o.job.connections > 0)
        is_good = run_load(&o, fds);
    for (unsigned i = 0; i < o.job.connections + o.stalled + o.idle; i++)
        close(fds[i]);
    free(o.job.written);
    free(fds);
    return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
