# SPDX-License-Identifier: BSD-3-Clause
"""How nbdram starts, in the background and in the foreground, what it leaves, how it ends."""

import contextlib
import fcntl
import os
import pathlib
import re
import select
import signal
import subprocess

import nbd
import pytest

from daemons import at_socket, daemon, ignoring, refused, running, size_at
from harness import HANG_SECONDS, MIB, SERVER, adopt_orphans, need, run, until

# In the background.


def test_background_serves_when_the_command_returns():
    with daemon("-U", "s", "1M") as (pid, _):
        assert size_at(at_socket("s")) == MIB
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) == pid
        for fd in range(3):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
        assert pathlib.Path("pid").read_text() == f"{pid}\n"
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, 0)
        # It is in another folder by now, and removes its files all the same.
        assert os.listdir(".") == []


def test_background_prints_the_uri():
    # run() reads to the end of the pipe, so the daemon does not hold it open.
    with daemon("-p", "0", "--print-uri", "1M") as (_, printed):
        (uri,) = re.findall(r"nbd://\S+", printed)
        assert size_at(uri) == MIB


def descriptors_of(pid):
    return {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def test_background_lets_inherited_descriptors_go():
    """A lock is released, and who reads a pipe sees its end."""
    reader, writer = os.pipe()
    adopt_orphans()
    with open("lock", "w") as lock, open("9", "w") as other:
        fcntl.flock(lock, fcntl.LOCK_EX)
        passed = (lock.fileno(), other.fileno(), writer)
        run(SERVER, "-U", "s", "-P", "pid", "1M", pass_fds=passed)
        pid = int(pathlib.Path("pid").read_text())
        os.close(writer)
    try:
        with open("lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ready, _, _ = select.select([reader], [], [], HANG_SECONDS)
        assert ready and os.read(reader, 1) == b""
        places = descriptors_of(pid).values()
        folder = os.getcwd() + "/"
        assert [place for place in places if place.startswith(folder)] == [f"{folder}pid"]
        assert size_at(at_socket("s")) == MIB
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, 0)


def test_background_uses_an_inherited_descriptor_before_it_goes():
    with open("given", "w+") as given:
        adopt_orphans()
        fd = given.fileno()
        run(SERVER, "-U", "s", "-P", f"/dev/fd/{fd}", "1M", pass_fds=(fd,))
        given.seek(0)
        pid = int(given.read())
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_background_logs_to_standard_error_if_it_is_told_to():
    adopt_orphans()
    with open("errors", "w+") as errors:
        command = [SERVER, "--log=stderr", "-U", "s", "-P", "pid", "1M"]
        subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, check=True)
    pid = int(pathlib.Path("pid").read_text())
    try:
        os.kill(pid, signal.SIGUSR1)
        until(lambda: "resident" in pathlib.Path("errors").read_text())
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, 0)


def test_a_failed_start_leaves_no_socket():
    line = refused("-U", "s", "-P", "nofolder/pid", "1M")
    assert "nofolder/pid" in line


def test_two_servers_at_one_socket():
    with daemon("-U", "s", "1M"):
        line = refused("-U", "s", "-P", "pid2", "2M")
        assert "another server is listening" in line
        assert size_at(at_socket("s")) == MIB


# In the foreground.


def test_foreground_prints_the_uri():
    with running("-U", "s", "1M") as server:
        assert server.uri() == at_socket("s")
        assert server.errors() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("connected", [False, True])
def test_signals_end_it_well(number, connected):
    with running("-U", "s", "1M") as server:
        handle = nbd.NBD()
        if connected:
            handle.connect_unix("s")
            handle.pwrite(b"x" * 4096, 0)
        assert server.end(number) == 0, server.errors()
        assert sorted(os.listdir(".")) == ["errors", "out"]


def test_nohup():
    """SIGHUP stays ignored if it was ignored from the start."""
    with running("-U", "s", "1M", **ignoring(signal.SIGHUP)) as server:
        server.process.send_signal(signal.SIGHUP)
        assert size_at(at_socket("s")) == MIB
        assert server.end() == 0


def test_leftover_socket_is_replaced():
    with running("-U", "s", "1M") as server:
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert os.path.exists("s")
    with running("-U", "s", "2M"):
        assert size_at(at_socket("s")) == 2 * MIB


def test_private_socket_is_removed():
    with running("-U", "-", "1M") as server:
        uri = server.uri()
        assert uri.startswith(f"nbd+unix:///?socket={os.getcwd()}/")
        assert size_at(uri) == MIB
        assert server.end() == 0
        assert sorted(os.listdir(".")) == ["errors", "out"]


def test_pid_file_of_another_server_is_left():
    with daemon("-U", "s", "1M") as (pid, _):
        pathlib.Path("pid").write_text("1\n")
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert pathlib.Path("pid").read_text() == "1\n"


def test_pid_file_of_a_running_server_is_refused():
    with daemon("-U", "s", "1M") as (pid, _):
        for mode in ((), ("-f",)):
            line = refused(*mode, "-U", "s2", "-P", "pid", "1M")
            assert f"the pid file pid is that of process {pid}, which runs" in line
        assert pathlib.Path("pid").read_text() == f"{pid}\n"
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, 0)
    assert os.listdir(".") == []


def test_pid_file_of_a_server_that_was_killed_is_replaced():
    with daemon("-U", "s", "1M") as (killed, _):
        os.kill(killed, signal.SIGKILL)
        os.waitpid(killed, 0)
        assert os.path.exists("pid")
        with daemon("-U", "s", "1M") as (pid, _):
            assert pid != killed


@pytest.mark.parametrize("text", ["", "1\n", "999999999\n"])
def test_pid_file_is_not_refused_for_its_number_or_its_lock_alone(text):
    """A process has got the number of a server that was killed; flock(1) holds the lock."""
    pathlib.Path("pid").write_text(text)
    with open("pid") as other:
        if text != "1\n":
            fcntl.flock(other, fcntl.LOCK_EX)
        with daemon("-U", "s", "1M"):
            assert size_at(at_socket("s")) == MIB


@pytest.mark.parametrize("mode", ["-f", "-e ''"])
def test_standard_descriptors_may_be_closed(mode):
    """No descriptor of the server's may take the number of standard output or error."""
    command = f'exec "$0" {mode} -U s -P pid --log=stderr -v 1M <&- >&- 2>&-'
    adopt_orphans()
    process = subprocess.Popen(["sh", "-c", command, SERVER])
    pid = process.pid
    try:
        pid = int(until(lambda: os.path.exists("pid") and pathlib.Path("pid").read_text()))
        assert size_at(at_socket("s")) == MIB
        for fd in range(3):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
        os.kill(pid, signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 0
        until(lambda: not os.path.exists("s"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


# Refusals.


def test_a_folder_for_the_socket_that_is_missing(monkeypatch):
    monkeypatch.setenv("TMPDIR", os.path.abspath("nofolder"))
    assert "set TMPDIR to a folder" in refused("-U", "-", "1M")


def test_too_few_descriptors_for_the_threads():
    need("prlimit")
    result = run("prlimit", "--nofile=8", SERVER, "-f", "-U", "s", "1M", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "raise the limit on descriptors (ulimit -n)" in line


@pytest.mark.parametrize("mode", [(), ("-f",)])
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-U", "s"),
        ("-U", "s", "1MiB"),
        ("-U", "s", "1M", "allocator=s"),
        ("-U", "s", "1M", "nosuch=1"),
        ("-U", "s", "--no-such-option", "1M"),
        ("-U", "nofolder/s", "1M"),
        ("-U", "x" * 108, "1M"),
        ("-U", ".", "1M"),
        ("-U", "s", "-P", "nofolder/pid", "1M"),
        ("-U", "s", "-u", "no-such-user", "1M"),
        ("-U", "-", "-g", "no-such-group", "1M"),
        ("-U", "s", "--tls=require", "--tls-certificates", "nofolder", "1M"),
        ("-U", "s", "--tls=require", "--tls-psk", "nofile", "1M"),
        ("-U", "s", "--tls=require", "--tls-psk", "/", "1M"),
        ("-U", "s", "--stats", "nofolder/stats", "1M"),
        ("-p", "65536", "1M"),
        ("-p", "0", "-i", "300.1.2.3", "1M"),
    ],
)
def test_refusal_is_one_line(mode, words):
    refused(*mode, *words)
