# SPDX-License-Identifier: BSD-3-Clause
"""Where nbdram listens: TCP, vsock, sockets that were passed to it, and standard input."""

import os
import re
import signal
import socket
import subprocess
import threading

import nbd
import pytest

from daemons import GREETING, at_socket, refused, running, size_at, status_of_orphan
from harness import HANG_SECONDS, MIB, SERVER, adopt_orphans, has_ipv6, need, run

LOOPBACK_CID = 1


@pytest.mark.parametrize(
    "flags, hosts",
    [
        ((), ["127.0.0.1", "::1"]),
        (("-4",), ["127.0.0.1"]),
        (("-6",), ["::1"]),
        (("-i", "127.0.0.1"), ["127.0.0.1"]),
        (("-i", "::1"), ["::1"]),
        (("-i", "0.0.0.0"), ["127.0.0.1"]),
    ],
)
def test_tcp(flags, hosts):
    if "::1" in hosts and not has_ipv6():
        if hosts == ["::1"]:
            pytest.skip("this machine has no IPv6")
        hosts = ["127.0.0.1"]
    with running("-p", "0", *flags, "1M") as server:
        uri = server.uri()
        assert size_at(uri) == MIB
        port = int(re.search(r":(\d+)/", uri)[1])
        for host in ("127.0.0.1", "::1"):
            accepted = True
            try:
                socket.create_connection((host, port), HANG_SECONDS).close()
            except OSError:
                accepted = False
            assert accepted == (host in hosts)


def test_two_places():
    """Every URI is printed; the Unix socket is the first."""
    with running("-U", "s", "-p", "0", "-i", "127.0.0.1", "-i", "127.0.0.2", "1M") as server:
        assert server.uri() == at_socket("s")
        uris = re.findall(r"(?:at|and at) (nbd\S+)\n", server.output())
        assert len(uris) == 3
        assert uris[0] == at_socket("s")
        for uri in uris:
            assert size_at(uri) == MIB
        assert server.end() == 0
        assert not os.path.exists("s")
    script = 'printf "%s %s %s" "$uri" "$unixsocket" "$port"'
    result = run(SERVER, "-U", "s", "-p", "0", "--run", script, "1M")
    uri, path, port = result.stdout.split(" ")
    assert (uri, path) == (at_socket("s"), os.path.abspath("s"))
    assert int(port) > 0


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert "Address already in use" in refused("-p", port, "1M")


def test_vsock():
    with socket_of_vsock() as client:
        with running("--vsock", "-p", "0", "1M") as server:
            (port,) = re.fullmatch(r"nbd\+vsock://1:(\d+)/", server.uri()).groups()
            try:
                client.connect((LOOPBACK_CID, int(port)))
            except OSError as error:
                pytest.skip(f"this kernel has no vsock_loopback: {error}")
            assert client.recv(16, socket.MSG_WAITALL) == GREETING


def socket_of_vsock():
    try:
        client = socket.socket(socket.AF_VSOCK)
    except OSError as error:
        assert "no vsock" in refused("--vsock", "1M")
        pytest.skip(f"this kernel has no vsock: {error}")
    client.settimeout(HANG_SECONDS)
    return client


def activated(listeners, *words):
    """Start it as a service manager does, with these sockets as descriptors 3, 4, ..."""
    moved = [os.dup(one.fileno()) for one in listeners]
    moves = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(moved))
    script = f'LISTEN_FDS={len(moved)} LISTEN_PID=$$ exec "$0" "$@" {moves}'
    try:
        return subprocess.Popen(
            ["bash", "-c", script, SERVER, "-f", *words],
            pass_fds=moved,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        for fd in moved:
            os.close(fd)


def test_socket_activation():
    need("bash")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind("s")
        local.listen()
        server = activated([tcp, local], "1M")
        try:
            # Clients wait in the backlog until it is ready.
            assert size_at(f"nbd://127.0.0.1:{tcp.getsockname()[1]}") == MIB
            assert size_at(at_socket("s")) == MIB
            server.terminate()
            assert server.wait(HANG_SECONDS) == 0
            # The socket is the service manager's, and still works.
            assert os.path.exists("s")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("s")
        finally:
            server.kill()
            server.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_socket_activation_ends_with_the_client_that_started_it(number):
    """nbdcopy starts it so, and may be killed."""
    need("bash")
    adopt_orphans()
    os.mkfifo("fifo")
    passed = socket.create_server(("127.0.0.1", 0))
    with open("fifo", "r+b", buffering=0) as fifo, passed:
        pass_on = f'LISTEN_FDS=1 LISTEN_PID=$BASHPID exec "$0" "$@" 3<&{passed.fileno()}'
        words = ["bash", "-c", f"({pass_on}) & wait", SERVER, "-P", "fifo", "1M"]
        client = subprocess.Popen(words, pass_fds=[passed.fileno()])
        try:
            server = os.pidfd_open(int(fifo.readline()))
            client.send_signal(number)
            client.wait(HANG_SECONDS)
            assert status_of_orphan(server) == (os.CLD_EXITED, 0)
        finally:
            client.kill()
            client.wait()


def test_socket_activation_outlives_the_thread_that_started_it():
    """The kernel calls the end of that thread the death of the parent; the process lives on."""
    need("bash")
    os.mkfifo("fifo")
    started = []

    def start():
        started.append(activated([passed], "-P", "fifo", "1M"))
        fifo.readline()

    passed = socket.create_server(("127.0.0.1", 0))
    with open("fifo", "r+b", buffering=0) as fifo, passed:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join(HANG_SECONDS)
        (server,) = started
        try:
            for _ in range(3):
                assert size_at(f"nbd://127.0.0.1:{passed.getsockname()[1]}") == MIB
            server.terminate()
            assert server.wait(HANG_SECONDS) == 0
        finally:
            server.kill()
            server.communicate()


def test_socket_activation_of_another_process():
    """LISTEN_PID is another process, so the variables are not for this server."""
    environment = dict(os.environ, LISTEN_FDS="1", LISTEN_PID="1")
    with running("-U", "s", "1M", env=environment):
        assert size_at(at_socket("s")) == MIB


def test_socket_activation_with_something_else():
    need("bash")
    with open(os.devnull) as null:
        server = activated([null], "1M")
        said, _ = server.communicate(timeout=HANG_SECONDS)
    assert server.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("nbdram: descriptor 3")


def test_single_over_a_socket_pair():
    handle = nbd.NBD()
    handle.connect_command([SERVER, "-s", "1M"])
    handle.pwrite(b"abc", 5)
    assert handle.pread(3, 5) == b"abc"
    handle.shutdown()


def test_single_over_pipes():
    pipe = subprocess.PIPE
    process = subprocess.Popen([SERVER, "-s", "1M"], stdin=pipe, stdout=pipe)
    try:
        assert process.stdout.read(16) == GREETING
        # The client leaves, and the server ends without a signal.
        process.stdin.close()
        assert process.wait(HANG_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
