# SPDX-License-Identifier: BSD-3-Clause
"""A full disk, again and again: "no space" is an answer, and what was acknowledged stays.

Each of several clients has a plot of the disk.  The first part of a plot, its home, keeps its
data through all rounds, and is read and written while other clients fill the disk.  The field
after it is filled until there is no space, checked, and trimmed.  Plots do not begin at page
boundaries, so neighbours share a page.
"""

import concurrent.futures
import random
import threading

import pytest

from harness import HANG_SECONDS, KIB, MIB, THIN_ALLOCATORS, until
from ledger import LOOPS, scaled
from observe import join, peak, resident, resident_is_meaningful
from wire import NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_ENOSPC, Style

ROUNDS = 100
LIMIT = scaled(3 * MIB, 8 * MIB)
ARRAY = MIB  # the size of a malloc disk, and its limit
BLOCK = 4 * KIB  # a refused write leaves each block as it was or as it was to become
CLIENTS = 4
HOME = 128 * KIB
FIELD = 4 * LIMIT  # as much as fits if it is compressed
PLOT = HOME + FIELD + BLOCK
REFUSALS = 2  # after so many a client stops writing
IN_FLIGHT = 4
SLACK_FULL = 4 * MIB  # beyond the limit: buffers of loops, and the common contexts of zstd


class Plot:
    """A client, its part of the disk, and what that must hold."""

    def __init__(self, server, number, rng):
        self.client = join(server, tuple(Style)[number % 3])
        self.rng = rng
        self.content = bytearray(HOME + FIELD)
        self._base = number * PLOT + BLOCK
        self._over = 0  # from this offset on the field is empty

    def write_home(self):
        self._write_all([(0, self._data(HOME, noise=True))])

    def fill(self, noise):
        """Write the field from its start until writes are refused.  The bytes acknowledged."""
        refused, taken = 0, 0
        while refused < REFUSALS:
            writes = []
            for _ in range(IN_FLIGHT):
                count = self.rng.choice((BLOCK, 5 * BLOCK, 64 * KIB, 65 * KIB, 256 * KIB))
                assert self._over + count <= FIELD, "the disk never says that it has no space"
                writes.append((HOME + self._over, self._data(count, noise)))
                self._over += -(-count // BLOCK) * BLOCK  # no two of them in one block
            done = self._write_all(writes)
            refused += len(done) - sum(done)
            taken += sum(len(data) for (_, data), is_done in zip(writes, done) if is_done)
        return taken

    def overwrite(self):
        """Replace parts of the field by noise.  The bytes acknowledged."""
        refused, taken = 0, 0
        while refused < REFUSALS and taken < FIELD:
            at = self.rng.randrange(max(self._over // BLOCK - 16, 1)) * BLOCK
            count = self.rng.choice((512, BLOCK, 7 * BLOCK, 64 * KIB))
            (is_done,) = self._write_all([(HOME + at, self._data(count, noise=True))])
            refused += not is_done
            taken += count * is_done
        return taken

    def dwell(self, over):
        """Use the home until `over` is set."""
        while True:
            at = self.rng.randrange(HOME // 512) * 512
            count = min(self.rng.choice((512, BLOCK, 20_480, HOME)), HOME - at)
            if self.rng.random() < 0.5:
                self._write_all([(at, self._data(count, self.rng.random() < 0.5))])
            self.check(at, count)
            if over.is_set():
                return 0

    def check(self, at=0, count=None):
        count = HOME + self._over if count is None else count
        for start in range(at, at + count, MIB):
            end = min(start + MIB, at + count)
            found = self.client.read(self._base + start, end - start)
            assert found == memoryview(self.content)[start:end], f"lost: near {start}"

    def trim(self, piecewise):
        """Trim the field, as a whole or piece by piece in any order."""
        step = 32 * KIB if piecewise else max(self._over, 1)
        spots = list(range(HOME, HOME + self._over, step))
        self.rng.shuffle(spots)
        trims = [self._request(NBD_CMD_TRIM, at, length=step) for at in spots]
        self.client.send(b"".join(trim.pack() for trim in trims))
        for trim in trims:
            assert self.client.finish(trim).error == 0
        # Part of a compressed page may not have been trimmed, for lack of memory.
        assert self._zero(HOME, self._over) == 0
        self.content[HOME : HOME + self._over] = bytes(self._over)
        self._over = 0

    def _zero(self, at, count):
        """The error, or 0."""
        request = self._request(NBD_CMD_WRITE_ZEROES, at, length=count)
        self.client.send(request.pack())
        error = self.client.finish(request).error
        assert error in (0, NBD_ENOSPC)
        return error

    def _data(self, count, noise):
        if noise:
            return self.rng.randbytes(count)
        units = range(-(-count // BLOCK))
        return b"".join(self.rng.randbytes(BLOCK // 2) * 2 for _ in units)[:count]

    def _request(self, command, at, **more):
        return self.client.request(command, self._base + at, **more)

    def _write_all(self, writes):
        """Send several writes at once, and return for each whether it was done."""
        requests = [self._request(NBD_CMD_WRITE, at, payload=data) for at, data in writes]
        self.client.send(b"".join(request.pack() for request in requests))
        for request in requests:
            assert self.client.finish(request).error in (0, NBD_ENOSPC)
        for request, (at, data) in zip(requests, writes):
            if request.error:
                self._check_refused(at, data)
            else:
                self.content[at : at + len(data)] = data
        return [request.error == 0 for request in requests]

    def _check_refused(self, at, data):
        """Check that each block is as it was or as it was to become, and remember which."""
        front = at % BLOCK
        first, count = at - front, -(-(front + len(data)) // BLOCK) * BLOCK
        old = bytes(self.content[first : first + count])
        new = old[:front] + data + old[front + len(data) :]
        found = self.client.read(self._base + first, len(old))
        for start in range(0, len(old), BLOCK):
            block = slice(start, start + BLOCK)
            assert found[block] in (old[block], new[block]), f"half written: near {first + start}"
        self.content[first : first + len(old)] = found


def all_at_once(pool, calls):
    return [part.result(HANG_SECONDS) for part in [pool.submit(*call) for call in calls]]


def fill_up(pool, fillers, dwellers, noise):
    """Some clients fill the disk while others use their homes.  The bytes acknowledged."""
    over = threading.Event()
    lives = [pool.submit(plot.dwell, over) for plot in dwellers]
    try:
        taken = all_at_once(pool, [(plot.fill, noise) for plot in fillers])
        if not noise:
            all_at_once(pool, [(plot.overwrite,) for plot in fillers])
    finally:
        over.set()
    for life in lives:
        life.result(HANG_SECONDS)
    return sum(taken)


def one_round(pool, number, plots, noise):
    """The disk is filled, checked, and trimmed.  The bytes acknowledged."""
    turn = number % CLIENTS
    plots = plots[turn:] + plots[:turn]
    fillers, dwellers = plots[: CLIENTS // 2], plots[CLIENTS // 2 :]
    taken = fill_up(pool, fillers, dwellers, noise)
    all_at_once(pool, [(plot.check,) for plot in plots])
    all_at_once(pool, [(plot.trim, number % 2) for plot in fillers])
    return taken


@pytest.mark.parametrize("allocator", THIN_ALLOCATORS)
def test_full_again_and_again(nbdram, rng, allocator):
    """Each round stores as much as the first, and the server stays within its limit."""
    size = CLIENTS * PLOT + BLOCK
    server = nbdram(str(size), f"limit={LIMIT}", f"allocator={allocator}", flags=LOOPS)
    before = resident(server)
    plots = [Plot(server, number, random.Random(rng.random())) for number in range(CLIENTS)]
    for plot in plots:
        plot.write_home()
    first = {}
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        for number in range(ROUNDS):
            noise = allocator == "sparse" or number % 3 == 0
            taken = one_round(pool, number, plots, noise)
            assert taken >= first.setdefault(noise, taken) / 2, "room was lost"
    if resident_is_meaningful(server):
        assert peak(server) <= before + LIMIT + SLACK_FULL
        until(lambda: resident(server) <= peak(server) - LIMIT // 3)


def test_array_is_full_from_the_start(nbdram, rng):
    """malloc has all its memory, so only writes beyond the end are refused."""
    server = nbdram(str(ARRAY), f"limit={ARRAY}", "allocator=malloc", flags=LOOPS)
    before = resident(server)
    clients = [join(server, style) for style in Style]
    share = ARRAY // len(clients) // BLOCK * BLOCK
    for _ in range(ROUNDS):
        data = [rng.randbytes(share) for _ in clients]
        writes = []
        for number, client in enumerate(clients):
            for at, payload in ((number * share, data[number]), (ARRAY - 512, bytes(BLOCK))):
                writes.append(client.send_request(NBD_CMD_WRITE, at, payload=payload))
        for client, write, beyond in zip(clients, writes[::2], writes[1::2]):
            assert client.finish(write).error == 0
            assert client.finish(beyond).error == NBD_ENOSPC
        for number, client in enumerate(clients[1:] + clients[:1]):
            assert client.read(number * share, share) == data[number]
            client.done(NBD_CMD_TRIM, number * share, share)
    if resident_is_meaningful(server):
        assert peak(server) <= before + ARRAY + SLACK_FULL
