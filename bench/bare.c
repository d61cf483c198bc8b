/* SPDX-License-Identifier: BSD-3-Clause */

/* bare - what NBD would move, over a bare Unix socket
 *
 *     bare [-aj] [-s SECONDS] [-b BYTES] [-d IN_FLIGHT] [-m BYTES] read|write
 *
 * A client and a server that move as many bytes as NBD does, and look at none of them: 28 bytes
 * there and 16 + BYTES back for a read, 28 + BYTES there and 16 back for a write.  The sockets
 * block; each end makes one recv() and one send() for a request, and has one buffer.  So the
 * result is what the system allows a server that itself costs nothing.
 *
 *     -b BYTES       of a request (4096); with -d 16, 262144 measures bulk
 *     -d IN_FLIGHT   requests (1)
 *     -m BYTES       the memory that the server sends from or receives into, block after block
 *                    (one block)
 *     -s SECONDS     (1)
 *     -a             the two ends stay on different processors
 *     -j             print JSON
 *
 * Prints what load prints; server_cpu is the server's.
 */

#include <err.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "tally.h"

enum { REQUEST = 28, REPLY = 16, RECEIVE_MAX = 256 << 10 };
/* Replies of 16 bytes to all that is in flight must fit into a socket, or both ends would
 * wait. */
enum { IN_FLIGHT_MAX = 128, BLOCK_MAX = 32 << 20 };

struct job {
    size_t block, request, reply; /* bytes; of a whole request and reply */
    size_t memory;                /* bytes, of which the server uses one block after another */
    unsigned in_flight;
    double seconds;
    bool is_apart; /* the two ends stay on different processors */
};

static double cpu_of(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static char *buffer_of(size_t size)
{
    char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (buffer == MAP_FAILED)
        err(EXIT_FAILURE, "memory");
    madvise(buffer, size, MADV_HUGEPAGE);
    memset(buffer, 'x', size);
    return buffer;
}

/* Stay on the first or the last of the processors that are allowed. */
static void pin(bool is_last)
{
    cpu_set_t allowed, one;
    size_t chosen = CPU_SETSIZE;

    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        err(EXIT_FAILURE, "sched_getaffinity");
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && (is_last || chosen == CPU_SETSIZE))
            chosen = cpu;
    CPU_ZERO(&one);
    CPU_SET(chosen, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0)
        err(EXIT_FAILURE, "sched_setaffinity");
}

static void send_all(int fd, const char *buffer, size_t count)
{
    while (count > 0) {
        const ssize_t n = send(fd, buffer, count, MSG_NOSIGNAL);

        if (n < 0)
            err(EXIT_FAILURE, "send");
        buffer += n;
        count -= (size_t)n;
    }
}

/* Never returns.  Sends first how much CPU time it took to get ready. */
static _Noreturn void serve(int fd, const struct job *job)
{
    const size_t blocks = job->memory > job->block ? job->memory / job->block : 1;
    char *memory = buffer_of(blocks * job->block), head[REQUEST] = {0};
    const double ready_cpu = cpu_of(RUSAGE_SELF);

    send_all(fd, (const char *)&ready_cpu, sizeof ready_cpu);
    for (size_t i = 0;; i = i + 1 < blocks ? i + 1 : 0) {
        struct iovec iov[2] = {{head, REQUEST},
                               {memory + i * job->block, job->request - REQUEST}};
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};

        if (recvmsg(fd, &message, MSG_WAITALL) != (ssize_t)job->request)
            exit(EXIT_SUCCESS);
        iov[0].iov_len = REPLY;
        iov[1].iov_len = job->reply - REPLY;
        if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)job->reply)
            err(EXIT_FAILURE, "sendmsg");
    }
}

static void ask(int fd, const struct job *job, struct tally *tally)
{
    const uint64_t deadline = clock_ns() + (uint64_t)(job->seconds * 1e9);
    char *in = buffer_of(RECEIVE_MAX), *out = buffer_of(job->request);
    uint64_t sent_ns[IN_FLIGHT_MAX] = {0};
    uint64_t sent = 0, done = 0, received = 0, now = clock_ns();

    do {
        while (now < deadline && sent - done < job->in_flight) {
            sent_ns[sent++ % job->in_flight] = now;
            send_all(fd, out, job->request);
        }
        const ssize_t n = recv(fd, in, RECEIVE_MAX, 0);

        if (n <= 0)
            err(EXIT_FAILURE, "recv");
        now = clock_ns();
        received += (uint64_t)n;
        for (; (done + 1) * job->reply <= received; done++)
            tally_add(tally, job->block, now - sent_ns[done % job->in_flight]);
    } while (done < sent || now < deadline);
    munmap(in, RECEIVE_MAX);
    munmap(out, job->request);
}

static void run(const struct job *job, struct tally *tally, struct tally_run *run)
{
    int fds[2], status;
    uint64_t started;
    pid_t server;
    double cpu, ready_cpu;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || (server = fork()) < 0)
        err(EXIT_FAILURE, "a server");
    if (server == 0) {
        close(fds[0]);
        if (job->is_apart)
            pin(false);
        serve(fds[1], job);
    }
    close(fds[1]);
    if (job->is_apart)
        pin(true);
    if (recv(fds[0], &ready_cpu, sizeof ready_cpu, MSG_WAITALL) != sizeof ready_cpu)
        errx(EXIT_FAILURE, "the server is not ready");
    started = clock_ns();
    cpu = cpu_of(RUSAGE_SELF);
    ask(fds[0], job, tally);
    run->seconds = (double)(clock_ns() - started) / 1e9;
    run->client_cpu = cpu_of(RUSAGE_SELF) - cpu;
    close(fds[0]);
    if (waitpid(server, &status, 0) < 0 || status != 0)
        errx(EXIT_FAILURE, "the server failed");
    run->server_cpu = cpu_of(RUSAGE_CHILDREN) - ready_cpu;
}

static _Noreturn void usage(void)
{
    errx(EXIT_FAILURE,
         "usage: bare [-aj] [-s SECONDS] [-b BYTES] [-d IN_FLIGHT (1 to %d)] "
         "read|write",
         IN_FLIGHT_MAX);
}

int main(int argc, char **argv)
{
    struct job job = {.block = 4096, .in_flight = 1, .seconds = 1};
    struct tally_run result = {0};
    static struct tally tally;
    int c;

    while ((c = getopt(argc, argv, "ajs:b:d:m:")) != -1) {
        if (c == 'j')
            result.is_json = true;
        else if (c == 'a')
            job.is_apart = true;
        else if (c == 's')
            job.seconds = strtod(optarg, NULL);
        else if (c == 'b')
            job.block = strtoul(optarg, NULL, 10);
        else if (c == 'm')
            job.memory = strtoul(optarg, NULL, 10);
        else if (c == 'd')
            job.in_flight = (unsigned)strtoul(optarg, NULL, 10);
        else
            usage();
    }
    if (optind + 1 != argc || job.in_flight < 1 || job.in_flight > IN_FLIGHT_MAX ||
        job.block < 1 || job.block > BLOCK_MAX || !(job.seconds > 0) ||
        (strcmp(argv[optind], "read") != 0 && strcmp(argv[optind], "write") != 0))
        usage();
    const bool is_read = strcmp(argv[optind], "read") == 0;
    job.request = REQUEST + (is_read ? 0 : job.block);
    job.reply = REPLY + (is_read ? job.block : 0);
    run(&job, &tally, &result);
    tally_print(&tally, &result);
    return EXIT_SUCCESS;
}
