/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/rival.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support/loan.h"
#include "support/support.h"

static void *rival_main(void *opaque)
{
    struct rival *rival = opaque;
    struct disk *disk = rival->disk;
    uint8_t *buf = malloc(rival->count);
    struct prng prng;
    if (buf == NULL)
        return NULL;
    prng_init(&prng, test_seed(), 13);
    memset(buf, rival->byte, rival->count);
    switch (rival->deed) {
    case WRITE:
        rival->err = disk_write(disk, rival->offset, rival->count, buf);
        break;
    case ZERO:
    case ZERO_NO_HOLE:
        rival->err =
            disk_zero(disk, rival->offset, rival->count, rival->deed == ZERO ? 0 : DISK_NO_HOLE);
        break;
    case TRIM:
        rival->err = disk_trim(disk, rival->offset, rival->count);
        break;
    default:
        rival->err = loan_write(disk, rival->offset, rival->count, buf, &prng);
    }
    free(buf);
    return NULL;
}

void rival_run(void *opaque)
{
    struct rival *rival = opaque;
    pthread_t thread;
    if (pthread_create(&thread, NULL, rival_main, rival) == 0)
        pthread_join(thread, NULL);
}
