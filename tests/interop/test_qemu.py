# SPDX-License-Identifier: BSD-3-Clause
"""qemu's tools as clients."""

import json

import nbd
import pytest

from harness import ALLOCATORS, KIB, MIB, THIN_ALLOCATORS, data_bytes, need, run

all_allocators = pytest.mark.parametrize("allocator", ALLOCATORS)
thin_allocators = pytest.mark.parametrize("allocator", THIN_ALLOCATORS)


def qemu_img(*words):
    need("qemu-img")
    return run("qemu-img", *words)


@all_allocators
def test_file_system_goes_in_and_out_unharmed(serve, tmp_path, ext4_image, allocator):
    size = ext4_image.stat().st_size
    uri = serve(str(size), f"allocator={allocator}").uri
    back = tmp_path / "back"
    raw = ("-f", "raw", "-O", "raw")
    qemu_img("convert", "-n", *raw, ext4_image, uri)
    qemu_img("compare", "-f", "raw", "-F", "raw", ext4_image, uri)
    qemu_img("convert", *raw, uri, back)
    run("cmp", ext4_image, back)
    run("e2fsck", "-fn", back)


@thin_allocators
def test_file_system_of_many_coroutines_is_unharmed(serve, ext4_image, allocator):
    uri = serve(str(ext4_image.stat().st_size), f"allocator={allocator}").uri
    raw = ("-f", "raw", "-O", "raw")
    qemu_img("convert", "-n", "-W", "-m", "16", *raw, ext4_image, uri)
    qemu_img("compare", "-f", "raw", "-F", "raw", ext4_image, uri)


@thin_allocators
def test_convert_leaves_holes(serve, ext4_image, allocator):
    server = serve(str(ext4_image.stat().st_size), f"allocator={allocator}")
    qemu_img("convert", "-n", "-f", "raw", "-O", "raw", ext4_image, server.uri)
    # qemu-img looks for zeroes in units of its own, so a little more is stored.
    in_file = ext4_image.stat().st_blocks * 512
    assert 0 < data_bytes(server.connect()) <= in_file * 1.1 + MIB


def test_info_tells_the_size(serve):
    information = qemu_img("info", "--output=json", serve("12345k").uri).stdout
    information = json.loads(information)
    assert information["virtual-size"] == 12345 * KIB
    assert information["format"] == "raw"


@thin_allocators
def test_map_tells_data_from_holes(serve, rng, allocator):
    server = serve("8M", f"allocator={allocator}")
    server.connect().pwrite(rng.randbytes(MIB), 2 * MIB)
    extents = json.loads(qemu_img("map", "--output=json", "-f", "raw", server.uri).stdout)
    told = [(extent["start"], extent["length"], extent["data"]) for extent in extents]
    expected = [(0, 2 * MIB, False), (2 * MIB, MIB, True), (3 * MIB, 5 * MIB, False)]
    assert told == expected
    assert [extent["zero"] for extent in extents] == [True, False, True]


@all_allocators
def test_qcow2_lives_on_the_disk(serve, ext4_image, tmp_path, allocator):
    uri = serve("256M", f"allocator={allocator}").uri
    back = tmp_path / "back"
    qemu_img("create", "-f", "qcow2", uri, str(ext4_image.stat().st_size))
    qemu_img("convert", "-n", "-f", "raw", "-O", "qcow2", ext4_image, uri)
    qemu_img("check", "-f", "qcow2", uri)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", uri, back)
    run("cmp", ext4_image, back)


@all_allocators
def test_qemu_io_patterns(serve, allocator):
    need("qemu-io")
    uri = serve("64M", f"allocator={allocator}").uri
    commands = (
        "write -P 1 0 1M",
        "write -P 2 513k 100k",
        "write -f -P 3 1023k 3k",
        "write -z 100k 10k",
        "write -z -u 110k 10k",
        "discard 300k 65k",
        "aio_write -P 4 8M 4M",
        "aio_write -P 5 16M 4M",
        "aio_flush",
        "flush",
        "read -P 1 0 100k",
        "read -P 0 100k 20k",
        "read -P 1 120k 180k",
        "read -P 0 300k 65k",
        "read -P 1 365k 148k",
        "read -P 2 513k 100k",
        "read -P 1 613k 410k",
        "read -P 3 1023k 3k",
        "read -P 0 1026k 1M",
        "read -P 4 8M 4M",
        "read -P 5 16M 4M",
        "read -P 0 20M 44M",
    )
    words = [word for command in commands for word in ("-c", command)]
    result = run("qemu-io", "-f", "raw", *words, uri)
    assert "fail" not in result.stdout.lower() + result.stderr.lower()


@all_allocators
def test_qemu_nbd_passes_the_disk_on(serve, rng, allocator):
    """A second server between the client and the disk."""
    need("qemu-nbd")
    server = serve("16M", f"allocator={allocator}")
    direct = server.connect()
    data = rng.randbytes(3 * MIB)
    direct.pwrite(data, MIB)
    through = nbd.NBD()
    through.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    command = ["qemu-nbd", "-f", "raw", "--discard=unmap", server.uri]
    through.connect_systemd_socket_activation(command)
    assert through.pread(3 * MIB, MIB) == data
    through.zero(MIB, 2 * MIB)
    through.trim(64 * KIB, MIB)
    through.pwrite(data[:MIB], 8 * MIB)
    through.flush()
    expected = bytes(64 * KIB) + data[64 * KIB : MIB] + bytes(MIB) + data[2 * MIB :]
    assert direct.pread(3 * MIB, MIB) == expected
    assert direct.pread(MIB, 8 * MIB) == data[:MIB]
    through.shutdown()
