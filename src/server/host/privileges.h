/* SPDX-License-Identifier: BSD-3-Clause */

/* privileges - become the user and the group of -u and -g
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_PRIVILEGES_H
#define NBDRAM_SERVER_HOST_PRIVILEGES_H

#include <sys/types.h>

struct reason; /* text/reason.h */

/* Names or numbers.  NULL: not given. */
struct user_names {
    const char *user, *group;
};

struct user_ids {
    uid_t uid;
    gid_t gid;
};

/* Find the numbers of names.  A user without a group stands for the user's own group; otherwise,
 * what is not given is what the process has now.  Returns 0, or -errno with a reason. */
int privileges_find(const struct user_names *names, struct user_ids *ids, struct reason *reason);

/* Become this user and group for good, in all threads, with the supplementary groups that go with
 * them; and verify that there is no way back.  What is not given stays; nothing happens if
 * neither is.  Returns 0, or -errno with a reason; then the process may have changed in part, and
 * should end. */
int privileges_become(const struct user_names *names, struct reason *reason);

/* From here on, no program that this process runs gains privileges, as sudo would.  To be called
 * before there are threads, which inherit it.  privileges_become still works. */
void privileges_forbid_new(void);

#endif
