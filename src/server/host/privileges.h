/* SPDX-License-Identifier: BSD-3-Clause */

/* user - the user and group of -u and -g */

#ifndef NBDRAM_SERVER_HOST_PRIVILEGES_H
#define NBDRAM_SERVER_HOST_PRIVILEGES_H

#include <stddef.h>
#include <sys/types.h>

struct reason; /* text/reason.h */

/* What -u and -g name: names or numbers.  NULL: not given. */
struct user_names {
    const char *user, *group;
};

struct user_ids {
    uid_t uid;
    gid_t gid;
};

/* Names or numbers; NULL is what the process is, but for a user without a group, whose group is
 * that user's own.  Main thread only.  On an error, -errno and one line in why. */
int privileges_find(const struct user_names *names, struct user_ids *ids, struct reason *reason);

/* Become them, supplementary groups included, for good; verified.  What is NULL stays, and
 * nothing happens if both are.  Main thread only.  On an error, -errno and one line in why. */
int privileges_become(const struct user_names *names, struct reason *reason);

/* Nothing that is run from here on gets rights that we have not (sudo's, for one).  Before there
 * are threads, which inherit it; becoming another user is still possible. */
void privileges_forbid_new(void);

#endif
