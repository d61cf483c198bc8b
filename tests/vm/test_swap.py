# SPDX-License-Identifier: BSD-3-Clause
"""A machine that swaps to a disk in its own memory, through the kernel's client.

The server must answer while the machine has no memory.  Otherwise the machine hangs for good.
"""

import os

from harness import KIB, MIB
from machine import GUEST_SECONDS

# The guest has 256 MiB.  The disk and the program cannot both be in memory.
SIZE = 96 * MIB
PROGRAM_MIB = 128
SPAN = int(os.environ.get("NBDRAM_TEST_SECONDS", "120"))
CLOCK_KIB = 64  # the kernel's pages for the clock count as mapped, but cannot be locked


def test_swap(boot, report):
    words = {"SIZE": SIZE, "MIB": PROGRAM_MIB, "SPAN": SPAN}
    guest = boot("swap", seconds=GUEST_SECONDS + SPAN, **words)
    for word in ("before", "after"):
        size, locked, resident, swapped, score, out, back = guest.hear(word)
        assert size - locked <= CLOCK_KIB
        assert resident * KIB >= SIZE
        assert swapped == 0
        assert score == -1000
        guest.go_on()
    rounds, unlocked = guest.hear("recovered")
    report(f"{rounds} rounds, {out // 256} MiB swapped out, {back // 256} MiB back")
    assert rounds >= 2
    assert min(out, back) * 4096 > PROGRAM_MIB * MIB
    assert unlocked == 0
    guest.go_on()
    guest.end()
