# SPDX-License-Identifier: BSD-3-Clause
"""Many clients at once on neighbouring ranges: each one reads what it wrote."""

import concurrent.futures
import random

import pytest

from harness import ALLOCATORS, HANG_SECONDS, KIB
from observe import join
from serving import PAGE, STYLES, pattern
from wire import NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES

SLICE = 512 * KIB
WORKERS = 8


def random_step(clients, rng, base, shadow):
    """One operation on a worker's own range, through any of its connections."""
    at = rng.randrange(SLICE)
    count = min(rng.choice((1, 511, PAGE, 5000, 32 * KIB, 100_000)), SLICE - at)
    client = rng.choice(clients)
    what = rng.randrange(6)
    if what < 2:
        data = rng.randbytes(count) if what else pattern(count)
        client.write(base + at, data)
        shadow[at : at + count] = data
    elif what == 2:
        client.done(rng.choice((NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES)), base + at, count)
        shadow[at : at + count] = bytes(count)
    else:
        assert client.read(base + at, count) == shadow[at : at + count]


def worker(server, number, seed):
    rng = random.Random(seed)
    base, shadow = number * SLICE + 77, bytearray(SLICE)  # neighbours share a page
    clients = [join(server, style) for style in STYLES]
    for _ in range(400):
        random_step(clients, rng, base, shadow)
    for client in clients:
        assert client.read(base, SLICE) == shadow
        client.disconnect()


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_each_client_reads_what_it_wrote(nbdram, rng, allocator):
    """Neighbours share pages, each worker has several connections, and none disturbs another."""
    server = nbdram("8M", f"allocator={allocator}", flags=("-t", "2"))
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        work = [pool.submit(worker, server, i, rng.random()) for i in range(WORKERS)]
        for part in work:
            part.result(HANG_SECONDS)
