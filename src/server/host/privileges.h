/* SPDX-License-Identifier: BSD-3-Clause */

/* privileges - become the user and the group of -u and -g
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_PRIVILEGES_H
#define NBDRAM_SERVER_HOST_PRIVILEGES_H

#include <sys/types.h>

struct reason; /* text/reason.h */

/* A user and a group, each as a name or a number.  NULL: not given. */
struct user_names {
    const char *user, *group;
};

struct user_ids {
    uid_t uid;
    gid_t gid;
};

/* Find the numbers of names.  If only a user is given, the group is that user's own group.  If no
 * user is given, the user is that of the process; if neither is given, so is the group.  Returns
 * 0, or -errno with a reason. */
int privileges_find(const struct user_names *names, struct user_ids *ids, struct reason *reason);

/* Become this user and group for good, in all threads, with the supplementary groups that belong
 * to them, and verify that the process cannot go back.  A user or group that is not given does
 * not change, except that a user alone brings its own group.  Returns 0, or -errno with a reason.
 * After an error the process may have changed in part, and should end. */
int privileges_become(const struct user_names *names, struct reason *reason);

/* From here on, no program that this process runs can gain privileges, the way sudo does.  To be
 * called before other threads start, because they inherit the setting.  privileges_become still
 * works. */
void privileges_forbid_new(void);

#endif
