# SPDX-License-Identifier: BSD-3-Clause
"""What tests do with a disk through a libnbd handle."""

import errno
import os

import nbd
import pytest

from harness import KIB, MIB, errno_of


def is_no_memory(number):
    return number in (errno.ENOSPC, errno.ENOMEM)


def block_status(handle, count, offset, flags=0):
    """The [(length, state)] in the reply to one block status request."""
    answer = []

    def extent(context, at, entries, error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION
        assert at == offset
        answer.extend(zip(entries[::2], entries[1::2]))

    handle.block_status(count, offset, extent, flags)
    return answer


def disk_map(handle):
    """The whole disk as [(length, state)], equal neighbours joined."""
    joined = []
    offset, size = 0, handle.get_size()
    while offset < size:
        count = min(size - offset, (1 << 32) - 64 * KIB)
        for length, state in block_status(handle, count, offset):
            assert length > 0
            if joined and joined[-1][1] == state:
                joined[-1] = (joined[-1][0] + length, state)
            else:
                joined.append((length, state))
            offset += length
    assert offset == size
    return joined


def data_bytes(handle):
    """How many bytes of the disk are reported as data."""
    return sum(length for length, state in disk_map(handle) if state == 0)


def in_flight(handle, requests, depth=64):
    """Keep `depth` requests in flight.  Each of `requests` is called with a completion."""
    failures = []

    def completed(error):
        if error.value:
            failures.append(error.value)
        return 1  # libnbd may retire the command

    for request in requests:
        while handle.aio_in_flight() >= depth:
            handle.poll(-1)
        request(completed)
    while handle.aio_in_flight():
        handle.poll(-1)
    assert not failures


def write_each(handle, data, offsets):
    """Write the same bytes at every offset."""
    buffer = nbd.Buffer.from_bytearray(bytearray(data))
    in_flight(
        handle, (lambda done, at=at: handle.aio_pwrite(buffer, at, done) for at in offsets)
    )


def trim_each(handle, count, offsets):
    """Trim `count` bytes at every offset."""
    in_flight(
        handle, (lambda done, at=at: handle.aio_trim(count, at, done) for at in offsets)
    )


def write_until_full(handle, rng, offset, chunk=64 * KIB):
    """Write random chunks, starting at `offset`, until the disk has no space.

    Returns what was acknowledged, as {offset: bytes}.
    """
    stored = {}
    while offset + chunk <= handle.get_size():
        data = rng.randbytes(chunk)
        failure = errno_of(handle.pwrite, data, offset)
        if failure:
            assert failure == errno.ENOSPC, os.strerror(failure)
            return stored
        stored[offset] = data
        offset += chunk
    pytest.fail("the disk never said that it has no space")


def check_stored(handle, stored):
    """Every acknowledged write is still there."""
    for offset, data in stored.items():
        assert handle.pread(len(data), offset) == data, f"at offset {offset}"


def check_random_changes(handle, rng, changes=150, largest=60_000, unit=1):
    """Write, zero and trim at random, and compare with an array of bytes."""
    size = min(handle.get_size(), 2 * MIB) // unit * unit
    model = bytearray(handle.pread(size, 0))
    for _ in range(changes):
        at = rng.randrange(size // unit) * unit
        count = min(rng.randint(1, largest // unit) * unit, size - at)
        change = rng.choice(("write", "write", "zero", "trim", "read"))
        if change == "write":
            model[at : at + count] = rng.randbytes(count)
            handle.pwrite(model[at : at + count], at)
        elif change == "zero" and handle.can_zero():
            model[at : at + count] = bytes(count)
            handle.zero(count, at, rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
        elif change == "trim" and handle.can_trim():
            handle.trim(count, at)
            model[at : at + count] = handle.pread(count, at)  # a trim need not do anything
        else:
            assert handle.pread(count, at) == model[at : at + count]
    assert handle.pread(size, 0) == model


def compressible(rng, count):
    """Data that any compressor makes at least four times smaller, and that is not all zero."""
    return b"".join(rng.randbytes(512) * 8 for _ in range(count // (4 * KIB)))
