# SPDX-License-Identifier: BSD-3-Clause
"""Random commands from eight threads, right and wrong ones, while a witness verifies its data.

Every client may read the first MiB, which is the witness's.  A request that would change it is
wrong in some way, and must be refused.  Each request comes with the errors that it may get.
"""

import concurrent.futures
import contextlib
import itertools
import random

import pytest

from client import Closed
from harness import ALLOCATORS, KIB, MIB
from ledger import LOOPS, Ledger, scaled
from observe import join
from wire import (
    NBD_CMD_BLOCK_STATUS,
    NBD_CMD_CACHE,
    NBD_CMD_DISC,
    NBD_CMD_FLAG_DF,
    NBD_CMD_FLAG_FAST_ZERO,
    NBD_CMD_FLAG_FUA,
    NBD_CMD_FLAG_NO_HOLE,
    NBD_CMD_FLAG_REQ_ONE,
    NBD_CMD_FLUSH,
    NBD_CMD_READ,
    NBD_CMD_RESIZE,
    NBD_CMD_TRIM,
    NBD_CMD_WRITE,
    NBD_CMD_WRITE_ZEROES,
    NBD_EINVAL,
    NBD_ENOSPC,
    NBD_EOVERFLOW,
    Style,
)

THREADS = 8
COMMANDS = scaled(1_500, 15_000)  # of each thread
SIZE = 8 * MIB
MOST = 64 * MIB  # the limit on the data of one request
SLACK_STORM = 5 * MIB  # also the compressor's buffers, and what it keeps for a moment
SLACK_STORM_AGAIN = MIB
STYLES = tuple(Style)
CHANGES = (NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES)
OUTSIDE = {
    NBD_CMD_READ: NBD_EINVAL,
    NBD_CMD_WRITE: NBD_ENOSPC,
    NBD_CMD_TRIM: NBD_EINVAL,
    NBD_CMD_CACHE: NBD_EINVAL,
    NBD_CMD_WRITE_ZEROES: NBD_ENOSPC,
}
FLAGS = {
    NBD_CMD_READ: NBD_CMD_FLAG_DF,
    NBD_CMD_WRITE: 0,
    NBD_CMD_TRIM: 0,
    NBD_CMD_CACHE: 0,
    NBD_CMD_WRITE_ZEROES: NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    NBD_CMD_BLOCK_STATUS: NBD_CMD_FLAG_REQ_ONE,
}
UNKNOWN_FLAGS = tuple(1 << bit for bit in range(6, 16))


class Rider:
    """The client of one thread.  It connects again whenever it has left or was thrown out."""

    def __init__(self, server, number, seed):
        self._server = server
        self._rng = random.Random(seed)
        self._styles = itertools.islice(itertools.cycle(STYLES), number, None)
        self._come()

    def ride(self):
        left = COMMANDS
        while left > 0:
            batch = [self._any() for _ in range(self._rng.randint(1, 32))]
            self._client.send(b"".join(request.pack() for request, _ in batch))
            for request, errors in batch:
                error = self._client.finish(request).error
                assert error in errors, f"{error} to {request}"
            left -= len(batch)
            if self._rng.random() < 0.05:
                self._leave()
        self._client.disconnect()

    def _come(self):
        self._client = join(self._server, next(self._styles))

    def _leave(self):
        """Leave, or be thrown out for something that cannot be answered."""
        with contextlib.suppress(Closed):
            self._be_rude(self._rng.randrange(4))
        self._client.close()
        self._come()

    def _be_rude(self, how):
        if how == 0:
            self._client.send(b"\0" + self._client.request(NBD_CMD_FLUSH).pack())
            self._client.send(self._rng.randbytes(self._rng.randrange(2000)))
        elif how == 1:
            write = self._client.request(NBD_CMD_WRITE, 0, length=MOST + 1)
            self._client.send(write.pack() + self._rng.randbytes(1000))
        elif how == 2:
            self._client.send_request(NBD_CMD_DISC, 1, length=2)

    def _any(self):
        """(request, the errors that it may get)"""
        kinds = (self._right, self._right, self._outside, self._bad_flags, self._unknown)
        return self._rng.choice((*kinds, self._too_long, self._bad_flush))()

    def _count(self):
        return min(self._rng.choice((1, 511, 4 * KIB, 5000, 32 * KIB, 100_000)), SIZE - MIB)

    def _request(self, command, offset, count, flags):
        if command == NBD_CMD_WRITE:
            data = self._rng.randbytes(count)
            return self._client.request(command, offset, flags=flags, payload=data)
        return self._client.request(command, offset, count, flags)

    def _right(self):
        if self._rng.random() < 0.1:
            return self._client.request(NBD_CMD_FLUSH), {0}
        command = self._rng.choice(tuple(FLAGS))
        if command == NBD_CMD_BLOCK_STATUS and self._client.style is Style.SIMPLE:
            return self._client.request(command, 0, SIZE), {NBD_EINVAL}
        flags = self._rng.choice((0, FLAGS[command])) | self._rng.choice((0, NBD_CMD_FLAG_FUA))
        if self._client.style is Style.SIMPLE:
            flags &= ~NBD_CMD_FLAG_DF
        count = self._count()
        first = MIB if command in CHANGES else 0
        offset = self._rng.randint(first, SIZE - count)
        return self._request(command, offset, count, flags), {0}

    def _outside(self):
        """A range beyond the end of the disk, by one byte, or by so much that it wraps around."""
        command = self._rng.choice(tuple(OUTSIDE))
        count = self._count()
        offset = self._rng.choice((SIZE - count + 1, SIZE, (1 << 64) - count, (1 << 64) - 1))
        return self._request(command, offset, count, 0), {OUTSIDE[command]}

    def _bad_flags(self):
        command = self._rng.choice(tuple(FLAGS))
        flags = self._rng.choice(UNKNOWN_FLAGS)
        offset = self._rng.randrange(MIB - 100_000)
        return self._request(command, offset, self._count(), flags), {NBD_EINVAL}

    def _unknown(self):
        command = self._rng.choice((NBD_CMD_RESIZE, 9, 255, 65535))
        return self._client.request(command, 0, MIB), {NBD_EINVAL}

    def _too_long(self):
        """A read longer than the limit, and than the disk."""
        return self._client.request(NBD_CMD_READ, 0, MOST + 1), {NBD_EINVAL, NBD_EOVERFLOW}

    def _bad_flush(self):
        return self._client.request(NBD_CMD_FLUSH, 0, 512), {NBD_EINVAL}


def storm(server, ledger, rng):
    riders = [Rider(server, number, rng.random()) for number in range(THREADS)]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        parts = [pool.submit(rider.ride) for rider in riders]
        while not all(part.done() for part in parts):
            ledger.check_change(rng)
        for part in parts:
            part.result()


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_storm(nbdram, rng, allocator):
    server = nbdram(str(SIZE), f"allocator={allocator}", flags=LOOPS)
    ledger = Ledger(server, rng)
    storm(server, ledger, rng)
    once = ledger.balance(SLACK_STORM)
    storm(server, ledger, rng)
    ledger.balance(once + SLACK_STORM_AGAIN)
