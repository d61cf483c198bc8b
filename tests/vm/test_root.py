# SPDX-License-Identifier: BSD-3-Clause
"""Guests whose root file system is on a disk of nbdram."""

import shutil

import pytest

import machine
from harness import MIB, run

SIZE = 64 * MIB


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    """An ext4 image of a system that consists of one program and one script."""
    folder = tmp_path_factory.mktemp("system")
    tree, image = folder / "tree", folder / "image"
    for name in ("bin", "sbin", "guest", "dev", "proc", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(machine.PREPARED / "root" / "bin" / "busybox", tree / "bin")
    shutil.copy(machine.GUEST_SCRIPTS / "lib.sh", tree / "guest")
    shutil.copy(machine.GUEST_SCRIPTS / "on_disk.sh", tree / "sbin" / "init")
    (tree / "sbin" / "init").chmod(0o755)
    run("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", tree, image, SIZE // 1024)
    return image


def boot_from(boot, server, way, how=""):
    """A guest that attaches the disk with the kernel's client, or gets it from qemu."""
    if way == "kernel":
        return boot("root", ROOT="/dev/nbd0", PORT=server.port)
    drive = f"file={server.uri},format=raw,if=virtio,discard=unmap{how}"
    return boot("root", ROOT="/dev/vda", devices=("-drive", drive))


def check_and_take(server, path):
    run("nbdcopy", server.uri, path)
    run("e2fsck", "-fn", path)
    return path


@pytest.mark.parametrize("way, place", (("kernel", "tcp4"), ("qemu", "unix")))
def test_root_file_system_keeps_its_files(nbdram, boot, system, tmp_path, way, place):
    server = nbdram(str(SIZE), place=place)
    run("nbdcopy", system, server.uri)
    for found in ("new", "found"):
        guest = boot_from(boot, server, way)
        guest.meet(found)
        guest.end()
    check_and_take(server, tmp_path / "after")


def test_throw_away_guests_share_one_image(nbdram, boot, system, tmp_path):
    """Each guest writes to a file of its own instead of the disk, which does not change."""
    server = nbdram(str(SIZE))
    run("nbdcopy", system, server.uri)
    guests = [boot_from(boot, server, "qemu", ",snapshot=on") for _ in range(2)]
    for guest in guests:
        guest.expect("new")
    for guest in guests:
        guest.go_on()
        guest.end()
    run("cmp", system, check_and_take(server, tmp_path / "after"))
