/* SPDX-License-Identifier: BSD-3-Clause */

/* The server's files of certificates and keys: where they are looked for, and which message names
 * the one that cannot be loaded. */

#include "support/support.h"
#include "support/tls_pair.h"
#include "support/tls_parties.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/file.h"
#include "support/folder.h"

static void assert_not_loaded(const char *certificates, const char *keys, int err,
                              const char *words)
{
    struct tls_credentials *credentials = NULL;
    struct reason reason = {0};
    assert_int_equal(tls_try_load(certificates, keys, false, &credentials, &reason), err);
    assert_null(credentials);
    if (strstr(reason.text, words) == NULL || strchr(reason.text, '\n') != NULL)
        fail_msg("\"%s\" in \"%s\"", words, reason.text);
}

static void what_cannot_be_loaded_is_named(void **state)
{
    const struct tls_parties *all = *state;
    assert_not_loaded("nowhere", NULL, -ENOENT, "nowhere/ca-cert.pem");
    tls_make_folder("bad");
    file_write_text("bad/ca-cert.pem", "nothing\n");
    assert_not_loaded("bad", NULL, -ENOENT, "bad/server-cert.pem");
    tls_write_certificate("bad/server-cert.pem", &all->server);
    assert_not_loaded("bad", NULL, -ENOENT, "bad/server-key.pem");
    tls_write_key("bad/server-key.pem", &all->client);
    assert_not_loaded("bad", NULL, -EINVAL, "bad/ca-cert.pem");
    tls_write_certificate("bad/ca-cert.pem", &all->ca);
    assert_not_loaded("bad", NULL, -EINVAL, "server-key.pem");
    tls_write_key("bad/server-key.pem", &all->server);
    file_write_text("bad/ca-crl.pem", "nothing\n");
    assert_not_loaded("bad", NULL, -EINVAL, "bad/ca-crl.pem");

    assert_not_loaded(NULL, "no-keys", -ENOENT, "no-keys");
    file_write_text("empty", "\n");
    assert_not_loaded(NULL, "empty", -EINVAL, "empty");
    static const char *const wrong[] = {"a:00\nb\n", "a:00\nb:\n", "a:00\n:00\n", "a:00\nb:0z\n",
                                        "a:00\n#0z:00\n"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        file_write_text("wrong", wrong[i]);
        assert_not_loaded(NULL, "wrong", -EINVAL, "wrong:2: ");
    }
}

static void the_usual_folders_are_looked_into(void **state)
{
    const struct tls_parties *all = *state;
    /* root's folder belongs to the machine, so root looks as somebody else. */
    const bool is_root = geteuid() == 0;
    assert_int_equal(setenv("HOME", all->folder->path, 1), 0);
    assert_int_equal(chmod(all->folder->path, 0755), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    assert_not_loaded(NULL, NULL, -ENOENT, "--tls-certificates");
    assert_true(!is_root || seteuid(0) == 0);
    tls_make_folder(".config");
    tls_make_folder(".config/pki");
    tls_make_folder(".config/pki/nbdkit");
    tls_write_certificate(".config/pki/nbdkit/ca-cert.pem", &all->ca);
    tls_write_certificate(".config/pki/nbdkit/server-cert.pem", &all->server);
    tls_write_key(".config/pki/nbdkit/server-key.pem", &all->server);
    assert_true(!is_root || seteuid(65534) == 0);
    tls_credentials_release(tls_load(NULL, NULL, false));
    assert_true(!is_root || seteuid(0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_loaded_is_named),
        cmocka_unit_test(the_usual_folders_are_looked_into),
    };
    return cmocka_run_group_tests(tests, tls_parties_make, tls_parties_free);
}
