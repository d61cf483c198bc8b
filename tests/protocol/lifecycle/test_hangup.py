# SPDX-License-Identifier: BSD-3-Clause
"""SIGHUP: the end of a server whose terminal is gone, and for all others a request to read files
again.  test_tls_reload.py has what is read."""

import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
import termios

import pytest

from client import Connection
from credentials import USER
from daemons import NOBODY, at_socket, await_end, daemon, needs_root, running, size_at
from harness import HANG_SECONDS, MIB, SERVER, until
from tls_clients import (
    User,
    copy_certificates,
    encrypt,
    in_folder,
    shown_to,
    write_certificate,
    write_keys,
)

NEWCOMER = "carol"
ENDLESS = "echo $$ > fifo; exec cat never"  # writes its process id, and waits for ever


@contextlib.contextmanager
def terminal():
    """Yields (the descriptor to close, options of a process that this terminal controls)."""
    ours, theirs = os.openpty()
    control = {"preexec_fn": lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)}
    try:
        yield ours, {"start_new_session": True, **control}
    finally:
        os.close(theirs)
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(ours)


def without_terminal():
    return {"start_new_session": True}


def assert_stays(process, path):
    """SIGHUP does not end it.  The client comes later, and is accepted by the same thread."""
    process.send_signal(signal.SIGHUP)
    assert size_at(at_socket(path)) == MIB
    assert process.poll() is None


# Where there is a terminal.


def test_it_ends_with_its_terminal():
    with terminal() as (ours, options), running("-U", "s", "1M", **options) as server:
        assert size_at(at_socket("s")) == MIB
        os.close(ours)
        assert server.process.wait(HANG_SECONDS) == 0
    assert not os.path.exists("s")


def test_on_a_terminal_the_signal_ends_it():
    with terminal() as (_, options), running("-U", "s", "1M", **options) as server:
        assert server.end(signal.SIGHUP) == 0


def test_nohup_on_a_terminal():
    with terminal() as (ours, options):
        control = options["preexec_fn"]

        def become():
            control()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        with running("-U", "s", "1M", **(options | {"preexec_fn": become})) as server:
            os.close(ours)
            assert_stays(server.process, "s")
            assert server.end() == 0


# Where there is none.


def test_in_the_foreground_without_a_terminal_it_stays():
    words = ("-v", "-U", "s", "1M")
    with running(*words, **without_terminal()) as server:
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP: there is no TLS" in server.errors())
        assert size_at(at_socket("s")) == MIB
        assert server.end() == 0


def test_without_tls_nothing_is_logged():
    with running("-U", "s", "1M", **without_terminal()) as server:
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGUSR1)  # handled later, since its number is higher
        until(lambda: "holding data" in server.errors())
        assert "SIGHUP" not in server.errors()
        assert server.end() == 0


def test_in_the_background_it_stays_though_it_was_started_on_a_terminal():
    with terminal() as (ours, options):
        start = subprocess.Popen([SERVER, "-U", "s", "-P", "pid", "1M"], **options)
        assert start.wait(HANG_SECONDS) == 0
        pid = int(pathlib.Path("pid").read_text())
        pidfd = os.pidfd_open(pid)
        try:
            os.close(ours)
            os.kill(pid, signal.SIGHUP)
            assert size_at(at_socket("s")) == MIB
            os.kill(pid, signal.SIGTERM)
            await_end(pidfd)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.close(pidfd)


# With --run, SIGHUP ends the command if it ends the server, and does not reach it otherwise.


@contextlib.contextmanager
def captive(**options):
    """Yields (the server, a pidfd of its command)."""
    os.mkfifo("fifo")
    os.mkfifo("never")
    process = subprocess.Popen([SERVER, "-U", "s", "--run", ENDLESS, "1M"], **options)
    try:
        with open("fifo", "r+b", buffering=0) as fifo:
            child = os.pidfd_open(int(fifo.readline()))
            yield process, child
            await_end(child)
            os.close(child)
    finally:
        process.kill()
        process.wait()


def test_the_command_ends_with_the_terminal():
    with terminal() as (ours, options), captive(**options) as (process, _):
        os.close(ours)
        process.wait(HANG_SECONDS)


def test_the_command_stays_where_there_is_no_terminal():
    with captive(**without_terminal()) as (process, child):
        assert_stays(process, "s")
        signal.pidfd_send_signal(child, 0)  # it still exists
        process.terminate()
        process.wait(HANG_SECONDS)


# Where the files are.


@pytest.mark.parametrize("scheme", ("certificates", "keys"))
def test_relative_paths_in_the_background(secrets, tmp_path, scheme):
    """It is in another folder by then.  Its log is the system's, so look at what it does."""
    folder = copy_certificates(secrets, tmp_path / "pki")
    write_keys(tmp_path / "psk", USER)
    words = {"certificates": ("--tls-certificates", "pki"), "keys": ("--tls-psk", "psk")}
    with daemon("-U", "s", "--tls=require", *words[scheme], "1M") as (pid, _):
        if scheme == "keys":
            write_keys(tmp_path / "psk", NEWCOMER)
            os.kill(pid, signal.SIGHUP)
            until(lambda: User("s", NEWCOMER, tmp_path).is_admitted)
            assert not User("s", USER, tmp_path).is_admitted
            return
        write_certificate(secrets, folder)
        os.kill(pid, signal.SIGHUP)

        def shown():
            with Connection.to("s").greet() as connection:
                return shown_to(encrypt(connection, secrets))

        until(lambda: shown() == in_folder(folder))


@needs_root
def test_another_user_keeps_what_it_cannot_read(open_folder, tmp_path):
    keys = pathlib.Path(open_folder) / "keys"
    write_keys(keys, USER)
    keys.chmod(0o600)
    words = ("-u", NOBODY, "-g", NOBODY, "--tls=require", "--tls-psk", keys)
    with running("-U", "s", *words, "1M", **without_terminal()) as server:
        write_keys(keys, NEWCOMER)
        server.process.send_signal(signal.SIGHUP)
        line = f"SIGHUP: {keys}: Permission denied; what was read before stays in use"
        until(lambda: line in server.errors())
        assert User("s", USER, tmp_path).is_admitted
        assert not User("s", NEWCOMER, tmp_path).is_admitted
        os.chown(keys, int(NOBODY), int(NOBODY))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "was read again" in server.errors())
        assert User("s", NEWCOMER, tmp_path).is_admitted
        assert server.end() == 0
