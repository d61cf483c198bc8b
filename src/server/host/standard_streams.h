/* SPDX-License-Identifier: BSD-3-Clause */

/* standard_streams - make sure that descriptors 0, 1 and 2 are open
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_STANDARD_STREAMS_H
#define NBDRAM_SERVER_HOST_STANDARD_STREAMS_H

/* If we were started with a standard stream closed, open the null device in its place.  Otherwise
 * the next file that we open would become that stream. */
void standard_streams_open(void);

#endif
