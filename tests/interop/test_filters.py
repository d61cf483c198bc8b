# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit's filters on top of the plugin."""

import pathlib
import struct
import subprocess

import pytest

from handles import check_random_changes, data_bytes, disk_map
from harness import KIB, MIB, all_allocators, nbdkit_config, need, run, thin_allocators


def filters(*names):
    """The flags that put these filters on top of the plugin, the outermost first."""
    directory = pathlib.Path(nbdkit_config()["filterdir"])
    for name in names:
        if not (directory / f"nbdkit-{name}-filter.so").exists():
            pytest.skip(f"nbdkit's {name} filter is not installed")
    return [f"--filter={name}" for name in names]


@all_allocators
@pytest.mark.parametrize(
    "names, params",
    [
        (("blocksize",), ("minblock=4096", "maxdata=65536", "maxlen=65536")),
        (("cow",), ()),
        (("cow",), ("cow-block-size=4096",)),
        (("cache",), ("cache=writeback",)),
        (("cacheextents",), ()),
        (("fua",), ("fuamode=emulate",)),
        (("fua",), ("fuamode=force",)),
        (("multi-conn",), ("multi-conn-mode=emulate",)),
        (("nocache",), ("cachemode=emulate",)),
        (("noextents",), ()),
        (("noparallel",), ("serialize=requests",)),
        (("nozero",), ("zeromode=emulate",)),
        (("nozero",), ("zeromode=notrim",)),
        (("offset",), ("offset=12345", "range=3000000")),
        (("readahead",), ()),
        (("retry",), ()),
        (("truncate",), ("truncate=5000001",)),
        (("cow", "stats", "blocksize"), ("statsfile=/dev/null", "minblock=512")),
    ],
    ids=lambda words: "+".join(words).replace("/", ":"),
)
def test_data_passes_through_filters(serve, rng, allocator, names, params):
    flags = filters(*names)
    handle = serve("4M", f"allocator={allocator}", *params, flags=flags).connect()
    check_random_changes(handle, rng)
    assert sum(length for length, _ in disk_map(handle)) == handle.get_size()


@all_allocators
def test_swab_swaps_bytes(serve, rng, allocator):
    flags = filters("swab")
    handle = serve("4M", f"allocator={allocator}", "swab-bits=16", flags=flags).connect()
    check_random_changes(handle, rng, unit=2)


# The filters below read tables from the disk when a client connects, before it could write any.
# So they are in a second nbdkit, which is a client of the server under test.


def serve_through(serve, server, name, *params):
    flags = filters(name)
    return serve(f"uri={server.uri}", *params, flags=flags, plugin="nbd")


def partition_table(*partitions):
    """An MBR of (first sector, sectors)."""
    entries = b"".join(
        struct.pack("<B3xB3xII", 0, 0x83, start, count) for start, count in partitions
    )
    return bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"


@all_allocators
def test_partition_is_the_right_part_of_the_disk(front, serve, rng, allocator):
    server = front("16M", f"allocator={allocator}")
    direct = server.connect()
    direct.pwrite(partition_table((2048, 4096), (8192, 2048)), 0)
    part = serve_through(serve, server, "partition", "partition=2").connect()
    assert part.get_size() == MIB
    check_random_changes(part, rng)
    assert direct.pread(MIB, 4 * MIB) == part.pread(MIB, 0)
    assert not any(direct.pread(3 * MIB, MIB)) and not any(direct.pread(MIB, 5 * MIB))


@all_allocators
def test_ext2_filter_reads_a_file_on_the_disk(front, serve, ext4_image, allocator):
    need("nbdcopy", "debugfs")
    path = "/directory-7/file-7"
    server = front(str(ext4_image.stat().st_size), f"allocator={allocator}")
    run("nbdcopy", ext4_image, server.uri)
    through = serve_through(serve, server, "ext2", f"ext2file={path}").connect()
    content = subprocess.run(
        ["debugfs", "-R", f"cat {path}", ext4_image], capture_output=True, check=True
    ).stdout
    assert through.get_size() == len(content) > 0
    assert through.pread(len(content), 0) == content


def test_stats_filter_counts_requests(serve, rng, tmp_path):
    statistics = tmp_path / "statistics"
    server = serve("1M", f"statsfile={statistics}", flags=filters("stats"))
    handle = server.connect()
    handle.pwrite(rng.randbytes(64 * KIB), 0)
    handle.pread(64 * KIB, 0)
    handle.trim(64 * KIB, 0)
    handle.shutdown()
    server.stop()
    for command in ("write: 1 ops", "read: 1 ops", "trim: 1 ops"):
        assert command in statistics.read_text()


@thin_allocators
def test_holes_are_seen_through_filters(serve, rng, allocator):
    flags = filters("blocksize", "offset")
    server = serve("64M", f"allocator={allocator}", "offset=1M", flags=flags)
    handle = server.connect()
    handle.pwrite(rng.randbytes(MIB), 7 * MIB)
    assert data_bytes(handle) == MIB
    handle.trim(MIB, 7 * MIB)
    assert data_bytes(handle) == 0
