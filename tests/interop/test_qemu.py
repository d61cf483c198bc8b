# SPDX-License-Identifier: BSD-3-Clause
"""qemu's tools as clients."""

import json
import subprocess

import nbd
import pytest

from client import Connection
from handles import check_random_changes, data_bytes, disk_map
from harness import (
    HANG_SECONDS,
    KIB,
    MIB,
    accepts,
    all_allocators,
    need,
    new_handle,
    run,
    thin_allocators,
    until,
)
from wire import NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE, Style


def qemu_img(*words):
    need("qemu-img")
    return run("qemu-img", *words)


@all_allocators
def test_file_system_goes_in_and_out_unharmed(front, tmp_path, ext4_image, allocator):
    size = ext4_image.stat().st_size
    uri = front(str(size), f"allocator={allocator}").uri
    back = tmp_path / "back"
    raw = ("-f", "raw", "-O", "raw")
    qemu_img("convert", "-n", *raw, ext4_image, uri)
    qemu_img("compare", "-f", "raw", "-F", "raw", ext4_image, uri)
    qemu_img("convert", *raw, uri, back)
    run("cmp", ext4_image, back)
    run("e2fsck", "-fn", back)


@thin_allocators
def test_file_system_of_many_coroutines_is_unharmed(front, ext4_image, allocator):
    uri = front(str(ext4_image.stat().st_size), f"allocator={allocator}").uri
    raw = ("-f", "raw", "-O", "raw")
    qemu_img("convert", "-n", "-W", "-m", "16", *raw, ext4_image, uri)
    qemu_img("compare", "-f", "raw", "-F", "raw", ext4_image, uri)


@thin_allocators
def test_convert_leaves_holes(front, ext4_image, allocator):
    server = front(str(ext4_image.stat().st_size), f"allocator={allocator}")
    qemu_img("convert", "-n", "-f", "raw", "-O", "raw", ext4_image, server.uri)
    # qemu-img looks for zeroes in units of its own, so a little more is stored.
    in_file = ext4_image.stat().st_blocks * 512
    assert 0 < data_bytes(server.connect()) <= in_file * 1.1 + MIB


def test_info_shows_the_size(front):
    information = qemu_img("info", "--output=json", front("12345k").uri).stdout
    information = json.loads(information)
    assert information["virtual-size"] == 12345 * KIB
    assert information["format"] == "raw"


@thin_allocators
def test_measure_counts_what_is_stored(front, rng, allocator):
    server = front("1G", f"allocator={allocator}")

    def required():
        words = ("measure", "--output=json", "-f", "raw", "-O", "qcow2", server.uri)
        return json.loads(qemu_img(*words).stdout)["required"]

    empty = required()
    server.connect().pwrite(rng.randbytes(4 * MIB), 512 * MIB)
    assert required() - empty == 4 * MIB


@thin_allocators
def test_map_shows_data_and_holes(front, rng, allocator):
    server = front("8M", f"allocator={allocator}")
    server.connect().pwrite(rng.randbytes(MIB), 2 * MIB)
    extents = json.loads(qemu_img("map", "--output=json", "-f", "raw", server.uri).stdout)
    shown = [(extent["start"], extent["length"], extent["data"]) for extent in extents]
    expected = [(0, 2 * MIB, False), (2 * MIB, MIB, True), (3 * MIB, 5 * MIB, False)]
    assert shown == expected
    assert [extent["zero"] for extent in extents] == [True, False, True]


@all_allocators
def test_qcow2_lives_on_the_disk(front, ext4_image, tmp_path, allocator):
    uri = front("256M", f"allocator={allocator}").uri
    back = tmp_path / "back"
    qemu_img("create", "-f", "qcow2", uri, str(ext4_image.stat().st_size))
    qemu_img("convert", "-n", "-f", "raw", "-O", "qcow2", ext4_image, uri)
    qemu_img("check", "-f", "qcow2", uri)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", uri, back)
    run("cmp", ext4_image, back)


@all_allocators
def test_qemu_io_patterns(front, allocator):
    need("qemu-io")
    uri = front("64M", f"allocator={allocator}").uri
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


def test_qemu_nbd_lists_the_export(front):
    need("qemu-nbd")
    said = run("qemu-nbd", "--list", "-k", front("1G").socket).stdout
    assert "exports available: 1" in said
    assert "size:  1073741824" in said
    for capability in ("flush", "fua", "trim", "zeroes", "df", "multi", "cache", "fast-zero"):
        assert f" {capability} " in said
    assert "base:allocation" in said


def test_extended_writes_as_qemu_sends_them(nbdram, rng):
    """qemu 10.0 leaves out the flag that the specification demands.

    If the server took the data for requests, it would do damage.  qemu's own server accepts such
    writes, too.
    """
    with Connection.to(nbdram("16M").socket) as connection:
        connection.greet().negotiate(Style.EXTENDED)
        connection.go()
        for at, length in ((0, 1), (512, 4 * KIB), (MIB + 1, 3 * MIB)):
            data = rng.randbytes(length)
            request = connection.request(NBD_CMD_WRITE, at, length, 0, data)
            request.flags &= ~NBD_CMD_FLAG_PAYLOAD_LEN
            connection.send(request.pack())
            assert connection.finish(request).error == 0
            assert connection.read(at, length) == data


@all_allocators
def test_qemu_nbd_passes_the_disk_on(front, rng, allocator):
    """A second server between the client and the disk."""
    need("qemu-nbd")
    server = front("16M", f"allocator={allocator}")
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


@pytest.fixture
def storage_daemon(tmp_path):
    """storage_daemon(socket) -> a libnbd handle to a qemu that is a client of that socket."""
    need("qemu-storage-daemon")
    path = tmp_path / "storage-daemon"
    daemons = []

    def start(place):
        words = (
            *("--blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={place}"
              ",discard=unmap"),
            *("--nbd-server", f"addr.type=unix,addr.path={path}"),
            *("--export", "type=nbd,id=export,node-name=disk,name=,writable=on"),
        )  # fmt: skip
        daemons.append(subprocess.Popen(["qemu-storage-daemon", *words]))

        def is_up():
            assert daemons[-1].poll() is None
            return accepts(path)

        until(is_up)
        handle = new_handle()
        handle.connect_unix(str(path))
        return handle

    yield start
    for daemon in daemons:
        daemon.terminate()
        try:
            assert daemon.wait(HANG_SECONDS) == 0
        finally:
            daemon.kill()
            daemon.wait()


@all_allocators
def test_storage_daemon_passes_the_disk_on(front, storage_daemon, rng, allocator):
    server = front("64M", f"allocator={allocator}")
    direct, through = server.connect(), storage_daemon(server.socket)
    check_random_changes(through, rng)
    size = 2 * MIB  # all changes are below
    assert direct.pread(size, 0) == through.pread(size, 0)
    through.trim(64 * MIB, 0)
    through.flush()
    assert disk_map(through) == disk_map(direct)
    through.shutdown()
