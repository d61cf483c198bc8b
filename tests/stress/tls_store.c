/* SPDX-License-Identifier: BSD-3-Clause */

/* Credentials are read again while sessions that use the old ones go on.
 *
 * Faults that were planted, and that these tests notice: a session that does not hold its
 * credentials (address sanitizer), a store that does not release the old ones (leak sanitizer), a
 * take without the lock (thread sanitizer). */

#include "support/support.h"
#include "support/tls_pair.h"
#include "support/tls_parties.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/thread.h"
#include "server/net/tls.h"
#include "server/net/tls_store.h"
#include "support/file.h"

#define ALICE "alice:0123456789abcdef0123456789abcdef\n"
#define CAROL "carol:00ff00fe\n"

static const struct tls_client alice = {
    .priority = TLS_KEYS, .user = "alice", .key = "0123456789abcdef0123456789abcdef"};
static const struct tls_client carol = {.priority = TLS_KEYS, .user = "carol", .key = "00ff00fe"};

static void open_store(struct tls_store *store, const char *certificates, const char *keys)
{
    const struct tls_options options = {.certificates = certificates, .psk_file = keys};
    struct reason reason = {0};
    *store = (struct tls_store){0};
    if (tls_store_open(store, &options, &reason) != 0)
        fail_msg("%s", reason.text);
}

static void assert_reloaded(struct tls_store *store)
{
    struct reason reason = {0};
    if (tls_store_reload(store, &reason) != 0)
        fail_msg("%s", reason.text);
}

static void assert_not_reloaded(struct tls_store *store, int err, const char *words)
{
    struct reason reason = {0};
    const struct tls_credentials *before = store->present;
    assert_int_equal(tls_store_reload(store, &reason), err);
    assert_ptr_equal(store->present, before);
    if (strstr(reason.text, words) == NULL || strchr(reason.text, '\n') != NULL)
        fail_msg("\"%s\" in \"%s\"", words, reason.text);
}

static void an_old_session_goes_on(void **state)
{
    (void)state;
    struct tls_store store;
    struct tls_pair old, halfway, removed, added;
    file_write_text("changing", ALICE);
    open_store(&store, NULL, "changing");
    tls_pair_connect(&old, tls_store_take(&store), &alice);
    tls_pair_open_sockets(&halfway, tls_store_take(&store), &alice);
    file_write_text("changing", CAROL);
    assert_reloaded(&store);
    tls_pair_shake_hands(&halfway); /* it began with the old keys */
    tls_pair_assert_talking(&halfway);
    tls_pair_connect(&removed, tls_store_take(&store), &alice);
    tls_pair_assert_refused(&removed, "there is no key for user \"alice\"");
    tls_pair_connect(&added, tls_store_take(&store), &carol);
    tls_pair_assert_talking(&added);
    tls_store_close(&store);
    tls_pair_assert_talking(&old);
    tls_pair_close(&old);
    tls_pair_close(&halfway);
    tls_pair_close(&removed);
    tls_pair_close(&added);
}

static void a_session_needs_no_holder_but_itself(void **state)
{
    (void)state;
    struct tls_pair pair;
    tls_pair_connect(&pair, tls_load(NULL, "keys", false), &alice);
    tls_credentials_release(pair.server_credentials);
    pair.server_credentials = NULL;
    tls_pair_assert_talking(&pair);
    tls_pair_close(&pair);
}

static void what_cannot_be_read_changes_nothing(void **state)
{
    const struct tls_parties *all = *state;
    struct tls_store store;
    file_write_text("changing", ALICE);
    open_store(&store, NULL, "changing");
    file_write_text("changing", "alice\n");
    assert_not_reloaded(&store, -EINVAL, "/changing:1: ");
    assert_int_equal(unlink("changing"), 0);
    assert_not_reloaded(&store, -ENOENT, "/changing: ");
    assert_int_equal(mkfifo("changing", 0600), 0);
    assert_not_reloaded(&store, -EINVAL, "/changing: not a regular file");
    assert_int_equal(unlink("changing"), 0);
    file_write_text("changing", CAROL);
    assert_reloaded(&store);
    tls_store_close(&store);

    open_store(&store, "pki", NULL);
    tls_write_key("pki/server-key.pem", &all->client);
    assert_not_reloaded(&store, -EINVAL, "server-key.pem");
    tls_write_key("pki/server-key.pem", &all->server);
    assert_reloaded(&store);
    tls_store_close(&store);
}

static void the_current_folder_may_change(void **state)
{
    (void)state;
    struct tls_store keys, certificates;
    file_write_text("changing", ALICE);
    open_store(&keys, NULL, "changing");
    open_store(&certificates, "pki", NULL);
    assert_int_equal(chdir("pki"), 0);
    assert_reloaded(&keys);
    assert_reloaded(&certificates);
    assert_int_equal(chdir(".."), 0);
    tls_store_close(&keys);
    tls_store_close(&certificates);
}

/* Reloads beside sessions.  These threads do not use cmocka, which belongs to the main thread. */

struct loop {
    pthread_t thread;
    struct tls_store *store;
    const atomic_bool *is_over;
    atomic_uint sessions;
    bool has_failed;
};

/* Make a session, begin its handshake, and end it. */
static bool meet_a_client(struct tls_store *store)
{
    struct tls_session *session = NULL;
    struct reason reason;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return false;
    struct tls_credentials *credentials = tls_store_take(store);
    bool is_good = tls_session_create(credentials, ends[0], ends[0], &session) == 0;
    tls_credentials_release(credentials);
    is_good = is_good && tls_session_handshake(session, &reason) == -EAGAIN;
    tls_session_free(session);
    close(ends[0]);
    close(ends[1]);
    return is_good;
}

static void *run_loop(void *arg)
{
    struct loop *loop = arg;
    while (!atomic_load(loop->is_over)) {
        loop->has_failed = loop->has_failed || !meet_a_client(loop->store);
        atomic_fetch_add(&loop->sessions, 1);
    }
    return NULL;
}

static void reloads_and_sessions_may_meet(void **state)
{
    (void)state;
    enum { LOOPS = 3, SESSIONS = 200, RELOADS = 200 };
    struct tls_store store;
    struct loop loops[LOOPS];
    atomic_bool is_over = false;
    unsigned reloads = 0;
    open_store(&store, NULL, "keys");
    for (int i = 0; i < LOOPS; i++) {
        loops[i] = (struct loop){.store = &store, .is_over = &is_over};
        assert_int_equal(os_thread_start(&loops[i].thread, run_loop, &loops[i]), 0);
    }
    for (int i = 0; i < LOOPS; i++)
        while (atomic_load(&loops[i].sessions) < SESSIONS || reloads < RELOADS) {
            assert_reloaded(&store);
            reloads++;
        }
    atomic_store(&is_over, true);
    for (int i = 0; i < LOOPS; i++) {
        pthread_join(loops[i].thread, NULL);
        assert_false(loops[i].has_failed);
    }
    tls_store_close(&store);
}

static void a_store_that_was_never_opened_may_be_closed(void **state)
{
    (void)state;
    struct tls_store store = {0};
    struct reason reason;
    const struct tls_options options = {.psk_file = "no-keys"};
    assert_int_equal(tls_store_open(&store, &options, &reason), -ENOENT);
    tls_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_session_goes_on),
        cmocka_unit_test(a_session_needs_no_holder_but_itself),
        cmocka_unit_test(what_cannot_be_read_changes_nothing),
        cmocka_unit_test(the_current_folder_may_change),
        cmocka_unit_test(reloads_and_sessions_may_meet),
        cmocka_unit_test(a_store_that_was_never_opened_may_be_closed),
    };
    return cmocka_run_group_tests(tests, tls_parties_make, tls_parties_free);
}
