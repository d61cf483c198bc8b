# SPDX-License-Identifier: BSD-3-Clause
"""ENOTSUP is for FAST_ZERO, and ENOSPC for a disk that is full.

Specification: "Error values", "Command flags" (NBD_CMD_FLAG_FAST_ZERO) and "Request types"
(NBD_CMD_WRITE_ZEROES).
"""

from harness import KIB, MIB
from rules import ALLOCATOR_SETUPS, ServerSetup, in_every_style, on_servers
from wire import *  # noqa: F403 - the specification's constants


@in_every_style
@on_servers(ALLOCATOR_SETUPS)
def test_fast_zero_is_done_or_changes_nothing(bench, style):
    client = bench.connect(style)
    for flags in (0, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_FUA):
        for offset, length in ((0, 64 * KIB), (1, 64 * KIB), (4 * KIB, 1)):
            client.write(0, b"\xee" * 128 * KIB)
            whole = flags | NBD_CMD_FLAG_FAST_ZERO
            error = client.call(NBD_CMD_WRITE_ZEROES, offset, length, whole).error
            assert error in (0, NBD_ENOTSUP)
            wanted = b"\xee" if error else b"\0"
            assert client.read(offset, length) == wanted * length
            # ENOTSUP is for FAST_ZERO only.
            client.done(NBD_CMD_WRITE_ZEROES, offset, length, flags)
            assert client.read(offset, length) == bytes(length)


@in_every_style
@on_servers({"limit=4M": ServerSetup(params=("limit=4M",))})
def test_a_full_disk_has_no_space(bench, style):
    """It answers ENOSPC and nothing else, not ENOMEM for one, and the connection goes on."""
    client = bench.connect(style)
    data = bench.rng.randbytes(256 * KIB)
    errors = set()
    for offset in range(0, 16 * MIB, len(data)):
        errors.add(client.call(NBD_CMD_WRITE, offset, payload=data).error)
    assert errors == {0, NBD_ENOSPC}
    assert client.read(0, len(data)) == data
    client.done(NBD_CMD_TRIM, 0, 16 * MIB)
    bench.prove_in_step(client)
