# SPDX-License-Identifier: BSD-3-Clause
"""Limits on address space (ulimit -v): if a server works with one, it works with higher ones.

A disk that reserved all the address space that there is would leave none for threads.  One that
halved what it asks for until it fits would work with some limits and not with higher ones.
"""

import nbd
import pytest

import harness
from harness import GIB, KIB, MIB, DidNotStart, Nbdram, Server, all_allocators
from observe import resident_is_meaningful

SIZE = 64 * MIB
LIMITS = [int(48 * MIB * 1.25**n) for n in range(21)]  # up to 4 GiB

# nbdkit 1.32 itself has 192 MiB of zeroes, and 16 threads for a connection, each with a stack of
# 8 MiB.  With less than 400 MiB its own memory plugin does not always work either.
NBDKIT_LIMITS = [limit for limit in LIMITS if limit > 400 * MIB]


@pytest.fixture(autouse=True)
def _without_sanitizer(nbdram):
    """Sanitizers reserve terabytes."""
    if harness.PRELOAD or not resident_is_meaningful(nbdram("1M")):
        pytest.skip("a sanitizer needs more address space")


def within(limit):
    return "prlimit", f"--as={limit}"


def use(server, rng):
    disk, data = server.connect(), rng.randbytes(64 * KIB)
    disk.pwrite(data, 5 * KIB)
    assert disk.pread(len(data), 5 * KIB) == data
    disk.zero(64 * KIB, MIB, nbd.CMD_FLAG_NO_HOLE)
    disk.trim(SIZE, 0)


def works(folder, limit, rng, *words):
    """Whether a server starts and can be used.  If it does not start, it says why."""
    try:
        server = Nbdram(folder / str(limit), (SIZE, *words), prefix=within(limit))
    except DidNotStart as end:
        assert end.exit_code == 1 and end.errors.startswith("nbdram: "), end
        return False
    use(server, rng)
    server.stop()
    return True


@all_allocators
def test_server_works_with_all_limits_above_the_first(tmp_path, rng, allocator):
    worked = [limit for limit in LIMITS if works(tmp_path, limit, rng, f"allocator={allocator}")]
    assert worked == LIMITS[-len(worked) :]
    assert worked[0] <= SIZE + 64 * MIB


@all_allocators
@pytest.mark.parametrize("limit", NBDKIT_LIMITS)
def test_plugin_works_where_stock_does(tmp_path, rng, allocator, limit):
    words = (SIZE, f"allocator={allocator}")
    server = Server(tmp_path / "nbdkit", words, prefix=within(limit))
    use(server, rng)
    server.stop()


def stored(server, size):
    """How many MiB can be written, of as many as the disk has."""
    disk, data, count = server.connect(), b"x" * MIB, 0
    while count < size // MIB:
        try:
            disk.pwrite(data, count * MIB)
        except nbd.Error as error:
            assert error.errno == "ENOSPC"
            break
        count += 1
    return count


def test_more_fits_with_a_higher_limit(tmp_path):
    counts = []
    for limit in (96 * MIB, 192 * MIB, 384 * MIB, GIB):
        server = Nbdram(tmp_path / str(limit), (192 * MIB,), prefix=within(limit))
        counts.append(stored(server, 192 * MIB))
        server.stop()
    assert counts == sorted(counts)
    assert counts[0] > 0 and counts[-1] == 192
