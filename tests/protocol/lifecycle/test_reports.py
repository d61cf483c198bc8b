# SPDX-License-Identifier: BSD-3-Clause
"""What nbdram reports: statistics on SIGUSR1 and in a file, refused requests in the log."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess

import nbd
import pytest

from daemons import at_socket, refused, running, size_at
from harness import HANG_SECONDS, MIB, SERVER, accepts, run, until


def test_usr1_prints_statistics():
    with running("-U", "s", "1M") as server:
        size_at(at_socket("s"))
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: server.errors().endswith("\n"))
        assert size_at(at_socket("s")) == MIB
        assert server.end() == 0


def test_statistics_name_the_limit():
    with running("-U", "s", "1G", "limit=64M") as server:
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: " of 64.0 MiB\n" in server.errors())


@pytest.mark.parametrize("place, peer", [(("-U", "s"), "unix"), (("-4", "-p", "0"), "127.0.0.1")])
def test_verbose_names_a_refused_request(place, peer):
    """One line has the peer, the command, its length and offset, and the reason, but no data."""
    with running("-v", *place, "1M") as server:
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.connect_uri(server.uri())
        with pytest.raises(nbd.Error):
            handle.pwrite(b"secret" * 100, MIB - 100)
        (line,) = until(
            lambda: [line for line in server.errors().splitlines() if "write of " in line]
        )
        assert f"write of 600 bytes at {MIB - 100}: " in line
        assert peer in line and "secret" not in server.errors()


def test_standard_error_that_is_not_read():
    """Messages wait for the reader, or are lost; nothing else waits."""
    unread, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, b"x" * 4096)
    os.set_blocking(full, True)
    server = subprocess.Popen(
        [SERVER, "-f", "-v", "-t", "1", "-U", "s", "1M"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=full,
    )
    os.close(full)
    try:
        until(lambda: accepts("s"))
        for _ in range(20):
            server.send_signal(signal.SIGUSR1)
            assert size_at(at_socket("s")) == MIB
        # It goes on when there is room again.
        os.read(unread, 1 << 20)
        server.send_signal(signal.SIGUSR1)
        seen = b""
        while b"\n  resident" not in seen:
            assert select.select([unread], [], [], HANG_SECONDS)[0]
            seen += os.read(unread, 4096)
        server.terminate()
        assert server.wait(HANG_SECONDS) == 0
    finally:
        server.kill()
        server.wait()
        os.close(unread)


def test_terminal_that_is_not_read():
    """It says that it has room, and then there is none for a whole line."""
    unread, terminal = os.openpty()
    try:
        server = subprocess.Popen(
            [SERVER, "-f", "-v", "-t", "1", "-U", "s", "1M"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
        )
        try:
            until(lambda: accepts("s"))
            for _ in range(1000):  # a line each: a terminal has room for some 400
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(HANG_SECONDS)
                    client.connect("s")
                    assert client.recv(18)
            assert size_at(at_socket("s")) == MIB
            server.terminate()
            assert server.wait(HANG_SECONDS) == 0
        finally:
            server.kill()
            server.wait()
    finally:
        os.close(unread)
        os.close(terminal)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("there", path)])
def test_statistics_replace_regular_files_only(make):
    make("stats")
    before = os.lstat("stats")
    assert "a regular file" in refused("-U", "s", "--stats", "stats", "1M")
    after = os.lstat("stats")
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("mode", [(), ("-f",)])
def test_statistics_that_cannot_be_written(mode):
    assert "--stats=/proc/stats: " in refused(*mode, "-U", "s", "--stats", "/proc/stats", "1M")


def test_statistics_are_not_written_through_a_link():
    """An attacker has guessed the name of the file that will be renamed."""
    pathlib.Path("precious").write_text("old")
    script = 'ln -s precious .stats.$$; exec "$0" -U - --stats stats --run : 1M'
    run("sh", "-c", script, SERVER)
    assert pathlib.Path("precious").read_text() == "old"
    assert isinstance(json.loads(pathlib.Path("stats").read_text()), dict)
    assert not os.path.islink("stats")
    assert sorted(os.listdir(".")) == ["precious", "stats"]


def test_statistics_are_whole_at_all_times():
    with running("-U", "s", "--stats", "stats", "1M") as server:
        handle = nbd.NBD()
        handle.connect_unix("s")
        seen = set()
        text = ""
        for i in range(200):
            handle.pwrite(b"x" * 4096, i * 4096)
            server.process.send_signal(signal.SIGUSR1)  # written anew
            size_at(at_socket("s"))
            if os.path.exists("stats"):
                text = pathlib.Path("stats").read_text()
                seen.add(text)
                assert isinstance(json.loads(text), dict)
        handle.shutdown()
        assert server.end() == 0
        final = pathlib.Path("stats").read_text()
        assert isinstance(json.loads(final), dict)
        assert final != text
        assert len(seen) > 1
        assert sorted(os.listdir(".")) == ["errors", "out", "stats"]
