/* SPDX-License-Identifier: BSD-3-Clause */

/* privileges - become the user and the group of -u and -g
 *
 * Only the main thread calls these functions.
 */

#ifndef NBDRAM_SERVER_HOST_PRIVILEGES_H
#define NBDRAM_SERVER_HOST_PRIVILEGES_H

#include <sys/types.h>

struct reason; /* text/reason.h */

/* A user and a group, each as a name or a number.  NULL means that none was given. */
struct user_names {
    const char *user, *group;
};

struct user_ids {
    uid_t uid;
    gid_t gid;
};

/* Find the numbers of a user and a group:
 *
 *   user and group given   the numbers of both
 *   only a user given      the user, and the user's own group
 *   only a group given     the user of the process, and the group
 *   neither given          the user and the group of the process
 *
 * Returns 0, or -errno with a reason. */
int privileges_find(const struct user_names *names, struct user_ids *ids, struct reason *reason);

/* Become this user and group permanently, in all threads, and verify that the process cannot
 * change back.  The supplementary groups change, too.  If only a user is given, the user's own
 * group is used.  If only a group is given, the user does not change.
 *
 * A process without root's rights may only become the user and the group that it is already.  It
 * then keeps its supplementary groups if no group is given.
 *
 * Returns 0, or -errno with a reason.  After an error, some of the changes may have been made, so
 * the caller should end the process. */
int privileges_become(const struct user_names *names, struct reason *reason);

/* From this call on, no program that this process runs can gain privileges by being executed, as
 * sudo does.  privileges_become still works.  To be called before other threads start, because
 * those threads inherit the setting. */
void privileges_forbid_new(void);

#endif
