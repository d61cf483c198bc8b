/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/disk.h"
#include "nbd/command.h"
#include "os/memory.h"
#include "server/host/file_replace.h"
#include "text/reason.h"
#include "text/string_builder.h"

/* All statistics.  They are read one after the other, so they are not from exactly the same
 * moment. */
struct snapshot {
    unsigned connections;
    uint64_t accepted;
    uint64_t requests[NBD_COMMANDS];
    uint64_t failed;   /* requests that were answered with an error */
    uint64_t parked;   /* requests, or parts of long ones, that had to wait */
    uint64_t received; /* bytes written to the disk */
    uint64_t sent;     /* bytes read from the disk */
    struct disk_stats disk;
    uint64_t size;     /* size of the disk, in bytes */
    uint64_t stored;   /* size of all pages that hold data, in bytes */
    uint64_t packed;   /* size of all compressed pages before compression, in bytes */
    uint64_t resident; /* resident memory of the process, in bytes */
};

static uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_loop(struct snapshot *snapshot, const struct counters *counters)
{
    for (unsigned i = 0; i < NBD_COMMANDS; i++)
        snapshot->requests[i] += counter_read(&counters->requests[i]);
    snapshot->failed += counter_read(&counters->failed);
    snapshot->parked += counter_read(&counters->parked);
    snapshot->received += counter_read(&counters->received);
    snapshot->sent += counter_read(&counters->sent);
}

static struct snapshot snapshot_of(const struct server *server)
{
    struct snapshot snapshot = {
        .connections = atomic_load_explicit(&server->open.count, memory_order_relaxed),
        .accepted = server->accepted,
        .size = disk_size(server->service.disk),
        .resident = os_memory_resident(),
    };
    for (unsigned i = 0; i < server->loop_count; i++)
        add_loop(&snapshot, &server->loops[i].worker.counters);
    disk_stats(server->service.disk, &snapshot.disk);
    snapshot.stored = snapshot.disk.pages * disk_page_size(server->service.disk);
    snapshot.packed = snapshot.disk.compressed * disk_page_size(server->service.disk);
    return snapshot;
}

/* Returns the original size of all compressed pages, divided by their compressed size.  If no
 * page is compressed, the result is 1. */
static double compression_ratio(const struct snapshot *snapshot)
{
    uint64_t blobs = snapshot->disk.blob_bytes;
    return blobs ? (double)snapshot->packed / (double)blobs : 1.0;
}

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

void stats_print(const struct server *server, FILE *to)
{
    struct snapshot s = snapshot_of(server);
    fprintf(to, "nbdram statistics\n");
    fprintf(to, "  connections     %u now, %llu in all\n", s.connections,
            (unsigned long long)s.accepted);
    fprintf(to, "  requests        %llu failed, %llu parked\n", (unsigned long long)s.failed,
            (unsigned long long)s.parked);
    for (unsigned i = 0; i < NBD_COMMANDS; i++)
        fprintf(to, "    %-13s %llu\n", nbd_command_name(i), (unsigned long long)s.requests[i]);
    fprintf(to, "  read            %.1f MiB\n", mebibytes(s.sent));
    fprintf(to, "  written         %.1f MiB\n", mebibytes(s.received));
    fprintf(to, "  disk            %.1f MiB\n", mebibytes(s.size));
    fprintf(to, "  holding data    %.1f MiB\n", mebibytes(s.stored));
    fprintf(to, "  taking memory   %.1f MiB", mebibytes(s.disk.memory));
    if (s.disk.limit)
        fprintf(to, " of %.1f MiB", mebibytes(s.disk.limit));
    fprintf(to, "\n  compressed      %.1f MiB into %.1f MiB (%.2f : 1)\n", mebibytes(s.packed),
            mebibytes(s.disk.blob_bytes), compression_ratio(&s));
    fprintf(to, "  resident        %.1f MiB\n", mebibytes(s.resident));
    fflush(to);
}

/* The functions in this section write the file of --stats. */

static void print_requests(const struct snapshot *s, FILE *to)
{
    fprintf(to, "  \"requests\": {");
    for (unsigned i = 0; i < NBD_COMMANDS; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s", nbd_command_name(i));
        for (char *c = name; *c; c++)
            if (*c == ' ')
                *c = '_';
        fprintf(to, "%s\"%s\": %llu", i ? ", " : "", name, (unsigned long long)s->requests[i]);
    }
    fprintf(to, ", \"failed\": %llu},\n", (unsigned long long)s->failed);
}

static void print_json(const struct server *server, FILE *to)
{
    const struct snapshot s = snapshot_of(server);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"connections", s.connections},
        {"accepted", s.accepted},
        {"parked", s.parked},
        {"bytes_read", s.sent},
        {"bytes_written", s.received},
        {"disk_size", s.size},
        {"stored_bytes", s.stored},
        {"memory_bytes", s.disk.memory},
        {"memory_limit", s.disk.limit},
        {"compressed_bytes", s.packed},
        {"compressed_to_bytes", s.disk.blob_bytes},
        {"resident_bytes", s.resident},
    };
    fprintf(to, "{\n");
    print_requests(&s, to);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        fprintf(to, "  \"%s\": %llu,\n", numbers[i].name, (unsigned long long)numbers[i].value);
    fprintf(to, "  \"compression_ratio\": %.3f\n}\n", compression_ratio(&s));
}

/* Check that a statistics file at `path` would replace nothing but a regular file.  If there is a
 * device or a link at `path`, returns -EINVAL with a reason. */
static int check_target(const struct stats_file *file, const char *path, struct reason *reason)
{
    struct stat status;
    if (fstatat(file->folder, file->name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISREG(status.st_mode))
        return reason_set(reason, -EINVAL,
                          "--stats=%.100s: a regular file, or a new one, is accepted", path);
    return 0;
}

int stats_file_open(struct stats_file *file, const char *path, struct reason *reason)
{
    char *folder = strdup(path), *name = strdup(path);
    *file = (struct stats_file){.folder = -1};
    int r = -ENOMEM;
    if (folder && name) {
        file->name = strdup(basename(name));
        file->folder = open(dirname(folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
        r = file->folder < 0 ? -errno : file->name ? 0 : -ENOMEM;
    }
    if (r < 0)
        reason_set(reason, r, "--stats=%.100s: ", path);
    else
        r = check_target(file, path, reason);
    if (r < 0)
        stats_file_close(file);
    free(folder);
    free(name);
    return r;
}

int stats_file_write(const struct stats_file *file, const struct server *server)
{
    struct string_builder text;
    FILE *to = string_builder_open(&text);
    if (!to)
        return -ENOMEM;
    print_json(server, to);
    char *json = string_builder_close(&text, to);
    if (!json)
        return -ENOMEM;
    int r = file_replace(file->folder, file->name, json, text.size, NULL);
    free(json);
    return r;
}

void stats_file_close(struct stats_file *file)
{
    if (file->folder >= 0)
        close(file->folder);
    free(file->name);
    *file = (struct stats_file){.folder = -1};
}
