/* SPDX-License-Identifier: BSD-3-Clause */

/* The group goes first: who is no longer root cannot change it.  What the process was is then
 * asked for again, and must be refused. */

#include "server/host/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "server/net/listeners.h"
#include "text/reason.h"

/* The last number means "leave it". */
#define ID_MAX (UINT32_MAX - 1)

static int find_group(const char *group, gid_t *gid, char *why, size_t why_size)
{
    errno = 0;
    const struct group *entry = getgrnam(group);
    if (entry)
        *gid = entry->gr_gid;
    else if (listen_parse_number(group, ID_MAX, gid) < 0)
        return why_say(-EINVAL, why, why_size, "no such group: %s", group);
    return 0;
}

int privileges_find(const char *user, const char *group, struct user_ids *ids, char *why,
              size_t why_size)
{
    ids->uid = geteuid();
    ids->gid = getegid();
    if (user) {
        const struct passwd *entry = getpwnam(user);
        if (!entry && listen_parse_number(user, ID_MAX, &ids->uid) < 0)
            return why_say(-EINVAL, why, why_size, "no such user: %s", user);
        if (!entry)
            entry = getpwuid(ids->uid);
        if (!entry && !group)
            return why_say(-EINVAL, why, why_size,
                           "user %s has no group of its own: give one with --group", user);
        if (entry) {
            ids->uid = entry->pw_uid;
            ids->gid = entry->pw_gid;
        }
    }
    return group ? find_group(group, &ids->gid, why, why_size) : 0;
}

/* With a group of his choice, that one only; else those that the user is in. */
static int set_groups(const char *group, const struct user_ids *ids)
{
    const struct passwd *entry = group ? NULL : getpwuid(ids->uid);
    int failed =
        entry ? initgroups(entry->pw_name, ids->gid) : setgroups(1, (const gid_t[]){ids->gid});
    if (failed || setresgid(ids->gid, ids->gid, ids->gid) < 0)
        return -errno;
    return 0;
}

static bool is_now(const struct user_ids *ids)
{
    uid_t uid[3];
    gid_t gid[3];
    if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 || getresgid(&gid[0], &gid[1], &gid[2]) < 0)
        return false;
    for (int i = 0; i < 3; i++)
        if (uid[i] != ids->uid || gid[i] != ids->gid)
            return false;
    /* Root may do it all again, and was asked to stay. */
    return ids->uid == 0 || (setresuid((uid_t)-1, 0, (uid_t)-1) < 0 &&
                             (ids->gid == 0 || setresgid((gid_t)-1, 0, (gid_t)-1) < 0));
}

void privileges_forbid_new(void)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int privileges_become(const char *user, const char *group, char *why, size_t why_size)
{
    struct user_ids ids;
    int death_signal = 0;
    if (!user && !group)
        return 0;
    int err = privileges_find(user, group, &ids, why, why_size);
    if (err)
        return err;
    pid_t parent = getppid();
    prctl(PR_GET_PDEATHSIG, &death_signal);
    err = set_groups(group, &ids);
    if (err)
        return why_say(err, why, why_size, "cannot become group %u: ", ids.gid);
    if (setresuid(ids.uid, ids.uid, ids.uid) < 0)
        return why_say(-errno, why, why_size, "cannot become user %u: ", ids.uid);
    if (!is_now(&ids))
        return why_say(-EPERM, why, why_size, "became user %u, but not for good", ids.uid);
    /* The kernel forgets --exit-with-parent when the user changes. */
    if (death_signal != 0) {
        prctl(PR_SET_PDEATHSIG, death_signal);
        if (getppid() != parent)
            raise(death_signal);
    }
    return 0;
}
