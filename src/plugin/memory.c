/* SPDX-License-Identifier: BSD-3-Clause */

/* A drop-in replacement for nbdkit's memory plugin.  It translates nbdkit's parameters and
 * requests into calls of disk.h, and keeps no data itself. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "disk/disk.h"
#include "text/reason.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct disk_options options = {.level = DISK_LEVEL_DEFAULT};
static bool has_size;
static struct disk *disk; /* there is one disk, which all clients share */

/* The meaning of an error of the disk, in words for the log. */
static const char *meaning(int r)
{
    switch (r) {
    case -ENOSPC:
        return "no space: the disk may not take more memory";
    case -ENOMEM:
        return "the system has no memory left";
    case -EINVAL:
        return "not within the disk";
    default:
        return "failed";
    }
}

/* Report an error in the way that nbdkit expects: print a message, set errno, and return -1.  r
 * is -errno. */
static int fail(int r, const char *what)
{
    nbdkit_error("%s: %s", what, meaning(r));
    errno = -r;
    return -1;
}

/* Parameters. */

static int config_size(const char *value)
{
    int64_t size = nbdkit_parse_size(value);
    if (size == -1)
        return -1;
    options.size = (uint64_t)size;
    has_size = true;
    return 0;
}

static int config_limit(const char *value)
{
    int64_t limit = nbdkit_parse_size(value);
    if (limit == -1)
        return -1;
    if ((uint64_t)limit < DISK_LIMIT_MIN) {
        nbdkit_error("limit=%s is too low: the least is limit=1M", value);
        return -1;
    }
    options.limit = (uint64_t)limit;
    return 0;
}

static int config_allocator(const char *value)
{
    struct reason reason;
    if (disk_parse_allocator(value, &options, &reason) == 0)
        return 0;
    nbdkit_error("%s", reason.text);
    return -1;
}

static int memory_config(const char *key, const char *value)
{
    if (strcmp(key, "size") == 0)
        return config_size(value);
    if (strcmp(key, "limit") == 0)
        return config_limit(value);
    if (strcmp(key, "allocator") == 0)
        return config_allocator(value);
    nbdkit_error("unknown parameter '%s': size, limit and allocator are accepted", key);
    return -1;
}

static int memory_config_complete(void)
{
    if (has_size)
        return 0;
    nbdkit_error("you must specify size=<SIZE> on the command line");
    return -1;
}

static void memory_dump_plugin(void)
{
    disk_print_features(stdout);
}

/* Starting and stopping.  nbdkit forks between get_ready and after_fork.  get_ready finds as many
 * errors as possible, while the person who started nbdkit still sees messages.  after_fork starts
 * threads and locks memory, because neither threads nor locks would survive the fork. */

static int refuse_disk(int r)
{
    struct reason reason;
    disk_explain(&options, r, &reason);
    nbdkit_error("%s", reason.text);
    errno = -r;
    return -1;
}

static int memory_get_ready(void)
{
    int r = disk_create(&options, &disk);
    return r < 0 ? refuse_disk(r) : 0;
}

static int memory_after_fork(void)
{
    int r = disk_start(disk);
    return r < 0 ? refuse_disk(r) : 0;
}

/* Connections. */

struct connection {
    TAILQ_ENTRY(connection) link; /* links open_connections */
    pthread_mutex_t lock;         /* guards cache */
    struct disk_cache *cache;     /* NULL if the disk compresses nothing or memory was short */
};

TAILQ_HEAD(connection_list, connection);

/* All connections that have not been closed.  nbdkit does not close those that are open when it
 * stops, so memory_unload does. */
static struct connection_list open_connections = TAILQ_HEAD_INITIALIZER(open_connections);
static pthread_mutex_t open_connections_lock = PTHREAD_MUTEX_INITIALIZER;

static void destroy_connection(struct connection *connection)
{
    disk_cache_destroy(disk, connection->cache);
    pthread_mutex_destroy(&connection->lock);
    free(connection);
}

static void memory_unload(void)
{
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&open_connections))) {
        TAILQ_REMOVE(&open_connections, connection, link);
        destroy_connection(connection);
    }
    disk_destroy(disk);
}

static void *memory_open(int readonly)
{
    (void)readonly;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        nbdkit_error("no memory for another connection");
        return NULL;
    }
    pthread_mutex_init(&connection->lock, NULL);
    if (disk_cache_create(disk, &connection->cache) < 0)
        connection->cache = NULL;
    pthread_mutex_lock(&open_connections_lock);
    TAILQ_INSERT_TAIL(&open_connections, connection, link);
    pthread_mutex_unlock(&open_connections_lock);
    return connection;
}

static void memory_close(void *handle)
{
    struct connection *connection = handle;
    pthread_mutex_lock(&open_connections_lock);
    TAILQ_REMOVE(&open_connections, connection, link);
    pthread_mutex_unlock(&open_connections_lock);
    destroy_connection(connection);
}

static int64_t memory_get_size(void *handle)
{
    (void)handle;
    return (int64_t)disk_size(disk);
}

static int memory_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = disk_page_size(disk);
    *maximum = UINT32_MAX;
    return 0;
}

/* A write is in memory and visible to all clients before it is acknowledged.  So flush and FUA
 * have nothing to do. */

static int memory_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

static int memory_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int memory_can_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE;
}

static int memory_can_fast_zero(void *handle)
{
    (void)handle;
    return 1;
}

static int memory_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    return 0;
}

static int memory_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)count;
    (void)offset;
    (void)flags;
    return 0;
}

/* Requests. */

/* Only one request at a time can use the connection's cache.  If a client sends one request at a
 * time, each request finds the cache free.  A request that finds the cache in use reads without
 * the cache.  If requests waited for the cache instead, one processor would inflate pages for all
 * requests of the connection. */
static int memory_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct connection *connection = handle;
    (void)flags;
    int r;
    if (connection->cache && pthread_mutex_trylock(&connection->lock) == 0) {
        r = disk_read_cached(disk, connection->cache, offset, count, buf);
        pthread_mutex_unlock(&connection->lock);
    } else {
        r = disk_read(disk, offset, count, buf);
    }
    return r < 0 ? fail(r, "read") : 0;
}

static int memory_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    (void)handle;
    (void)flags;
    int r = disk_write(disk, offset, count, buf);
    return r < 0 ? fail(r, "write") : 0;
}

/* nbdkit reports NBD's NO_HOLE flag by leaving out MAY_TRIM. */
static int memory_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    int r = disk_zero(disk, offset, count, flags & NBDKIT_FLAG_MAY_TRIM ? 0 : DISK_NO_HOLE);
    return r < 0 ? fail(r, "zero") : 0;
}

static int memory_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    int r = disk_trim(disk, offset, count);
    return r < 0 ? fail(r, "trim") : 0;
}

struct extents_target {
    struct nbdkit_extents *extents;
    bool one; /* the client wants only the first extent */
};

#define STOP 1 /* add_extent returns this to end disk_extents early, without an error */

static int add_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    const struct extents_target *target = opaque;
    uint32_t type = hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    if (nbdkit_add_extent(target->extents, offset, count, type) == -1)
        return -errno;
    return target->one ? STOP : 0;
}

/* disk_extents reports only extents that lie within the request.  nbdkit 1.32 would abort on an
 * extent that reaches beyond the request. */
static int memory_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
    (void)handle;
    struct extents_target target = {extents, flags & NBDKIT_FLAG_REQ_ONE};
    int r = disk_extents(disk, offset, count, add_extent, &target);
    return r < 0 ? fail(r, "extents") : 0;
}

static char config_help[2048]; /* text for nbdkit --help; longer text is cut off */

/* Write the help text, which lists the allocators.  nbdkit copies the struct `plugin` before it
 * calls any function of the plugin.  So the text must be ready when nbdkit has loaded the
 * plugin. */
__attribute__((constructor)) static void print_config_help(void)
{
    FILE *to = fmemopen(config_help, sizeof config_help, "w");
    if (!to)
        return;
    fprintf(to, "size=<SIZE>    (required) Size of the disk, as 100M, 10G, ...\n"
                "limit=<SIZE>              Most memory to take, at least 1M (default: what\n"
                "                          the machine can give, less a reserve).\n"
                "allocator=<KIND>          How to keep the disk in memory; one of\n");
    disk_print_allocators(to, "  ");
    fclose(to);
}

static struct nbdkit_plugin plugin = {
    .name = "memory",
    .longname = "nbdram memory plugin",
    .version = NBDRAM_VERSION,
    .description = "a RAM disk, all of it in memory and lost when nbdkit ends",
    .magic_config_key = "size",
    .config = memory_config,
    .config_complete = memory_config_complete,
    .config_help = config_help,
    .dump_plugin = memory_dump_plugin,
    .get_ready = memory_get_ready,
    .after_fork = memory_after_fork,
    .unload = memory_unload,
    .open = memory_open,
    .close = memory_close,
    .get_size = memory_get_size,
    .block_size = memory_block_size,
    .can_multi_conn = memory_can_multi_conn,
    .can_fua = memory_can_fua,
    .can_cache = memory_can_cache,
    .can_fast_zero = memory_can_fast_zero,
    .pread = memory_pread,
    .pwrite = memory_pwrite,
    .zero = memory_zero,
    .trim = memory_trim,
    .extents = memory_extents,
    .cache = memory_cache,
    .flush = memory_flush,
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
