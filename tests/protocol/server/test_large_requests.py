# SPDX-License-Identifier: BSD-3-Clause
"""Requests that are carried out piece by piece: large writes, and long zeroing."""

import pytest

from harness import MIB, all_allocators, until
from observe import await_clients, descriptors, join
from serving import STYLES, pattern
from wire import NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES

WRITES = {"aligned": 0, "unaligned": 12345}


def send_in_pieces(client, rng, data):
    """Send in pieces that have nothing to do with pages."""
    view = memoryview(data)
    while view:
        n = rng.choice((1, 27, 28, 4095, 4097, 65535, 524289, 3000001))
        client.send(view[:n])
        view = view[n:]


@pytest.mark.parametrize("place", WRITES)
@all_allocators
def test_large_writes_in_pieces(nbdram, rng, allocator, place):
    server = nbdram("48M", f"allocator={allocator}")
    offset = MIB + WRITES[place]
    for size, style in zip((MIB, 4 * MIB, 32 * MIB), STYLES):
        client = join(server, style)
        data = rng.randbytes(size // 2) + pattern(size // 2)
        write = client.request(NBD_CMD_WRITE, offset, payload=data)
        read = client.request(NBD_CMD_READ, offset - 1, size + 2)
        send_in_pieces(client, rng, write.pack() + read.pack())
        assert client.finish(write).error == 0
        edge = client.read(offset + size, 1)
        assert client.finish(read).data == b"\0" + data + edge
    assert not any(client.read(0, offset)), "below what was written"


@all_allocators
def test_gone_within_a_large_write(nbdram, rng, allocator):
    """What did not arrive is as it was, and other clients can write to the range."""
    server = nbdram("16M", f"allocator={allocator}")
    size = 3 * MIB
    survivor = join(server)
    await_clients(server, 1)
    count = descriptors(server)
    for offset in (0, 4 * MIB, 8 * MIB + 12345):
        old, new = (rng.randbytes(size) if offset else bytes(size)), rng.randbytes(size)
        if offset:
            survivor.write(offset, old)
        for cut in (1, 40000, MIB + 4097, size - 1):
            victim = join(server, rng.choice(STYLES))
            request = victim.request(NBD_CMD_WRITE, offset, payload=new).pack()
            victim.send(request[: len(request) - size + cut])
            victim.close()
            until(lambda: descriptors(server) == count)
            found = survivor.read(offset, size)
            assert found[cut:] == old[cut:]
            if found[:cut] != new[:cut]:
                assert all(f in (o, n) for f, o, n in zip(found[:cut], old, new))
        survivor.write(offset, new)
        assert survivor.read(offset, size) == new


@all_allocators
def test_long_zeroes_at_odd_places(nbdram, rng, allocator):
    """Done slice by slice, they cover what they should and nothing else."""
    size = 48 * MIB
    client = join(nbdram(f"{size}", f"allocator={allocator}"))
    expected = bytearray(size)
    for _ in range(25):
        at = rng.randrange(size - 2 * MIB)
        data = rng.randbytes(MIB)
        client.write(at, data)
        expected[at : at + MIB] = data
        at = rng.randrange(size)
        length = rng.randint(1, size - at)
        command = rng.choice((NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES))
        client.done(command, at, length)
        expected[at : at + length] = bytes(length)
    for at in range(0, size, 16 * MIB):
        assert client.read(at, 16 * MIB) == expected[at : at + 16 * MIB]
