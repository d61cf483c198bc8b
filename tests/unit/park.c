/* SPDX-License-Identifier: BSD-3-Clause */

/* The park, without loops and without a disk: here a write waits at a gate until the test lets it
 * through, and nothing else happens. */

#include "support/support.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "disk/disk.h"
#include "os/thread.h"
#include "server/session/park.h"

enum { HANG_SECONDS = 60, OWNERS_MAX = 80, DATA_BYTE = 'x' };

/* The gate.  A write is named by its offset. */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t begun[1000]; /* the writes that have begun, in order */
static unsigned begun_count;
static bool may_pass[1000]; /* by name */
static bool given_up;
static int policy; /* of the thread that ran the last write */
static unsigned trims, zeroes, mallocs_left, threads_left;

int __wrap_disk_write(struct disk *disk, uint64_t offset, size_t count, const void *data);
int __wrap_disk_trim(struct disk *disk, uint64_t offset, uint64_t count);
int __wrap_disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);
void __wrap_disk_give_up_waiting(struct disk *disk);
int __wrap_os_thread_start(pthread_t *thread, void *(*start)(void *), void *arg);
int __real_os_thread_start(pthread_t *thread, void *(*start)(void *), void *arg);
void *__wrap_malloc(size_t size);
void *__real_malloc(size_t size);

int __wrap_disk_write(struct disk *disk, uint64_t offset, size_t count, const void *data)
{
    const char *bytes = data;
    (void)disk;
    if (bytes[0] != DATA_BYTE || bytes[count - 1] != DATA_BYTE)
        errx(EXIT_FAILURE, "the data is not what was added");
    pthread_mutex_lock(&lock);
    policy = sched_getscheduler(0);
    begun[begun_count++] = offset;
    pthread_cond_broadcast(&changed);
    while (!may_pass[offset] && !given_up)
        pthread_cond_wait(&changed, &lock);
    int r = may_pass[offset] ? 0 : -ENOSPC;
    pthread_mutex_unlock(&lock);
    return r;
}

int __wrap_disk_trim(struct disk *disk, uint64_t offset, uint64_t count)
{
    (void)disk, (void)offset, (void)count;
    trims++;
    return -EIO;
}

int __wrap_disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags)
{
    (void)disk, (void)offset, (void)count;
    zeroes++;
    return flags == DISK_NO_HOLE ? 0 : -EINVAL;
}

void __wrap_disk_give_up_waiting(struct disk *disk)
{
    (void)disk;
    pthread_mutex_lock(&lock);
    given_up = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int __wrap_os_thread_start(pthread_t *thread, void *(*start)(void *), void *arg)
{
    if (threads_left == 0)
        return -EAGAIN;
    threads_left--;
    return __real_os_thread_start(thread, start, arg);
}

void *__wrap_malloc(size_t size)
{
    if (mallocs_left == 0)
        return NULL;
    mallocs_left--;
    return __real_malloc(size);
}

static void let_pass(uint64_t name)
{
    pthread_mutex_lock(&lock);
    may_pass[name] = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Wait until so many writes have begun, and return the name of the last of them. */
static uint64_t await_begun(unsigned count)
{
    pthread_mutex_lock(&lock);
    while (begun_count < count)
        pthread_cond_wait(&changed, &lock);
    assert_int_equal(begun_count, count);
    uint64_t last = begun[count - 1];
    pthread_mutex_unlock(&lock);
    return last;
}

/* The stage. */

static struct park park;
static struct park_returns returns;
static struct park_owner *owners[OWNERS_MAX]; /* from malloc: a use after the end is noticed */

static int set_up(void **state)
{
    (void)state;
    mallocs_left = threads_left = 100000;
    begun_count = trims = zeroes = 0;
    given_up = false;
    memset(may_pass, 0, sizeof may_pass);
    alarm(HANG_SECONDS);
    park_init(&park, NULL);
    park_returns_init(&returns, eventfd(0, EFD_CLOEXEC));
    for (unsigned i = 0; i < OWNERS_MAX; i++) {
        owners[i] = malloc(sizeof *owners[i]);
        park_owner_init(owners[i], NULL, &returns);
    }
    return 0;
}

static void abandon(unsigned owner)
{
    park_abandon(&park, owners[owner]);
    free(owners[owner]);
    owners[owner] = NULL;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < OWNERS_MAX; i++)
        if (owners[i])
            abandon(i);
    park_stop(&park);
    close(returns.wake_event);
    return 0;
}

static int add(unsigned owner, uint64_t name, size_t count)
{
    char *data = calloc(1, count);
    const struct park_job job = {
        .request = {.type = NBD_CMD_WRITE, .cookie = name}, .offset = name, .count = count};
    memset(data, DATA_BYTE, count);
    int r = park_add(&park, owners[owner], &job, data);
    memset(data, '?', count); /* the park has its own copy */
    free(data);
    return r;
}

static void add_write(unsigned owner, uint64_t name)
{
    assert_int_equal(add(owner, name, 100), 0);
}

/* Wait for the next job that returns; it has to be this owner's. */
static struct park_job *await_return(unsigned owner)
{
    struct park_owner *found;
    while (!(found = park_collect(&park, &returns))) {
        uint64_t posts;
        assert_int_equal(read(returns.wake_event, &posts, sizeof posts), sizeof posts);
    }
    assert_ptr_equal(found, owners[owner]);
    struct park_job *job = park_take_finished(found);
    assert_non_null(job);
    return job;
}

static void expect_return(unsigned owner, uint64_t name, int error)
{
    struct park_job *job = await_return(owner);
    assert_int_equal(job->request.cookie, name);
    assert_int_equal(job->error, error);
    assert_null(job->data);
    free(job);
}

/* Tests. */

static void jobs_of_an_owner_begin_in_order(void **state)
{
    (void)state;
    for (uint64_t name = 0; name < 20; name++)
        add_write(0, name);
    for (unsigned i = 0; i < 20; i++) {
        await_begun(i + 2 < 20 ? i + 2 : 20); /* PARK_RUNNING_MAX of them, and no more */
        let_pass(i);
        expect_return(0, i, 0);
    }
    for (unsigned i = 2; i < 20; i++) /* the first two begin at about the same time */
        assert_int_equal(begun[i], i);
    assert_int_equal(owners[0]->count, 0);
}

static void owners_take_turns(void **state)
{
    (void)state;
    for (uint64_t name = 0; name < 50; name++)
        add_write(0, name);
    await_begun(2);
    for (unsigned owner = 1; owner < 5; owner++)
        add_write(owner, 100 * owner); /* the first two take the other threads */
    await_begun(4);
    for (unsigned owner = 3; owner < 5; owner++) {
        let_pass(owner - 3);
        expect_return(0, owner - 3, 0);
        assert_int_equal(await_begun(owner + 2), 100 * owner);
    }
    let_pass(100);
    expect_return(1, 100, 0);
    assert_int_equal(await_begun(7), 2);
}

static void a_thread_for_each_owner(void **state)
{
    (void)state;
    for (unsigned owner = 0; owner < PARK_THREADS + 1; owner++)
        add_write(owner, owner);
    await_begun(PARK_THREADS);
    assert_int_equal(park.thread_count, PARK_THREADS);
    let_pass(2);
    expect_return(2, 2, 0);
    assert_int_equal(await_begun(PARK_THREADS + 1), PARK_THREADS);
}

static void other_commands_and_errors(void **state)
{
    (void)state;
    struct park_job job = {.request = {.type = NBD_CMD_TRIM, .cookie = 7}, .count = 10};
    assert_int_equal(park_add(&park, owners[3], &job, NULL), 0);
    expect_return(3, 7, -EIO);
    job.request =
        (struct nbd_request){.type = NBD_CMD_WRITE_ZEROES, .flags = NBD_CMD_FLAG_NO_HOLE};
    assert_int_equal(park_add(&park, owners[3], &job, NULL), 0);
    expect_return(3, 0, 0);
    assert_int_equal(trims, 1);
    assert_int_equal(zeroes, 1);
}

static void bound_of_an_owner(void **state)
{
    (void)state;
    for (uint64_t name = 0; name < PARK_JOBS_MAX; name++) {
        assert_false(park_is_full(&park, owners[0]));
        add_write(0, name);
    }
    assert_true(park_is_full(&park, owners[0]));
    assert_false(park_is_full(&park, owners[1]));
    let_pass(0);
    expect_return(0, 0, 0); /* answered: there is room for one more */
    assert_false(park_is_full(&park, owners[0]));
}

/* Beyond the bound of all, an owner has one job. */
static void bound_of_all(void **state)
{
    (void)state;
    size_t each = PARK_BYTES_MAX / (OWNERS_MAX - 16);
    for (unsigned owner = 0; owner < OWNERS_MAX - 16; owner++) {
        assert_false(park_is_full(&park, owners[owner]));
        assert_int_equal(add(owner, owner, each), 0);
    }
    assert_true(park_is_full(&park, owners[0]));
    assert_false(park_is_full(&park, owners[OWNERS_MAX - 1]));
    add_write(OWNERS_MAX - 1, OWNERS_MAX);
    assert_true(park_is_full(&park, owners[OWNERS_MAX - 1]));
    uint64_t name = (await_begun(PARK_THREADS), begun[0]);
    let_pass(name);
    free(await_return((unsigned)name));
    assert_false(park_is_full(&park, owners[OWNERS_MAX - 1]));
    assert_false(park_is_full(&park, owners[0]));
}

static void orphans(void **state)
{
    (void)state;
    for (uint64_t name = 0; name < 5; name++)
        add_write(0, name);
    await_begun(2);
    let_pass(0);
    let_pass(1);
    await_begun(4);
    assert_ptr_equal(park_collect(&park, &returns), owners[0]); /* one finished, one returned */
    add_write(1, 10);
    abandon(0); /* two of its jobs run, one is queued */
    add_write(1, 11);
    await_begun(6);
    let_pass(2);
    let_pass(3);
    let_pass(10);
    let_pass(11);
    free(await_return(1));
    free(await_return(1));
    add_write(2, 20); /* the threads of the orphans serve others */
    add_write(3, 30);
    add_write(4, 40);
    await_begun(9);
    assert_null(park_collect(&park, &returns));
}

static void owner_that_is_queued_is_abandoned(void **state)
{
    (void)state;
    for (unsigned owner = 0; owner < PARK_THREADS + 2; owner++)
        add_write(owner, owner);
    await_begun(PARK_THREADS);
    abandon(PARK_THREADS);
    let_pass(0);
    expect_return(0, 0, 0);
    assert_int_equal(await_begun(PARK_THREADS + 1), PARK_THREADS + 1);
}

/* tear_down: the jobs that run end because the disk gives up waiting. */
static void stop_while_jobs_wait(void **state)
{
    (void)state;
    for (unsigned owner = 0; owner < 10; owner++)
        add_write(owner, owner);
    await_begun(PARK_THREADS);
}

static void no_thread(void **state)
{
    (void)state;
    threads_left = 0;
    assert_int_equal(add(0, 1, 10), -ENOMEM);
    assert_int_equal(owners[0]->count, 0);
    threads_left = 1;
    add_write(0, 2);
    add_write(1, 3); /* no second thread: the first one does it */
    assert_int_equal(await_begun(1), 2);
    let_pass(2);
    assert_int_equal(await_begun(2), 3);
    threads_left = 9;
    add_write(2, 4); /* the next try starts one */
    assert_int_equal(await_begun(3), 4);
}

/* With --swap the loops have real-time priority, which threads inherit from the one that starts
 * them.  A job that compresses pages would keep other processes from running. */
static void threads_are_ordinary(void **state)
{
    (void)state;
    const struct sched_param lowest = {.sched_priority = sched_get_priority_min(SCHED_RR)};
    const struct sched_param none = {.sched_priority = 0};
    if (sched_setscheduler(0, SCHED_RR, &lowest) < 0)
        skip(); /* no CAP_SYS_NICE */
    add_write(0, 1);
    sched_setscheduler(0, SCHED_OTHER, &none);
    await_begun(1);
    assert_int_equal(policy, SCHED_OTHER);
}

static void no_memory(void **state)
{
    (void)state;
    const struct park_job job = {.request = {.type = NBD_CMD_WRITE}, .count = 1};
    for (unsigned n = 0; n < 2; n++) {
        mallocs_left = n;
        assert_int_equal(park_add(&park, owners[0], &job, "x"), -ENOMEM);
    }
    mallocs_left = 100000;
    assert_int_equal(owners[0]->count, 0);
    assert_int_equal(park.thread_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(jobs_of_an_owner_begin_in_order),
        TEST(owners_take_turns),
        TEST(a_thread_for_each_owner),
        TEST(other_commands_and_errors),
        TEST(bound_of_an_owner),
        TEST(bound_of_all),
        TEST(orphans),
        TEST(owner_that_is_queued_is_abandoned),
        TEST(stop_while_jobs_wait),
        TEST(no_thread),
        TEST(threads_are_ordinary),
        TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
