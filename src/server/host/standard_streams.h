/* SPDX-License-Identifier: BSD-3-Clause */

/* standard_streams - descriptors 0, 1 and 2, as we were started with them
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_STANDARD_STREAMS_H
#define NBDRAM_SERVER_HOST_STANDARD_STREAMS_H

/* Open the null device in the place of each standard stream that is closed.  Otherwise the next
 * file that we open would become that stream. */
void standard_streams_open(void);

#endif
