/* SPDX-License-Identifier: BSD-3-Clause */

/* scatter - write or trim 4 KiB pages scattered over a whole disk
 *
 *     scatter URI write|trim FIRST COUNT SECONDS DATA
 *
 * Page i of [FIRST, FIRST + COUNT) goes to the place that places.h gives it.  Its content comes
 * from the file DATA, page after page.  There is one connection with IN_FLIGHT requests.  Stops
 * early after SECONDS.  Prints the number of requests done and the seconds taken.
 *
 * A Python client would be slower than the server.  fio can neither write real data nor trim the
 * places that it wrote.
 */

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libnbd.h>

#include "clock.h"
#include "places.h"

enum { PAGE = 4096, IN_FLIGHT = 64, LOOK_AT_CLOCK_EVERY = 256 };

struct job {
    struct nbd_handle *nbd;
    bool is_trim;
    uint64_t first, count;
    double seconds_max;
    const char *data;
    uint64_t data_pages;
    uint64_t disk_pages;
};

static void open_data(const char *path, struct job *job)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < PAGE)
        errx(EXIT_FAILURE, "DATA must be a file of at least a page");
    job->data_pages = (uint64_t)st.st_size / PAGE;
    job->data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (job->data == MAP_FAILED)
        errx(EXIT_FAILURE, "cannot map DATA");
    close(fd);
}

static void open_disk(const char *uri, struct job *job)
{
    int64_t size;

    job->nbd = nbd_create();
    if (!job->nbd || nbd_connect_uri(job->nbd, uri) < 0)
        errx(EXIT_FAILURE, "%s", nbd_get_error());
    size = nbd_get_size(job->nbd);
    if (size < PAGE)
        errx(EXIT_FAILURE, "the disk must have at least a page");
    job->disk_pages = (uint64_t)size / PAGE;
}

/* To return 1 retires the command (libnbd(3), "Completion callbacks"). */
static int completed(void *opaque, int *error)
{
    (void)opaque;
    if (*error)
        errx(EXIT_FAILURE, "%s", strerror(*error));
    return 1;
}

static void issue(const struct job *job, uint64_t i)
{
    const nbd_completion_callback done = {.callback = completed};
    uint64_t page = place(i, place_bits(job->disk_pages));
    const char *content = job->data + (i % job->data_pages) * PAGE;
    int64_t r;

    if (page >= job->disk_pages) /* happens if the disk is no power of two */
        return;
    if (job->is_trim)
        r = nbd_aio_trim(job->nbd, PAGE, page * PAGE, done, 0);
    else
        r = nbd_aio_pwrite(job->nbd, content, PAGE, page * PAGE, done, 0);
    if (r < 0)
        errx(EXIT_FAILURE, "%s", nbd_get_error());
}

static uint64_t run(const struct job *job)
{
    const double deadline = clock_seconds() + job->seconds_max;
    uint64_t n = 0;

    for (; n < job->count; n++) {
        if (n % LOOK_AT_CLOCK_EVERY == 0 && clock_seconds() > deadline)
            break;
        while (nbd_aio_in_flight(job->nbd) >= IN_FLIGHT)
            if (nbd_poll(job->nbd, -1) < 0)
                errx(EXIT_FAILURE, "%s", nbd_get_error());
        issue(job, job->first + n);
    }
    while (nbd_aio_in_flight(job->nbd) > 0)
        if (nbd_poll(job->nbd, -1) < 0)
            errx(EXIT_FAILURE, "%s", nbd_get_error());
    return n;
}

int main(int argc, char **argv)
{
    struct job job = {0};
    double start;
    uint64_t n;

    if (argc != 7 || (strcmp(argv[2], "write") != 0 && strcmp(argv[2], "trim") != 0))
        errx(EXIT_FAILURE, "usage: scatter URI write|trim FIRST COUNT SECONDS DATA");
    job.is_trim = strcmp(argv[2], "trim") == 0;
    job.first = strtoull(argv[3], NULL, 10);
    job.count = strtoull(argv[4], NULL, 10);
    job.seconds_max = strtod(argv[5], NULL);
    open_data(argv[6], &job);
    open_disk(argv[1], &job);

    start = clock_seconds();
    n = run(&job);
    printf("%" PRIu64 " %.6f\n", n, clock_seconds() - start);

    nbd_shutdown(job.nbd, 0);
    nbd_close(job.nbd);
    return EXIT_SUCCESS;
}
