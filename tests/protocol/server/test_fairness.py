# SPDX-License-Identifier: BSD-3-Clause
"""No client, and no SIGTERM, waits for all that another client has asked for.

Order is the judge: what comes first is seen in what has arrived, and by no clock.
"""

import concurrent.futures
import contextlib
import select
import socket
import threading

import pytest

from client import Closed
from harness import HANG_SECONDS, KIB, MIB, until
from observe import arrived, asleep, join, thread_ticks
from serving import pattern, write_all
from wire import (
    NBD_CMD_BLOCK_STATUS,
    NBD_CMD_FLAG_NO_HOLE,
    NBD_CMD_READ,
    NBD_CMD_TRIM,
    NBD_CMD_WRITE,
    NBD_CMD_WRITE_ZEROES,
    Broken,
    Style,
)


def carried_out(client, requests):
    """How many of these requests are answered with success before the connection ends."""
    count = 0
    with contextlib.suppress(Closed, Broken):
        for request in requests:
            count += client.finish(request).error == 0
    return count


def check_others_come_first(server, busy, other, requests):
    """Many requests, and then one of another client and the end, which come before the last."""
    with asleep(server):
        busy.send(b"".join(request.pack() for request in requests))
        late = other.send_request(NBD_CMD_READ, 0, 1)
    other.finish(late)
    assert arrived(busy) < 16 * len(requests), "all of them came first"
    server.terminate()
    assert server.process.wait(HANG_SECONDS) == 0
    done = carried_out(busy, requests)
    assert done < len(requests) // 2, "the end waits for them"


COSTLY = {"large": (256 * MIB, 2000), "smaller": (16 * MIB - 1, 5000)}


@pytest.mark.parametrize("kind", COSTLY)
def test_costly_requests_in_a_row(nbdram, kind):
    length, count = COSTLY[kind]
    server = nbdram("256M", "allocator=malloc", flags=("-t", "1"))
    busy, other = join(server), join(server)
    zeroes = [busy.request(NBD_CMD_WRITE_ZEROES, 0, length) for _ in range(count)]
    check_others_come_first(server, busy, other, zeroes)


def statuses(nbdram):
    """Short requests that look at all of a disk on which every page is there."""
    size = 512 * MIB
    server = nbdram(str(size), flags=("-t", "1"))
    busy = join(server, Style.STRUCTURED)
    busy.done(NBD_CMD_WRITE_ZEROES, 0, size, NBD_CMD_FLAG_NO_HOLE)
    return server, busy, [busy.request(NBD_CMD_BLOCK_STATUS, 0, size) for _ in range(5000)]


def cold_writes(nbdram):
    """Short requests, each of which decompresses a page and then has to make room."""
    server = nbdram("64M", "allocator=zstd", "limit=8M", flags=("-t", "1"))
    busy = join(server)
    write_all(busy, pattern(24 * MIB))
    spots = [i * 100 * KIB % (24 * MIB) for i in range(2000)]
    return server, busy, [busy.request(NBD_CMD_WRITE, at, payload=b"x" * 16) for at in spots]


@pytest.mark.parametrize("make", (statuses, cold_writes))
def test_short_requests_that_take_long(nbdram, make):
    """The length of a request does not show its cost."""
    server, busy, requests = make(nbdram)
    check_others_come_first(server, busy, join(server), requests)


HUGE = 1536 * MIB
ATTEMPTS = 5  # an answer may come first by chance, or this process may be too slow to see it


def start_huge_request(server, busy, other):
    """A huge request and one of another client: they are there in one piece."""
    with asleep(server):
        huge = busy.send_request(NBD_CMD_WRITE_ZEROES, 0, HUGE, NBD_CMD_FLAG_NO_HOLE)
        late = other.send_request(NBD_CMD_READ, 0, 1)
    return huge, late


def answers_meanwhile(server, busy, other):
    """How many requests of another client are answered before a huge request is."""
    huge, late = start_huge_request(server, busy, other)
    count = 0
    while True:
        other.finish(late)
        if select.select([busy.sock], [], [], 0)[0]:
            break
        count += 1
        late = other.send_request(NBD_CMD_READ, 0, 1)
    busy.finish(huge)
    assert huge.error == 0
    return count


def test_huge_request_lets_others_come_first(nbdram):
    """A single request that takes long does not hold up other clients of the same thread."""
    server = nbdram(str(HUGE), flags=("-t", "1"))
    busy, other = join(server), join(server)
    for _ in range(ATTEMPTS):
        if answers_meanwhile(server, busy, other) >= 3:
            return
        busy.done(NBD_CMD_TRIM, 0, HUGE)
    pytest.fail("others wait")


def test_huge_request_lets_the_end_come_first(nbdram):
    """The server takes leave of other clients before it has carried out the request."""
    for _ in range(ATTEMPTS):
        server = nbdram(str(HUGE), flags=("-t", "1"))
        busy, other = join(server), join(server)
        _, late = start_huge_request(server, busy, other)
        other.finish(late)
        server.terminate()
        other.expect_closed()
        came_first = not select.select([busy.sock], [], [], 0)[0]
        assert server.process.wait(HANG_SECONDS) == 0
        if came_first:
            return
    pytest.fail("the end waits")


def test_every_thread_has_clients(nbdram):
    """Eight busy clients keep four threads busy."""
    server = nbdram("64M", "allocator=malloc", flags=("-t", "4"))
    clients = [join(server) for _ in range(8)]
    before = thread_ticks(server)

    def four_were_busy():
        last = [client.send_request(NBD_CMD_WRITE_ZEROES, 0, 64 * MIB) for client in clients]
        for client, request in zip(clients, last):
            assert client.finish(request).error == 0
        now = thread_ticks(server)
        return sum(now[thread] > before.get(thread, 0) for thread in now) >= 4

    until(four_were_busy)


def flood_of(kind, client):
    """A request that is sent again and again."""
    if kind == "large-reads":
        return client.request(NBD_CMD_READ, 0, 4 * MIB)
    if kind == "small-reads":
        return client.request(NBD_CMD_READ, 0, 1)
    if kind == "large-writes":
        return client.request(NBD_CMD_WRITE, 0, payload=bytes(4 * MIB))
    return client.request(NBD_CMD_TRIM, 0, 8 * MIB)


@pytest.mark.parametrize("kind", ("large-reads", "small-reads", "large-writes", "trims"))
def test_flood_does_not_starve(nbdram, kind):
    """On one thread, another client's requests are answered while the flood goes on."""
    server = nbdram("16M", flags=("-t", "1"))
    flooder, other = join(server), join(server)
    request = flood_of(kind, flooder).pack()
    flood = request * max(1, 256 * KIB // len(request))
    over = threading.Event()
    received = []

    def send():
        with contextlib.suppress(Closed):
            while not over.is_set():
                flooder.send(flood)

    def receive():
        sink = bytearray(MIB)
        with contextlib.suppress(OSError):
            while n := flooder.sock.recv_into(sink):
                received.append(n)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = [pool.submit(send), pool.submit(receive)]
        try:
            until(lambda: received)
            before = len(received)
            for number in range(100):
                other.write(8 * MIB + number, bytes([number]))
                assert other.read(8 * MIB + number, 1) == bytes([number])
            until(lambda: len(received) > before)
        finally:
            over.set()
            flooder.sock.shutdown(socket.SHUT_RDWR)
        for part in parts:
            part.result(HANG_SECONDS)
