/* SPDX-License-Identifier: BSD-3-Clause */

/* drive - keep requests in flight on many connections, at little cost
 *
 * A driver belongs to one thread, with its connections, its tally and its random numbers.
 * Drivers share the job, which does not change, and the map of what was written.
 */

#ifndef NBDRAM_BENCH_DRIVE_H
#define NBDRAM_BENCH_DRIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client.h"
#include "tally.h"

struct drive_job {
    enum client_style style;
    unsigned connections; /* of all drivers */
    unsigned in_flight;   /* requests, on each connection */
    uint32_t block;
    unsigned read_percent;
    bool is_unbatched;      /* each request gets a sendmsg() of its own */
    bool is_sequential;     /* each connection goes through its own share, again and again */
    uint64_t offset, range; /* the part of the disk that is used, in bytes; whole blocks */
    double seconds;         /* 0: no limit but requests */
    uint64_t requests;      /* of all drivers; 0: no limit but seconds */
    _Atomic uint64_t
        *written; /* a bit for each block of the range; NULL: content does not matter */
    uint64_t seed;
};

struct driver;

/* FDS are COUNT connected sockets after the handshake, which stay the caller's; the first of them
 * is number FIRST among those of the job.  Ends the program if memory runs out.  drive_end()
 * frees the driver. */
struct driver *drive_begin(const struct drive_job *job, const int *fds, unsigned first,
                           unsigned count);

/* Send requests until the job's seconds are over or its requests are done, and wait for all
 * replies.  Ends the program if the server breaks the protocol, or answers nothing for ten
 * seconds. */
void drive_run(struct driver *driver);

const struct tally *drive_tally(const struct driver *driver);

void drive_end(struct driver *driver);

#endif
