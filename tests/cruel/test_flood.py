# SPDX-License-Identifier: BSD-3-Clause
"""The largest requests, many of them in flight, and answers that no client reads.

The memory for a connection is bounded, whatever it asks for.
"""

import concurrent.futures
import contextlib

import pytest

from harness import ALLOCATORS, HANG_SECONDS, KIB, MIB, THIN_ALLOCATORS
from ledger import LOOPS, SLACK_AGAIN, Ledger, scaled
from observe import join
from wire import NBD_CMD_BLOCK_STATUS, NBD_CMD_READ, NBD_CMD_WRITE, Style

STYLES = tuple(Style)
LARGEST = 32 * MIB  # a client may use that much without asking for the maximum block size
FLOODERS = scaled(3, 4)
IN_FLIGHT = scaled(2, 6)  # of reads, and of writes
SLACK_FLOOD = 4 * MIB  # the loops' buffers, and what compression works in

SILENT = scaled(60, 300)
SILENT_COST = 384 * KIB  # of each: the requests that it sent, and replies prepared for it


class Flooder:
    """A client that sends all its requests, for one range, whether or not answers come.

    Each client writes a byte of its own, so that reads return a mixture of all of them.
    """

    def __init__(self, server, number):
        self._client = join(server, STYLES[number % 3])
        self._payload = bytes([1 + number]) * LARGEST
        self._requests = []
        for _ in range(IN_FLIGHT):
            write = self._client.request(NBD_CMD_WRITE, MIB, payload=self._payload)
            self._requests += [write, self._client.request(NBD_CMD_READ, MIB, LARGEST)]

    def send(self):
        with self._client.sock.dup() as sock:  # receive() sets another time limit
            sock.settimeout(HANG_SECONDS)
            for request in self._requests:
                sock.sendall(request.pack())

    def receive(self):
        for request in self._requests:
            self._client.finish(request)
            assert request.error == 0
            for _, _, data in request.content:
                assert set(data[:: 509 * 7]) <= set(range(1, FLOODERS + 1)), "never written"
            request.content.clear()
            request.replies.clear()
        self._client.disconnect()


def flood(server):
    """Yields while the flood goes on."""
    flooders = [Flooder(server, number) for number in range(FLOODERS)]
    with concurrent.futures.ThreadPoolExecutor(2 * FLOODERS) as pool:
        parts = [pool.submit(call) for f in flooders for call in (f.send, f.receive)]
        while not all(part.done() for part in parts):
            yield
        for part in parts:
            part.result()


@pytest.mark.parametrize("allocator", scaled(THIN_ALLOCATORS, ALLOCATORS))
def test_largest_requests(nbdram, rng, allocator):
    """They take no memory, and other clients are served meanwhile."""
    server = nbdram(str(MIB + LARGEST), f"allocator={allocator}", flags=LOOPS)
    ledger = Ledger(server, rng)
    with join(server) as client:
        client.write(MIB, bytes([1]) * LARGEST)
        client.disconnect()
    ledger.forget_peak()
    for _ in range(2):
        for _ in flood(server):
            ledger.check_stored()
        ledger.balance(SLACK_FLOOD)
    ledger.check_peak(SLACK_FLOOD)


def ask_for_everything(client, number):
    """Send requests until the socket is full."""
    large = client.request(NBD_CMD_READ, 0, 8 * MIB).pack()
    small = client.request(NBD_CMD_READ, 4097 * number, 3000).pack()
    status = client.request(NBD_CMD_BLOCK_STATUS, 0, 8 * MIB).pack()
    kinds = (large * 10, small * 1000, status * 100 + small * 100, large + small * 100)
    client.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.sock.send(kinds[number % len(kinds)])


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_answers_that_no_client_reads(nbdram, rng, allocator):
    server = nbdram("8M", f"allocator={allocator}", flags=LOOPS)
    ledger = Ledger(server, rng)
    once = SLACK_FLOOD
    for _ in range(2):
        silent = [join(server, STYLES[number % 3]) for number in range(SILENT)]
        for number, client in enumerate(silent):
            ask_for_everything(client, number)
        for _ in range(20):
            ledger.check_stored()
        ledger.check_peak(SILENT * SILENT_COST)
        for client in silent:
            client.close()
        once = ledger.balance(once) + SLACK_AGAIN
