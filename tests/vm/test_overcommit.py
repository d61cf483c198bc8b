# SPDX-License-Identifier: BSD-3-Clause
"""vm.overcommit_memory=2: the kernel commits no more memory than it has.

What a disk gives back, other processes can get committed.
"""

from harness import KIB, MIB
from inside import Writer

WRITTEN = 64


def test_trim_gives_the_commitment_back(boot, door, report):
    guest = boot("overcommit", PORT=door.port, ALLOCATOR="sparse")
    client = door.enter()
    writer = Writer(client)
    (empty,) = guest.hear("empty")
    writer.write_up_to(WRITTEN)
    guest.go_on()
    (full,) = guest.hear("full")
    assert (full - empty) * KIB >= WRITTEN * MIB
    writer.trim_down_to(0)
    guest.go_on()
    (trimmed,) = guest.hear("trimmed")
    sizes = (number // 1024 for number in (empty, full, trimmed))
    report("committed MiB: empty {}, full {}, trimmed {}".format(*sizes))
    writer.write_up_to(8)
    writer.check()
    client.disconnect()
    guest.go_on()
    guest.end()
