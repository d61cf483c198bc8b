# SPDX-License-Identifier: BSD-3-Clause
"""-u and -g: nbdram gives up root's privileges, after it has used them for its start."""

import contextlib
import grp
import os
import pathlib
import pwd
import random
import signal
import socket
import stat
import subprocess

import nbd
import pytest

from credentials import USER
from daemons import (
    NOBODY,
    at_socket,
    await_end,
    needs_root,
    running,
    size_at,
    status_of_orphan,
)
from harness import HANG_SECONDS, MIB, SERVER, adopt_orphans, need, process_status, run

pytestmark = needs_root

BECOME_NOBODY = ("-u", NOBODY, "-g", NOBODY)
CAPABILITIES = ("CapEff", "CapPrm", "CapInh", "CapAmb")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Others may look into it, and not write."""
    os.chmod(tmp_path, 0o755)
    monkeypatch.chdir(tmp_path)


def statuses_of_threads(pid):
    return [process_status(f"{pid}/task/{task}") for task in os.listdir(f"/proc/{pid}/task")]


def assert_powerless(status):
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {NOBODY}
    assert status["Groups"].split() == [NOBODY]
    assert {int(status[name], 16) for name in CAPABILITIES} == {0}


def name_and_group():
    entry = pwd.getpwuid(int(NOBODY))
    return ("-u", entry.pw_name, "-g", grp.getgrgid(entry.pw_gid).gr_name)


@pytest.mark.parametrize("words", [BECOME_NOBODY, ("-u", NOBODY), name_and_group()])
def test_every_thread_is_another_user(words):
    disk = ("1M", "allocator=zstd")
    with running("-p", "0", "-t", "3", *words, *disk, extra_groups=[0, 1, 2]) as server:
        threads = statuses_of_threads(server.process.pid)
        assert len(threads) > 3
        for status in threads:
            assert_powerless(status)
            assert status["NoNewPrivs"].strip() == "1"
        assert size_at(server.uri()) == MIB
        assert server.end() == 0


def test_private_socket_is_removed_by_another_user(open_folder):
    with running("-U", "-", "-u", NOBODY, "-g", NOBODY, "1M") as server:
        status = process_status(server.process.pid)
        assert set(status["Uid"].split()) == {NOBODY}
        assert set(status["Gid"].split()) == {NOBODY}
        assert status["Groups"].split() in ([], [NOBODY])
        assert size_at(server.uri()) == MIB
        assert server.end() == 0
        # It may remove the files that it made while it was still root.
        assert os.listdir(open_folder) == []


def as_nobody(*command):
    need("setpriv")
    become = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
    if run(*become, SERVER, "--version", check=False).returncode:
        pytest.skip("other users cannot run this build")
    return run(*become, *command, check=False)


def can_connect_as_nobody(path):
    need("nbdinfo")
    return as_nobody("nbdinfo", "--size", at_socket(path)).returncode == 0


@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_socket_belongs_to_the_user(open_folder, mask, mode):
    """The user can connect, and removes the file where the folder permits that."""
    os.chmod(open_folder, mode)
    path = f"{open_folder}/s"
    umask = {"preexec_fn": lambda: os.umask(mask)}
    with running("-U", path, "-u", NOBODY, "1M", **umask) as server:
        status = os.stat(path)
        assert (status.st_uid, status.st_gid) == (int(NOBODY), 0)
        assert stat.S_IMODE(status.st_mode) == 0o777 & ~mask
        assert can_connect_as_nobody(path)
        assert server.end() == 0
    assert os.path.exists(path) == (mode == 0o755)


@pytest.mark.parametrize("mode, expected", [("660", True), ("600", False)])
def test_socket_has_the_mode_and_the_group_that_are_given(open_folder, mode, expected):
    path = f"{open_folder}/s"
    words = ("-U", path, "--socket-mode", mode, "--socket-group", NOBODY)
    with running(*words, "1M") as server:
        status = os.stat(path)
        assert (status.st_uid, status.st_gid) == (0, int(NOBODY))
        assert stat.S_IMODE(status.st_mode) == int(mode, 8)
        assert can_connect_as_nobody(path) == expected
        assert server.end() == 0


@pytest.mark.parametrize("words", [("-u", NOBODY), BECOME_NOBODY])
def test_the_user_that_one_already_is_needs_no_root(open_folder, words):
    result = as_nobody(SERVER, "-U", "-", *words, "--run", "id -u", "1M")
    assert (result.stdout, result.stderr) == (f"{NOBODY}\n", "")


def test_only_root_becomes_another_user(open_folder):
    result = as_nobody(SERVER, "-p", "0", "-u", "0", "--run", "id -u", "1M")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "only root may" in line


def test_another_user_still_exits_with_the_parent(open_folder):
    adopt_orphans()
    os.mkfifo("fifo")
    command = '"$0" -f --exit-with-parent -u "$1" -g "$1" -p 0 -P fifo 1M & wait'
    os.chmod("fifo", 0o666)
    with open("fifo", "r+b", buffering=0) as fifo:
        parent = subprocess.Popen(
            ["sh", "-c", command, SERVER, NOBODY], stdout=subprocess.DEVNULL
        )
        try:
            server = os.pidfd_open(int(fifo.readline()))
            parent.kill()
            parent.wait(HANG_SECONDS)
            assert status_of_orphan(server) == (os.CLD_EXITED, 0)
        finally:
            parent.kill()
            parent.wait()


def test_command_has_the_rights_of_who_started_it(open_folder):
    """It reads and may do what nbdram may not any more; so it is after nbdkit."""
    command = "cat /proc/self/status; cat /proc/$PPID/status; cat secret; nbdinfo --size $uri"
    pathlib.Path("secret").touch(0o600)
    words = ("-U", "-", *BECOME_NOBODY, "--run", command, "1M")
    texts = run(SERVER, *words).stdout.split("Name:")
    command, server = (
        dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        for text in texts[1:]
    )
    ours = process_status("self")
    for name in ("Uid", "Gid", "Groups", "NoNewPrivs", *CAPABILITIES):
        assert command[name] == ours[name]
    assert_powerless(server)
    assert server["NoNewPrivs"].strip() == "1"
    assert texts[-1].endswith(f"\n{MIB}\n")


# {name: the command}.  It writes its process id, and then waits forever.
ENDLESS = {
    "obedient": "echo $$ > fifo; exec cat never",
    "stubborn": "trap '' TERM; echo $$ > fifo; exec cat never",  # cat ignores SIGTERM, too
}


@pytest.mark.parametrize(
    "number, kind", [("TERM", "obedient"), ("TERM", "stubborn"), ("KILL", "obedient")]
)
def test_command_ends_with_a_server_that_may_not_send_it_signals(open_folder, number, kind):
    os.mkfifo("fifo")
    os.mkfifo("never")
    adopt_orphans()
    process = subprocess.Popen(
        [SERVER, "-U", "-", *BECOME_NOBODY, "--run", ENDLESS[kind], "1M"]
    )
    try:
        # Open it for writing too: to open it for reading only waits for a writer.
        with open("fifo", "r+b", buffering=0) as fifo:
            child = os.pidfd_open(int(fifo.readline()))
            process.send_signal(signal.Signals[f"SIG{number}"])
            process.wait(HANG_SECONDS)
            await_end(child)
            os.close(child)
    finally:
        process.kill()
        process.wait()
        reap_orphans()


@pytest.mark.parametrize("scheme", ("keys", "certificates"))
def test_secrets_are_read_before(secrets, scheme):
    """The server cannot read them any more, and needs not."""
    files = [secrets.keys, *secrets.certificates.glob("*-key.pem")]
    for path in files:
        os.chmod(path, 0o600)
        assert path.stat().st_uid == 0 and stat.S_IMODE(path.stat().st_mode) == 0o600
    flags = ("--tls=require", *secrets.flags(scheme))
    with running("-4", "-p", "0", *BECOME_NOBODY, *flags, "1M") as server:
        assert_powerless(process_status(server.process.pid))
        for _ in range(2):
            handle = nbd.NBD()
            if scheme == "keys":
                handle.set_tls_psk_file(str(secrets.keys))
            else:
                handle.set_tls_certificates(str(secrets.nobody))
            handle.set_tls_username(USER)
            handle.connect_uri(server.uri())
            assert handle.get_tls_negotiated()
            handle.shutdown()
        assert server.end() == 0, server.errors()


def test_pid_file_that_was_prepared():
    """In a folder that the other user may not write to: it is written, and not replaced."""
    path = pathlib.Path("pid")
    path.touch()
    os.chown(path, int(NOBODY), int(NOBODY))
    before = path.stat().st_ino
    words = ("-U", "-", *BECOME_NOBODY, "-P", "pid", "--run", "echo $PPID; cat pid", "1M")
    printed = run(SERVER, *words).stdout.split()
    assert len(printed) == 2 and printed[0] == printed[1]
    assert path.stat().st_ino == before


def reap_orphans():
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def free_low_port():
    """One that only root can listen at."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    for port in random.sample(range(512, first), max(first - 512, 0)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except PermissionError:
            pytest.skip("this root may not listen at a low port")
        except OSError:
            continue
        return str(port)
    pytest.skip("here anybody may listen at low ports, or they are all taken")


def test_low_port_is_bound_before():
    port = free_low_port()
    with running("-4", "-p", port, *BECOME_NOBODY, "1M") as server:
        assert_powerless(process_status(server.process.pid))
        assert size_at(f"nbd://127.0.0.1:{port}") == MIB
        assert server.end() == 0


def test_low_port_is_refused_to_others():
    """So the test above shows something."""
    result = as_nobody(SERVER, "-f", "-4", "-p", free_low_port(), "1M")
    assert result.returncode == 1
    assert "Permission denied" in result.stderr
