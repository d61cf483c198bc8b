/* SPDX-License-Identifier: BSD-3-Clause */

/* Becoming another user and group. */

#include "support/child.h"
#include "support/support.h"

#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <unistd.h>

#include "server/host/privileges.h"
#include "text/reason.h"

/* Not root. */
#define OTHER_ID 65534
#define OTHER "65534"

static void become_other(void *argument)
{
    struct reason reason = {0};
    gid_t groups[8];
    uid_t uid[3];
    gid_t gid[3];
    const char *user = argument;
    MUST(setgroups(3, (const gid_t[]){1, 2, 3}) == 0);
    MUST(privileges_become(&(struct user_names){user, OTHER}, &reason) == 0);
    MUST(getresuid(&uid[0], &uid[1], &uid[2]) == 0 && getresgid(&gid[0], &gid[1], &gid[2]) == 0);
    for (int i = 0; i < 3; i++)
        MUST(uid[i] == (user ? OTHER_ID : 0) && gid[i] == OTHER_ID);
    MUST(getgroups(8, groups) == 1 && groups[0] == OTHER_ID);
    MUST(!user || (setuid(0) < 0 && seteuid(0) < 0 && setgid(0) < 0));
    MUST(!user || open("/proc/1/mem", O_RDONLY) < 0);
}

static void user_and_group_are_changed_for_good(void **state)
{
    (void)state;
    struct reason reason = {0};
    assert_int_equal(privileges_become(&(struct user_names){NULL, NULL}, &reason), 0);
    static const char *const users[] = {"no-such-user", "", "-1", "4294967295", "0x1"};
    for (size_t i = 0; i < COUNT_OF(users); i++) {
        assert_int_equal(privileges_become(&(struct user_names){users[i], NULL}, &reason),
                         -EINVAL);
        assert_non_null(strstr(reason.text, "no such user: "));
        assert_int_equal(privileges_become(&(struct user_names){NULL, users[i]}, &reason),
                         -EINVAL);
        assert_non_null(strstr(reason.text, "no such group: "));
    }
    if (geteuid() != 0) {
        assert_int_equal(privileges_become(&(struct user_names){"0", "0"}, &reason), -EPERM);
        skip();
    }
    /* A number that belongs to no user has no group. */
    assert_int_equal(privileges_become(&(struct user_names){"4000000", NULL}, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "--group"));
    child_run(become_other, (void *)(uintptr_t)OTHER);
    child_run(become_other, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_and_group_are_changed_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
