/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_give_up_waiting: requests that wait for room, and those that come later, are refused.
 *
 * The linker puts __wrap_pthread_cond_wait in place of the engine's, which says when the writer
 * has begun to wait for the compressor, and __wrap_codec_pack, in which the compressor then stays
 * until the writer has ended.  So only giving up can end the writer's wait.
 *
 * Seen to fail, by not returning: an engine that does not wake the writer.
 */

#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "disk/zstd/codec.h"

static _Thread_local bool is_writer;
static atomic_bool writer_waits, writer_has_ended;

int __real_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock)
{
    if (is_writer)
        atomic_store(&writer_waits, true);
    return __real_pthread_cond_wait(condition, lock);
}

long __real_codec_pack(struct codec *codec, const void *page, size_t size, void *out,
                       size_t room);
long __wrap_codec_pack(struct codec *codec, const void *page, size_t size, void *out,
                       size_t room);
long __wrap_codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room)
{
    while (atomic_load(&writer_waits) && !atomic_load(&writer_has_ended))
        sched_yield();
    return __real_codec_pack(codec, page, size, out, room);
}

#define PIECE (64 * KiB)

static int write_until_refused(struct disk *disk, uint64_t *offset)
{
    struct prng prng;
    uint8_t *bytes = malloc(PIECE);
    int err = bytes ? 0 : -ENOMEM;
    prng_init(&prng, test_seed(), 1);
    for (; err == 0 && *offset < disk_size(disk); *offset += PIECE) {
        fill_text(&prng, bytes, PIECE);
        err = disk_write(disk, *offset, PIECE, bytes);
    }
    free(bytes);
    return err;
}

struct writer {
    struct disk *disk;
    int err;
};

static void *writer_main(void *opaque)
{
    struct writer *writer = opaque;
    uint64_t offset = 0;
    is_writer = true;
    writer->err = write_until_refused(writer->disk, &offset);
    return NULL;
}

static void a_writer_that_waits_is_refused(void **state)
{
    struct writer writer = {.disk = disk_made(&allocator_zstd, GiB, 4 * MiB)};
    pthread_t thread;
    uint64_t offset = 0;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, writer_main, &writer), 0);
    while (!atomic_load(&writer_waits))
        sched_yield();
    disk_give_up_waiting(writer.disk);
    pthread_join(thread, NULL);
    atomic_store(&writer_has_ended, true);
    assert_int_equal(writer.err, -ENOSPC);
    assert_int_equal(write_until_refused(writer.disk, &offset), -ENOSPC);
    disk_end(writer.disk);
}

/* What needs no room is done as before. */
static void other_requests_go_on(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 64 * MiB, 4 * MiB);
    uint64_t offset = 0;
    write_byte(disk, 0, 7);
    disk_give_up_waiting(disk);
    assert_int_equal(write_until_refused(disk, &offset), -ENOSPC);
    write_byte(disk, 1, 9);
    assert_int_equal(read_byte(disk, 1), 9);
    assert_int_equal(disk_trim(disk, 0, 64 * MiB), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 64 * MiB));
    write_byte(disk, 1, 9);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_writer_that_waits_is_refused),
        TEST_OF_PAGED(other_requests_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
