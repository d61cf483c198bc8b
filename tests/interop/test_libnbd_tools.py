# SPDX-License-Identifier: BSD-3-Clause
"""nbdcopy, nbdinfo and nbdfuse as clients."""

import os
import select
import subprocess

import pytest

from handles import data_bytes, disk_map
from harness import HANG_SECONDS, KIB, MIB, all_allocators, need, run, thin_allocators


def write_sparse_file(path, rng, size):
    """A file with 1 MiB of noise at every 8 MiB, and holes between them."""
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size, 8 * MIB):
            file.seek(at)
            file.write(rng.randbytes(min(MIB, size - at)))


@all_allocators
@pytest.mark.parametrize(
    "options",
    [
        ("--connections=4", "--requests=64"),
        ("--connections=1", "--requests=1", "--threads=1"),
        ("--synchronous",),
        ("--no-extents", "--request-size=4096"),
        ("--allocated", "--flush"),
        ("--destination-is-zero",),
    ],
    ids=lambda options: "".join(options),
)
def test_nbdcopy_in_and_out(front, rng, tmp_path, allocator, options):
    need("nbdcopy")
    source, back = tmp_path / "source", tmp_path / "back"
    write_sparse_file(source, rng, 24 * MIB + 513)
    uri = front(str(24 * MIB + 513), f"allocator={allocator}").uri
    run("nbdcopy", *options, source, uri)
    run("nbdcopy", *options, uri, back)
    run("cmp", source, back)


@all_allocators
def test_nbdcopy_from_disk_to_disk(front, ext4_image, tmp_path, allocator):
    need("nbdcopy")
    size = str(ext4_image.stat().st_size)
    first = front(size, f"allocator={allocator}").uri
    second = front(size).uri
    back = tmp_path / "back"
    run("nbdcopy", "--connections=4", ext4_image, first)
    run("nbdcopy", "--connections=4", first, second)
    run("nbdcopy", "--connections=4", second, back)
    run("cmp", ext4_image, back)
    run("e2fsck", "-fn", back)


@thin_allocators
def test_nbdcopy_keeps_holes(front, rng, tmp_path, allocator):
    need("nbdcopy", "nbdinfo")
    source = tmp_path / "source"
    write_sparse_file(source, rng, 64 * MIB)
    server = front("64M", f"allocator={allocator}")
    run("nbdcopy", source, server.uri)
    totals = run("nbdinfo", "--map", "--totals", server.uri).stdout
    bytes_of = {
        words[-1]: int(words[0]) for words in map(str.split, totals.splitlines())
    }
    assert bytes_of == {"data": 8 * MIB, "hole,zero": 56 * MIB}


@thin_allocators
def test_nbdcopy_makes_holes_of_zeroes(front, rng, allocator, tmp_path):
    """The disk holds old data, and the source stores its zeroes."""
    need("nbdcopy")
    server = front("16M", f"allocator={allocator}")
    handle = server.connect()
    handle.pwrite(rng.randbytes(16 * MIB), 0)
    source = tmp_path / "source"
    source.write_bytes(bytes(6 * MIB) + rng.randbytes(MIB) + bytes(9 * MIB))
    run("nbdcopy", source, server.uri)
    assert data_bytes(handle) == MIB


def test_nbdinfo_map_agrees_with_libnbd(front, rng):
    need("nbdinfo")
    server = front("1T")
    handle = server.connect()
    for _ in range(200):
        handle.pwrite(rng.randbytes(4 * KIB), rng.randrange(1 << 28) * 4 * KIB)
    rows = [line.split() for line in run("nbdinfo", "--map", server.uri).stdout.splitlines()]
    shown = []
    for _, length, state, *_ in rows:
        # nbdinfo does not join the last extent of one reply and the first of the next.
        if shown and shown[-1][1] == int(state):
            shown[-1] = (shown[-1][0] + int(length), int(state))
        else:
            shown.append((int(length), int(state)))
    assert shown == disk_map(handle)


@all_allocators
def test_nbdinfo_shows_the_export(front, allocator):
    need("nbdinfo")
    text = run("nbdinfo", front("1G", f"allocator={allocator}").uri).stdout
    assert "export-size: 1073741824" in text
    assert "can_multi_conn: true" in text
    assert "can_fast_zero: true" in text


@all_allocators
def test_nbdkit_passes_the_disk_on(front, serve, rng, tmp_path, allocator):
    """nbdkit's nbd plugin is the client, over one connection or over one for each of its own."""
    need("nbdinfo", "nbdcopy")
    source, back = tmp_path / "source", tmp_path / "back"
    write_sparse_file(source, rng, 24 * MIB + 513)
    server = front(str(24 * MIB + 513), f"allocator={allocator}")
    for shared in ("false", "true"):
        uri = serve(f"socket={server.socket}", f"shared={shared}", plugin="nbd").uri
        run("nbdcopy", "--connections=4", source, uri)
        through = run("nbdinfo", "--map", uri).stdout
        assert through == run("nbdinfo", "--map", server.uri).stdout
        run("nbdcopy", "--connections=4", uri, back)
        run("cmp", source, back)
        server.connect().trim(24 * MIB, 0)


@all_allocators
def test_nbdfuse_mounts_the_disk(front, rng, tmp_path, allocator):
    need("nbdfuse")
    unmount = ("umount",) if os.geteuid() == 0 else ("fusermount3", "-u")
    need(unmount[0])
    server = front("8M", f"allocator={allocator}")
    mountpoint, pid_fifo = tmp_path / "mount", tmp_path / "pid"
    mountpoint.mkdir()
    os.mkfifo(pid_fifo)
    fifo = os.open(pid_fifo, os.O_RDWR | os.O_NONBLOCK)
    nbdfuse = subprocess.Popen(
        ["nbdfuse", "-P", pid_fifo, mountpoint, server.uri], stderr=subprocess.PIPE
    )
    ended = os.pidfd_open(nbdfuse.pid)
    try:
        ready, _, _ = select.select([fifo, ended], [], [], HANG_SECONDS)
        if fifo not in ready:
            nbdfuse.kill()
            pytest.skip(f"nbdfuse cannot mount here: {nbdfuse.stderr.read(500)}")
        data = rng.randbytes(3 * MIB + 1)
        with (mountpoint / "nbd").open("r+b") as file:
            file.seek(1000)
            file.write(data)
        assert server.connect().pread(len(data), 1000) == data
        assert (mountpoint / "nbd").read_bytes()[1000 : 1000 + len(data)] == data
    finally:
        run(*unmount, mountpoint, check=False)
        nbdfuse.kill()
        nbdfuse.communicate()
        os.close(ended)
        os.close(fifo)
