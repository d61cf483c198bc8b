# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's own client, as in nbdkit-loop(1): attach, make a file system, use it, detach."""

import os

import nbd
import pytest

from handles import block_status
from harness import ALLOCATORS, KIB, MIB, falling_to, run
from observe import resident

SIZE = 512 * MIB
WRITTEN = int(os.environ.get("NBDRAM_TEST_MIB", "64")) * MIB

HOLE_AND_ZERO = nbd.STATE_HOLE | nbd.STATE_ZERO


def check_from_outside(server, tmp_path):
    """Another client finds a clean file system with what the guest wrote."""
    image, tree = tmp_path / "image", tmp_path / "tree"
    tree.mkdir()
    run("nbdcopy", server.uri, image)
    run("e2fsck", "-fn", image)
    run("debugfs", "-R", f"rdump / {tree}", image)
    checked = run("sha256sum", "-c", "sums", cwd=tree).stdout.splitlines()
    assert len(checked) == 5  # one folder of four, and the text


@pytest.mark.parametrize(
    "allocator, options", [*((each, "defaults") for each in ALLOCATORS), ("sparse", "discard")]
)
def test_file_system(nbdram, boot, report, tmp_path, allocator, options):
    server = nbdram(str(SIZE), f"allocator={allocator}", place="tcp4")
    guest = boot("files", PORT=server.port, SIZE=SIZE, MIB=WRITTEN // MIB, OPTIONS=options)
    guest.expect("empty")
    empty = resident(server)
    guest.go_on()
    guest.expect("full")
    full = resident(server)
    guest.go_on()
    guest.expect("trimmed")
    trimmed = full
    if allocator != "malloc":
        assert full - empty > 0.9 * WRITTEN
        removed = WRITTEN * 3 // 4
        trimmed = falling_to(full - 0.9 * removed, lambda: resident(server))
        assert trimmed <= full - 0.9 * removed
    guest.go_on()
    guest.end()
    check_from_outside(server, tmp_path)
    sizes = "resident MiB: empty {}, full {}, trimmed {}"
    report(sizes.format(*(number // MIB for number in (empty, full, trimmed))))


@pytest.mark.parametrize("block", (512, 4096))
def test_block_device(nbdram, boot, block):
    server = nbdram(str(SIZE), place="tcp4")
    guest = boot("blocks", PORT=server.port, SIZE=SIZE, BLOCK=block)
    disk = server.connect()
    guest.expect("written")
    assert block_status(disk, 16 * MIB, 0) == [(16 * MIB, 0)]
    guest.go_on()
    guest.expect("discarded")
    assert block_status(disk, 4 * MIB, 2 * MIB) == [(4 * MIB, HOLE_AND_ZERO)]
    assert block_status(disk, 4 * KIB, 15 * MIB) == [(4 * KIB, HOLE_AND_ZERO)]
    guest.go_on()
    guest.end()
    assert block_status(disk, SIZE, 0) == [(SIZE, HOLE_AND_ZERO)]


def test_over_tls(nbdram, boot, secrets, tmp_path):
    """nbd-client speaks TLS for the kernel.  The server admits only clients with certificates."""
    flags = ("--tls=require", "--tls-verify-peer", *secrets.flags("certificates"))
    server = nbdram(str(SIZE), flags=flags, place="tcp4")
    files = {path.name: path for path in secrets.client.iterdir()}
    words = {"PORT": server.port, "SIZE": SIZE, "MIB": 16, "OPTIONS": "defaults"}
    guest = boot("files", files=files, **words)
    for point in ("empty", "full", "trimmed"):
        guest.meet(point)
    guest.end()
