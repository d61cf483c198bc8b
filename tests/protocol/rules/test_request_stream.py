# SPDX-License-Identifier: BSD-3-Clause
"""Cookies come back, and it does not matter how the stream of requests is cut into packets.

Specification: "Ordering of messages and writes", "Request message" and "Simple reply message".
"""

import concurrent.futures

from harness import KIB
from rules import (
    ALLOCATOR_SETUPS,
    OFFSET_MAX,
    SIZE,
    allowed_errors,
    check_outcome,
    in_every_style,
    on_servers,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style


@in_every_style
def test_cookies_come_back(bench, style):
    client = bench.connect(style)
    cookies = [0, OFFSET_MAX, 0x00FF00FF00FF00FF, NBD_REQUEST_MAGIC << 32]
    cookies += [1 << bit for bit in range(64)] + [OFFSET_MAX ^ 1 << bit for bit in range(64)]
    for command, length, wanted in (
        (NBD_CMD_READ, 64, 0),
        (NBD_CMD_READ, 2 * SIZE, NBD_EINVAL),
        (NBD_CMD_TRIM, 512, 0),
        (99, 0, NBD_EINVAL),
        (NBD_CMD_BLOCK_STATUS, 512, NBD_EINVAL if style is Style.SIMPLE else 0),
    ):
        requests = [client.request(command, 0, length, cookie=cookie) for cookie in cookies]
        client.send(b"".join(request.pack() for request in requests))
        for request in requests:
            error = client.finish(request).error
            assert error == wanted or (length > SIZE and error == NBD_EOVERFLOW)


@in_every_style
def test_one_cookie_for_all_requests_is_served(bench, style):
    """Cookies SHOULD be distinct; the server does not care."""
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_TRIM, 0, 512, cookie=7) for _ in range(50)]
    client.send(b"".join(request.pack() for request in requests))
    for request in requests:
        assert client.finish(request).error == 0


@in_every_style
def test_requests_may_be_split_at_every_byte(bench, style):
    client = bench.connect(style)
    for number in range(1, 48):
        data = bench.rng.randbytes(9)
        write = client.request(NBD_CMD_WRITE, number, payload=data)
        read = client.request(NBD_CMD_READ, SIZE // 2, 3)
        whole = write.pack() + read.pack()
        client.send(whole[:number])
        bench.witness.step()
        client.send(whole[number:])
        assert client.finish(write).error == client.finish(read).error == 0
        assert client.read(number, len(data)) == data


@in_every_style
def test_requests_may_come_one_byte_at_a_time(bench, style):
    client = bench.connect(style)
    write = client.request(NBD_CMD_WRITE, 100, payload=b"byte by byte")
    read = client.request(NBD_CMD_READ, SIZE // 2, 3)
    for byte in write.pack() + read.pack():
        client.send(bytes([byte]))
    assert client.finish(write).error == client.finish(read).error == 0
    assert client.read(99, 14) == b"\0byte by byte\0"


@in_every_style
def test_hundreds_of_requests_may_come_in_one_send(bench, style):
    client = bench.connect(style)
    blocks = [bench.rng.randbytes(100) for _ in range(300)]
    writes = [
        client.request(NBD_CMD_WRITE, at * 100, payload=data) for at, data in enumerate(blocks)
    ]
    client.send(b"".join(request.pack() for request in writes))
    for request in writes:
        assert client.finish(request).error == 0
    reads = [client.request(NBD_CMD_READ, at * 100, 100) for at in range(300)]
    client.send(b"".join(request.pack() for request in reads))
    for request, data in zip(reads, blocks):
        assert client.finish(request).data == data


@in_every_style
def test_a_payload_that_looks_like_requests_is_data(bench, style):
    client = bench.connect(style)
    inner = client.request(NBD_CMD_WRITE_ZEROES, 0, 64 * KIB).pack() * 100
    client.write(4 * KIB, inner)
    assert client.read(4 * KIB, len(inner)) == inner
    # The same in a payload that is refused.
    refused = client.call(NBD_CMD_WRITE, SIZE, payload=inner)
    assert refused.error == NBD_ENOSPC
    assert client.read(4 * KIB, len(inner)) == inner


SLOT = 256 * KIB
SLOTS = 64


def random_request(client, rng, slot):
    """A request within a slot, or one that is refused, with a payload or without."""
    length = rng.choice((1, 100, 511, 4 * KIB, 4097, 16 * KIB - 1, 16 * KIB, 70000, SLOT))
    at = slot * SLOT + rng.randint(0, SLOT - length)
    command = rng.choice((NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_WRITE, *range(10)))
    if command == NBD_CMD_DISC:
        command = NBD_CMD_WRITE
        at = SIZE - length + 1  # beyond the end
    payload = rng.randbytes(length) if command == NBD_CMD_WRITE else b""
    flags = rng.choice((0, 0, 0, NBD_CMD_FLAG_FUA, NBD_CMD_FLAG_DF, 1 << 9))
    if command == NBD_CMD_TRIM:
        command = NBD_CMD_WRITE_ZEROES  # the same, except that it has to leave zeroes
    return client.request(command, at, length, flags, payload)


def check_traffic(request, shadow):
    """Compare a reply with the shadow of the disk, and keep the shadow up to date."""
    start, end = request.offset, request.offset + request.length
    wanted = allowed_errors(request.style, request.command, request.flags)
    if end > SIZE:
        # Of two faults, either may be reported.
        wanted = (NBD_ENOSPC, *(wanted if wanted == (NBD_EINVAL,) else ()))
    elif request.command == NBD_CMD_FLUSH:
        wanted = (NBD_EINVAL,)  # it has a length
    elif request.flags & NBD_CMD_FLAG_DF and request.length > 64 * KIB:
        wanted += (NBD_EOVERFLOW,)
    check_outcome(request.error, wanted)
    if request.error:
        return
    if request.command == NBD_CMD_READ:
        assert request.data == shadow[start:end]
    elif request.command == NBD_CMD_WRITE:
        shadow[start:end] = request.payload
    elif request.command == NBD_CMD_WRITE_ZEROES:
        shadow[start:end] = bytes(request.length)


@in_every_style
@on_servers(ALLOCATOR_SETUPS)
def test_mixed_traffic_may_be_cut_anywhere(bench, style):
    """Many requests of all kinds at once.  Each slot has one request at a time."""
    client = bench.connect(style)
    rng = bench.rng
    shadow = bytearray(SLOT * SLOTS)
    for _ in range(4):
        slots = rng.sample(range(SLOTS), SLOTS)
        requests = [random_request(client, rng, slot) for slot in slots]
        stream = memoryview(b"".join(request.pack() for request in requests))

        def send_all(stream=stream):
            at = 0
            while at < len(stream):
                count = rng.choice((1, 7, 28, 31, 100, 5000, 16 * KIB, 100000, 1 << 20))
                client.send(stream[at : at + count])
                at += count

        with concurrent.futures.ThreadPoolExecutor(1) as sender:
            sent = sender.submit(send_all)
            for request in requests:
                client.finish(request)
            sent.result()
        bench.witness.step()
        for request in requests:
            check_traffic(request, shadow)
    assert client.read(0, len(shadow)) == shadow
