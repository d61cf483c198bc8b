/* SPDX-License-Identifier: BSD-3-Clause */

/* drive - keep requests in flight on many connections, as cheaply as it goes
 *
 * A driver is one thread's: its connections, its tally, its random numbers.  Drivers share the
 * job, which nobody changes, and the map of what was written.
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
    unsigned in_flight;   /* requests, per connection */
    uint32_t block;
    unsigned read_percent;
    bool is_unbatched;      /* a sendmsg() for each request */
    bool is_sequential;     /* each connection goes round its own share of the range */
    uint64_t offset, range; /* the part of the disk that is used; whole blocks */
    double seconds;         /* 0: until the requests are done */
    uint64_t requests;      /* of all drivers; 0: until the time is over */
    _Atomic uint64_t
        *written; /* a bit per block of the range, or NULL: content does not matter */
    uint64_t seed;
};

struct driver;

/* FDS: COUNT connected sockets past the handshake, kept by the caller, of which the first is
 * number FIRST of the job's.  Ends the program when memory runs out.  Ended by drive_end(). */
struct driver *drive_begin(const struct drive_job *job, const int *fds, unsigned first,
                           unsigned count);

/* Until the job's seconds are over or its requests are done, and everything is answered.  A
 * server that breaks the protocol, or answers nothing for ten seconds, ends the program. */
void drive_run(struct driver *driver);

const struct tally *drive_tally(const struct driver *driver);

void drive_end(struct driver *driver);

#endif
