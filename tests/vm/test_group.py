# SPDX-License-Identifier: BSD-3-Clause
"""Control groups of version 2, with the kernel's own controller: a full group is a full disk."""

import os

import pytest

from harness import MIB
from inside import Writer

# MiB.
RESERVE = 32  # what a disk leaves free in groups of this size
SLACK = 12  # the memory of the server itself; memory that was taken while the machine was asked
BEFORE = 32  # what is written before a neighbour grows
MEANWHILE = 16  # what may be written while it grows


@pytest.mark.parametrize(
    "words, room",
    (
        ({"MAX": "96M"}, 96),
        ({"HIGH": "96M"}, 96),
        ({"MAX": "128M", "CACHE": 64}, 128),
        ({"MAX": "128M", "CACHE": 32, "GROWTH": 32}, 96),
    ),
    ids=("max", "high", "page-cache", "neighbour"),
)
def test_full_group(boot, door, report, tmp_path, words, room):
    words = {"MAX": "max", "HIGH": "max", "CACHE": 0, "GROWTH": 0, "ALLOCATOR": "sparse"} | words
    device = tmp_path / "device"
    device.touch()
    os.truncate(device, 128 * MIB)
    devices = ("-drive", f"file={device},format=raw,if=virtio,readonly=on")
    guest = boot("group", devices=devices, memory=448, PORT=door.port, **words)
    (cached,) = guest.hear("serving")
    assert cached >= words["CACHE"] * MIB * 9 // 10
    client = door.enter()
    writer = Writer(client)
    writer.write_up_to(BEFORE)
    guest.go_on()
    if words["GROWTH"]:
        while not guest.has_spoken() and writer.written < BEFORE + MEANWHILE:
            assert writer.write()
        guest.meet("grown")
    writer.fill(room - RESERVE + SLACK)
    killed, throttled = guest.hear("full")
    report(f"{writer.written} MiB written")
    assert (killed, throttled) == (0, 0)
    assert writer.written >= room - RESERVE - SLACK
    writer.check()
    writer.trim_down_to(8)
    writer.write_up_to(24)
    client.disconnect()
    guest.go_on()
    guest.end()
