/* SPDX-License-Identifier: BSD-3-Clause */

/* standard_streams - make sure that descriptors 0, 1 and 2 are open
 *
 * Only the main thread calls this function.
 */

#ifndef NBDRAM_SERVER_HOST_STANDARD_STREAMS_H
#define NBDRAM_SERVER_HOST_STANDARD_STREAMS_H

/* If a standard stream was closed when we were started, open the null device in its place.
 * Without this, the next file that we open would become that stream. */
void standard_streams_open(void);

#endif
