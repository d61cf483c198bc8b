# SPDX-License-Identifier: BSD-3-Clause
"""Requests that have to wait for memory do not hold up other clients of the same thread.

Order is the judge.  A request that waits, and the first read of a witness, are there in one
piece.  If the thread waits itself, the witness has no more than one or two answers when the
request has its own.
"""

import pytest

from harness import KIB, MIB
from observe import Statistics, arrived, asleep, join
from serving import pattern, write_all
from wire import (
    NBD_CMD_FLAG_NO_HOLE,
    NBD_CMD_READ,
    NBD_CMD_TRIM,
    NBD_CMD_WRITE,
    NBD_CMD_WRITE_ZEROES,
    Style,
)

ENOUGH = 20  # answers of the witness
ATTEMPTS = 60  # what is asked for may be there already, or this process may be too slow


def answers_meanwhile(server, busy, witness, requests):
    """How many reads of the witness are answered before the last of these requests is."""
    with asleep(server):
        busy.send(b"".join(request.pack() for request in requests))
        late = witness.send_request(NBD_CMD_READ, 0, 1)
    count = 0
    while True:
        witness.finish(late)
        if arrived(busy) == len(requests) * (32 if busy.style is Style.EXTENDED else 16):
            break
        count += 1
        late = witness.send_request(NBD_CMD_READ, 0, 1)
    for request in requests:
        assert busy.finish(request).error == 0
    return count


def noise(rng, count):
    """It compresses to a half, slowly."""
    return bytes(rng.choices(range(16), k=count))


def writes_at_the_limit(server, client, rng):
    """Writes to a full zstd disk, each of which may have to wait for the compressor."""
    write_all(client, pattern(24 * MIB))
    blocks = [noise(rng, 128 * KIB) for _ in range(8)]
    for number in range(ATTEMPTS):
        at = number * 7 * 128 * KIB % (24 * MIB)
        yield [client.request(NBD_CMD_WRITE, at, payload=blocks[number % 8])]


def writes_after_a_trim(server, client, rng):
    """A write to a full sparse disk, which waits for the memory that the trim before it frees."""
    most = 256 * MIB
    for _ in range(ATTEMPTS):
        client.done(NBD_CMD_WRITE_ZEROES, 0, most, NBD_CMD_FLAG_NO_HOLE)
        at = most
        while client.call(NBD_CMD_WRITE, at, payload=b"x" * 128 * KIB).error == 0:
            at += 128 * KIB
        yield [
            client.request(NBD_CMD_TRIM, 0, most),
            client.request(NBD_CMD_WRITE, at, payload=b"y" * 128 * KIB),
        ]
        client.done(NBD_CMD_TRIM, most, at + 128 * KIB - most)


DISKS = {
    "zstd": (("32M", "allocator=zstd,level=19", "limit=10M"), writes_at_the_limit),
    "sparse": (("512M", "limit=260M"), writes_after_a_trim),
}


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("kind", DISKS)
def test_witness_is_served_meanwhile(nbdram, tmp_path, rng, kind, style):
    words, requests = DISKS[kind]
    statistics = Statistics(tmp_path)
    server = nbdram(*words, flags=("-t", "1", *statistics.flags))
    busy, witness = join(server, style), join(server)
    best = 0
    for batch in requests(server, busy, rng):
        best = max(best, answers_meanwhile(server, busy, witness, batch))
        if best >= ENOUGH:
            break
    else:
        pytest.fail(f"{best} reads are answered meanwhile")
    assert statistics.now(server)["parked"] > 0
