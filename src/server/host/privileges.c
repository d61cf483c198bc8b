/* SPDX-License-Identifier: BSD-3-Clause */

/* The group changes first, because a process that is no longer root cannot change its group.
 * After both changes, we verify that the kernel refuses to give root's rights back. */

#include "server/host/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "server/host/parent_death.h"
#include "text/parse.h"
#include "text/reason.h"

/* The largest user or group id.  The next number means "no change" in system calls. */
#define ID_MAX (UINT32_MAX - 1)

static int find_group(const char *group, gid_t *gid, struct reason *reason)
{
    errno = 0;
    const struct group *entry = getgrnam(group);
    if (entry)
        *gid = entry->gr_gid;
    else if (parse_number(group, PARSE_DECIMAL, 0, ID_MAX, gid) < 0)
        return reason_set(reason, -EINVAL, "no such group: %s", group);
    return 0;
}

int privileges_find(const struct user_names *names, struct user_ids *ids, struct reason *reason)
{
    const char *user = names->user, *group = names->group;
    ids->uid = geteuid();
    ids->gid = getegid();
    if (user) {
        const struct passwd *entry = getpwnam(user);
        if (!entry && parse_number(user, PARSE_DECIMAL, 0, ID_MAX, &ids->uid) < 0)
            return reason_set(reason, -EINVAL, "no such user: %s", user);
        if (!entry)
            entry = getpwuid(ids->uid);
        if (!entry && !group)
            return reason_set(reason, -EINVAL,
                              "user %s has no group of its own: give one with --group", user);
        if (entry) {
            ids->uid = entry->pw_uid;
            ids->gid = entry->pw_gid;
        }
    }
    return group ? find_group(group, &ids->gid, reason) : 0;
}

/* Set the groups of the process.  If a group was given, it becomes the only supplementary group.
 * Otherwise the process gets the supplementary groups of the user. */
static int set_groups(const char *group, const struct user_ids *ids)
{
    const struct passwd *entry = group ? NULL : getpwuid(ids->uid);
    int failed =
        entry ? initgroups(entry->pw_name, ids->gid) : setgroups(1, (const gid_t[]){ids->gid});
    if (failed || setresgid(ids->gid, ids->gid, ids->gid) < 0)
        return -errno;
    return 0;
}

/* Are we this user and group already, with no supplementary groups that would have to be given
 * up?  Only root is permitted to set groups, but such a process need not.  A user without -g
 * keeps the groups with which that user started us. */
static bool needs_no_change(const char *group, const struct user_ids *ids)
{
    gid_t groups[2];
    bool is_same = geteuid() == ids->uid && getegid() == ids->gid;
    if (!is_same || !group)
        return is_same;
    int count = getgroups(2, groups);
    return count == 0 || (count == 1 && groups[0] == ids->gid);
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
    /* A process that stays root keeps root's rights, so only other users are tested. */
    return ids->uid == 0 || (setresuid((uid_t)-1, 0, (uid_t)-1) < 0 &&
                             (ids->gid == 0 || setresgid((gid_t)-1, 0, (gid_t)-1) < 0));
}

void privileges_forbid_new(void)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int privileges_become(const struct user_names *names, struct reason *reason)
{
    struct user_ids ids;
    if (!names->user && !names->group)
        return 0;
    int r = privileges_find(names, &ids, reason);
    if (r < 0)
        return r;
    pid_t parent = getppid();
    int death_signal = parent_death_signal_now();
    r = set_groups(names->group, &ids);
    if (r == -EPERM && needs_no_change(names->group, &ids))
        r = 0;
    if (r == -EPERM && geteuid() != 0)
        return reason_set(
            reason, r,
            "cannot become user %u and group %u: only root may; start nbdram as that "
            "user, without --group",
            ids.uid, ids.gid);
    if (r < 0)
        return reason_set(reason, r, "cannot become group %u: ", ids.gid);
    if (setresuid(ids.uid, ids.uid, ids.uid) < 0)
        return reason_set(reason, -errno, "cannot become user %u: ", ids.uid);
    if (!is_now(&ids))
        return reason_set(reason, -EPERM, "became user %u, but not for good", ids.uid);
    /* When the user changes, the kernel forgets the signal that it would send when the parent
     * ends, so we request the signal again. */
    if (death_signal != 0 && parent_death_signal(death_signal, parent) == -ESRCH)
        raise(death_signal);
    return 0;
}
