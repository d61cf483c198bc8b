# SPDX-License-Identifier: BSD-3-Clause
"""Real clients of nbdram over each transport, and clients that start it."""

import errno
import functools
import shlex
import socket

import pytest

from harness import MIB, PLACES, SERVER, all_allocators, has_ipv6, need, new_handle, run

SIZE = 12 * MIB + 513
VSOCK_LOOPBACK = 1  # Python has no name for VMADDR_CID_LOCAL


@functools.cache
def is_reachable(place):
    """Whether this machine can connect to itself there."""
    if place == "tcp6":
        return has_ipv6()
    try:
        if place == "vsock":
            with socket.socket(socket.AF_VSOCK) as client:
                client.connect((VSOCK_LOOPBACK, socket.VMADDR_PORT_ANY - 1))
    except OSError as error:
        return error.errno == errno.ECONNRESET  # this machine's vsock has refused it
    return True


@pytest.fixture(params=PLACES)
def place(request):
    if not is_reachable(request.param):
        pytest.skip(f"this machine cannot connect to itself over {request.param}")
    return request.param


@pytest.fixture
def source(tmp_path, rng):
    """A file with data, zeroes and holes, whose size is odd."""
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for at in (0, 5 * MIB + 511, 9 * MIB):
            file.seek(at)
            file.write(rng.randbytes(MIB) + bytes(MIB))
        file.seek(SIZE - 1)
        file.write(b"e")
    return path


def test_libnbd_tools(nbdram, place, source, tmp_path):
    need("nbdcopy", "nbdinfo")
    back = tmp_path / "back"
    uri = nbdram(str(SIZE), place=place).uri
    assert run("nbdinfo", "--size", uri).stdout == f"{SIZE}\n"
    run("nbdcopy", "--connections=4", source, uri)
    assert "hole,zero" in run("nbdinfo", "--map", uri).stdout
    run("nbdcopy", "--connections=4", uri, back)
    run("cmp", source, back)


def test_qemu_img(nbdram, place, source, tmp_path):
    need("qemu-img")
    if place == "vsock":
        pytest.skip("qemu has no URI for it")
    # qemu counts in sectors, and fills the last one up with zeroes.
    size = -(-SIZE // 512) * 512
    with source.open("r+b") as file:
        file.truncate(size)
    back = tmp_path / "back"
    uri = nbdram(str(size), place=place).uri
    raw = ("-f", "raw", "-O", "raw")
    run("qemu-img", "convert", "-n", "-m", "8", "-W", *raw, source, uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)
    run("qemu-img", "convert", *raw, uri, back)
    run("cmp", source, back)


def test_qemu_nbd_lists_the_export(nbdram, place):
    need("qemu-nbd")
    server = nbdram("1G", place=place)
    if place == "unix":
        where = ("-k", server.socket)
    elif place == "vsock":
        pytest.skip("qemu-nbd has no option for it")
    else:
        where = ("-b", {"tcp4": "127.0.0.1", "tcp6": "::1"}[place], "-p", server.port)
    said = run("qemu-nbd", "--list", *where).stdout
    assert "exports available: 1" in said
    assert "size:  1073741824" in said
    for flag in ("multi", "fast-zero", "base:allocation"):
        assert flag in said


# Clients that start the server.


@all_allocators
def test_nbdcopy_starts_it_by_socket_activation(tmp_path, allocator):
    need("nbdcopy", "nbdinfo")
    command = ("[", SERVER, "5000001", f"allocator={allocator}", "]")
    assert run("nbdinfo", "--size", "--", *command).stdout == "5000001\n"
    back = tmp_path / "back"
    run("nbdcopy", "--connections=2", "--", *command, back)
    assert back.read_bytes() == bytes(5000001)
    # Standard output is the client's, which may copy the disk to it.
    assert run("nbdcopy", "--", *command, "-").stdout == "\0" * 5000001
    # The client starts two, and copies from one to the other.
    run("nbdcopy", "--", *command, *command)


def check_disk(handle, rng):
    assert handle.get_size() == SIZE
    data = rng.randbytes(3 * MIB + 7)
    handle.pwrite(data, MIB + 1)
    assert handle.pread(len(data), MIB + 1) == data
    handle.zero(2 * MIB, MIB + 1)
    assert handle.pread(len(data), MIB + 1) == bytes(2 * MIB) + data[2 * MIB :]
    handle.shutdown()


@all_allocators
@pytest.mark.parametrize("how", ("connect_command", "connect_systemd_socket_activation"))
def test_libnbd_starts_it(rng, allocator, how):
    flags = ["-s"] if how == "connect_command" else []
    handle = new_handle()
    getattr(handle, how)([SERVER, *flags, str(SIZE), f"allocator={allocator}"])
    check_disk(handle, rng)


def test_nbdkit_starts_it(serve, rng):
    """nbdkit's nbd plugin is the client, by socket activation."""
    handle = serve(f"command={SERVER}", f"arg={SIZE}", plugin="nbd").connect()
    check_disk(handle, rng)


@pytest.mark.parametrize("where", (("-U", "-"), ("-p", "0")), ids="".join)
def test_run_with_clients(source, tmp_path, where):
    """The clients that are shown in --help."""
    need("nbdcopy", "qemu-img")
    back = shlex.quote(str(tmp_path / "back"))
    client = f'nbdcopy {shlex.quote(str(source))} "$uri" && nbdcopy "$uri" {back}'
    client += ' && qemu-img info "$uri" && nbdinfo "$uri"'
    run(SERVER, *where, "--run", client, str(SIZE))
    run("cmp", source, tmp_path / "back")
