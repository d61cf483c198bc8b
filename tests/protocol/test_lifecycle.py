# SPDX-License-Identifier: BSD-3-Clause
"""nbdram as a process: how it starts, where it listens, what it leaves, how it ends."""

import contextlib
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import subprocess
import tempfile

import nbd
import pytest

from harness import HANG_SECONDS, MIB, SERVER, adopt_orphans, need, process_status, run
from observe import until

LOOPBACK_CID = 1
GREETING = b"NBDMAGIC" + b"IHAVEOPT"
NOBODY = "65534"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Each test is in an empty folder, and private sockets are made below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)


def await_end(pidfd):
    ready, _, _ = select.select([pidfd], [], [], HANG_SECONDS)
    assert ready, "it goes on"


def status_of_orphan(pidfd):
    """How a process ended that has come to us (adopt_orphans): (code, status) of waitid."""
    await_end(pidfd)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    return ended.si_code, ended.si_status


class Running:
    """A server in the foreground that has written its pid file."""

    def __init__(self, *words, **options):
        os.mkfifo("ready")
        os.chmod("ready", 0o666)  # also for another user
        fifo = os.open("ready", os.O_RDWR | os.O_NONBLOCK)
        self.out = open("out", "w+")
        self.errors = open("errors", "w+")
        self.process = subprocess.Popen(
            [SERVER, "-f", "-P", "ready", *words],
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.errors,
            **options,
        )
        self.pidfd = os.pidfd_open(self.process.pid)
        try:
            ready, _, _ = select.select([fifo, self.pidfd], [], [], HANG_SECONDS)
            assert fifo in ready, self.said()
            assert os.read(fifo, 64) == b"%d\n" % self.process.pid
        except BaseException:
            self.close()
            raise
        finally:
            os.close(fifo)
            os.unlink("ready")

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def printed(self):
        self.out.seek(0)
        return self.out.read()

    def uri(self):
        """Where it says that it is."""
        first = until(lambda: "\n" in self.printed() and self.printed().splitlines()[0])
        return re.search(r"nbds?(\+\w+)?://\S+", first)[0]

    def end(self, number=signal.SIGTERM):
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(HANG_SECONDS)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.pidfd)
        self.out.close()
        self.errors.close()


@contextlib.contextmanager
def running(*words, **options):
    server = Running(*words, **options)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def daemon(*words):
    """Start as users do, in the background; yields (pid, what was printed)."""
    adopt_orphans()
    result = run(SERVER, "-P", "pid", *words)
    pid = int(pathlib.Path("pid").read_text())
    try:
        yield pid, result.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def size_at(uri):
    """The size of the disk that is served there."""
    handle = nbd.NBD()
    handle.connect_uri(uri)
    size = handle.get_size()
    handle.shutdown()
    return size


def at_socket(path):
    return f"nbd+unix:///?socket={os.path.abspath(path)}"


def refused(*words, **options):
    """The one line with which it refuses to start."""
    before = sorted(os.listdir("."))
    result = run(SERVER, *words, check=False, **options)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("nbdram: ")
    assert sorted(os.listdir(".")) == before
    return line


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
        # Though it is in another folder by now.
        assert os.listdir(".") == []


def test_background_prints_the_uri():
    # run() reads to the end of the pipe: the daemon does not hold it open.
    with daemon("-p", "0", "--print-uri", "1M") as (_, printed):
        (uri,) = re.findall(r"nbd://\S+", printed)
        assert size_at(uri) == MIB


def test_background_leaves_no_socket_of_a_failed_start():
    line = refused("-U", "s", "-P", "nofolder/pid", "1M")
    assert "nofolder/pid" in line


def test_two_in_one_place():
    with daemon("-U", "s", "1M"):
        line = refused("-U", "s", "-P", "pid2", "2M")
        assert "another server is listening" in line
        assert size_at(at_socket("s")) == MIB


# In the foreground.


def test_foreground_says_where():
    with running("-U", "s", "1M") as server:
        assert server.uri() == at_socket("s")
        assert server.said() == ""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP]
)
@pytest.mark.parametrize("connected", [False, True])
def test_signals_end_it_well(number, connected):
    with running("-U", "s", "1M") as server:
        handle = nbd.NBD()
        if connected:
            handle.connect_unix("s")
            handle.pwrite(b"x" * 4096, 0)
        assert server.end(number) == 0, server.said()
        assert sorted(os.listdir(".")) == ["errors", "out"]


def ignoring(number):
    """For a process that is to start with a signal ignored."""
    return {"preexec_fn": lambda: signal.signal(number, signal.SIG_IGN)}


def test_nohup():
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


def test_pid_file_of_another_is_left():
    with daemon("-U", "s", "1M") as (pid, _):
        pathlib.Path("pid").write_text("1\n")
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert pathlib.Path("pid").read_text() == "1\n"


@pytest.mark.parametrize("mode", ["-f", "-e ''"])
def test_standard_descriptors_may_be_closed(mode):
    """Nothing of ours may land in a place where prints and errors go."""
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


# Where it listens.


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


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_taken_port():
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
    """Start it as a service manager does, with these sockets from descriptor 3 on."""
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
            # They wait in the backlog until it is ready.
            assert size_at(f"nbd://127.0.0.1:{tcp.getsockname()[1]}") == MIB
            assert size_at(at_socket("s")) == MIB
            server.terminate()
            assert server.wait(HANG_SECONDS) == 0
            # The socket is the service manager's, and still good.
            assert os.path.exists("s")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("s")
        finally:
            server.kill()
            server.communicate()


def test_socket_activation_of_another_process():
    """LISTEN_PID is somebody else's: the variables are not for us."""
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


def test_single_over_socket_pair():
    handle = nbd.NBD()
    handle.connect_command([SERVER, "-s", "1M"])
    handle.pwrite(b"abc", 5)
    assert handle.pread(3, 5) == b"abc"
    handle.shutdown()


def test_single_over_pipes():
    process = subprocess.Popen([SERVER, "-s", "1M"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.read(16) == GREETING
        # The client leaves: so does the server, without a signal.
        process.stdin.close()
        assert process.wait(HANG_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# Captive.

SHOW = 'printf "%s|" "$uri" "$nbd" "$port" "$unixsocket" "$exportname" "$tls"'


def captive(command, *words):
    return run(SERVER, *words, "--run", command, "1M", check=False)


def test_run_variables():
    result = captive(SHOW, "-U", "s's", "-e", "a b/'c'")
    path = os.path.abspath("s's")
    encoded = path.replace("'", "%27")
    uri = f"nbd+unix:///a%20b/%27c%27?socket={encoded}"
    assert result.stdout == f"{uri}|{uri}||{path}|a b/'c'||"
    assert os.listdir(".") == []


def test_run_variables_tcp():
    uri, nbd_, port, path, name, tls, _ = captive(SHOW, "-p", "0").stdout.split("|")
    assert uri == nbd_ == f"nbd://localhost:{port}/"
    assert int(port) > 0
    assert (path, name, tls) == ("", "", "")


def test_run_can_connect():
    need("nbdinfo")
    for place in (("-U", "-"), ("-p", "0")):
        result = captive('nbdinfo --size "$uri"', *place)
        assert (result.returncode, result.stdout) == (0, f"{MIB}\n"), result.stderr
    assert os.listdir(".") == []


@pytest.mark.parametrize(
    "command, status",
    [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("no-such-program", 127)],
)
def test_run_status(command, status):
    assert captive(command, "-U", "-").returncode == status
    assert os.listdir(".") == []


def test_run_ends_with_the_server():
    os.mkfifo("told")
    os.mkfifo("never")  # another one: of two that read, either gets the line
    words = ("-U", "-", "--run", "echo $$ > told; exec cat never", "1M")
    process = subprocess.Popen([SERVER, *words])
    try:
        # Open for writing too: who opens for reading only waits for a writer.
        with open("told", "r+b", buffering=0) as told:
            child = os.pidfd_open(int(told.readline()))
            process.terminate()
            process.wait(HANG_SECONDS)
            await_end(child)
            os.close(child)
    finally:
        process.kill()
        process.wait()
    assert sorted(os.listdir(".")) == ["never", "told"]


def test_run_of_a_command_that_does_not_end():
    os.mkfifo("told")
    os.mkfifo("never")
    # What is ignored stays so for cat, which waits for ever.
    words = ("-U", "-", "--run", "trap '' TERM; echo $$ > told; exec cat never", "1M")
    process = subprocess.Popen([SERVER, *words])
    try:
        with open("told", "r+b", buffering=0) as told:
            child = os.pidfd_open(int(told.readline()))
            process.terminate()
            assert process.wait(HANG_SECONDS) == 0
            await_end(child)
            os.close(child)
    finally:
        process.kill()
        process.wait()
    assert sorted(os.listdir(".")) == ["never", "told"]


def test_run_with_ended_children_ignored():
    result = run(
        SERVER, "-U", "-", "--run", "exit 3", "1M", check=False, **ignoring(signal.SIGCHLD)
    )
    assert result.returncode == 3


def test_run_has_the_descriptors_we_have():
    pathlib.Path("five").write_text("passed on\n")
    command = "cat <&5; for fd in /proc/$$/fd/*; do [ ! -e $fd ] || echo ${fd##*/}; done"
    result = run("sh", "-c", 'exec "$0" -U - --run "$1" 1M 5< five', SERVER, command)
    assert result.stdout.split("\n") == ["passed on", "0", "1", "2", "5", ""]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exit_with_parent(number):
    command = '"$0" -f --exit-with-parent -U s -P told 1M & wait'
    adopt_orphans()
    os.mkfifo("told")
    with open("told", "r+b", buffering=0) as told:
        parent = subprocess.Popen(["sh", "-c", command, SERVER], stdout=subprocess.DEVNULL)
        try:
            server = os.pidfd_open(int(told.readline()))
            parent.send_signal(number)
            parent.wait(HANG_SECONDS)
            assert status_of_orphan(server) == (os.CLD_EXITED, 0)
        finally:
            parent.kill()
            parent.wait()
    assert os.listdir(".") == ["told"]


# What it tells.


def test_usr1_prints_statistics():
    with running("-U", "s", "1M") as server:
        size_at(at_socket("s"))
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: server.said().endswith("\n"))
        assert size_at(at_socket("s")) == MIB
        assert server.end() == 0


def test_statistics_name_the_limit():
    with running("-U", "s", "1G", "limit=64M") as server:
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: " of 64.0 MiB\n" in server.said())


@pytest.mark.parametrize("place, peer", [(("-U", "s"), "unix"), (("-4", "-p", "0"), "127.0.0.1")])
def test_verbose_tells_what_is_refused(place, peer):
    """Once, in one line: who, what, how much, where and why; never what was to be written."""
    with running("-v", *place, "1M") as server:
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.connect_uri(server.uri())
        with pytest.raises(nbd.Error):
            handle.pwrite(b"secret" * 100, MIB - 100)
        (line,) = [line for line in server.said().splitlines() if "write of " in line]
        assert f"write of 600 bytes at {MIB - 100}: " in line
        assert peer in line and "secret" not in server.said()


def accepts_connections(path):
    """The file of a socket exists before anybody listens on it."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def test_nobody_reads_standard_error():
    """What does not fit into the pipe is lost, and nothing waits for it."""
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
        until(lambda: accepts_connections("s"))
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
    """Somebody foresaw the name of the file that is renamed."""
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


# Refusals.


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


# Another user.


@pytest.fixture
def open_folder(monkeypatch):
    """The current folder and that of temporary files let other users in."""
    os.chmod(".", 0o755)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        monkeypatch.setenv("TMPDIR", folder)
        yield folder


@needs_root
def test_other_user(open_folder):
    with running("-U", "-", "-u", NOBODY, "-g", NOBODY, "1M") as server:
        status = process_status(server.process.pid)
        assert set(status["Uid"].split()) == {NOBODY}
        assert set(status["Gid"].split()) == {NOBODY}
        assert status["Groups"].split() in ([], [NOBODY])
        assert size_at(server.uri()) == MIB
        assert server.end() == 0
        # It may remove what was made while it was still root.
        assert os.listdir(open_folder) == []


@needs_root
def test_other_user_still_exits_with_parent(open_folder):
    os.mkfifo("told")
    command = '"$0" -f --exit-with-parent -u "$1" -g "$1" -p 0 -P told 1M & wait'
    os.chmod("told", 0o666)
    with open("told", "r+b", buffering=0) as told:
        parent = subprocess.Popen(
            ["sh", "-c", command, SERVER, NOBODY], stdout=subprocess.DEVNULL
        )
        try:
            server = os.pidfd_open(int(told.readline()))
            parent.kill()
            parent.wait(HANG_SECONDS)
            assert status_of_orphan(server) == (os.CLD_EXITED, 0)
        finally:
            parent.kill()
            parent.wait()


# Locked memory.


def locked_bytes(*words):
    """What such a server has locked; None if this machine does not let it."""
    result = run(SERVER, "-U", "-", "--run", "cat /proc/$PPID/status", *words, check=False)
    if result.returncode:
        assert "lock" in result.stderr
        return None
    return int(re.search(r"^VmLck:\s*(\d+) kB", result.stdout, re.M)[1]) << 10


def test_swap_locks_what_the_loops_need_and_no_disk():
    one, four = (locked_bytes("--swap", "-t", n, "256M", "allocator=malloc") for n in "14")
    if not one or not four:
        pytest.skip("no memory can be locked")
    assert four - one >= 3 * (128 << 10)
    assert four < 128 * MIB


@needs_root
@pytest.mark.parametrize("words", [("64M", "allocator=malloc,mlock=true"), ("--swap", "1M")])
def test_other_user_has_memory_locked(open_folder, words):
    own = locked_bytes(*words)
    if own is None:
        pytest.skip("even root may not lock that much")
    others = locked_bytes("-u", NOBODY, "-g", NOBODY, *words)
    assert others is not None
    assert others >= own // 2


@needs_root
def test_limit_on_locked_memory_is_named(open_folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (MIB, MIB))

    os.chmod(".", 0o777)
    try:
        line = refused(
            *("-U", "s", "64M", "allocator=malloc,mlock=true"),
            user=int(NOBODY),
            group=int(NOBODY),
            extra_groups=[],
            preexec_fn=limit,
        )
    except PermissionError:
        pytest.skip("other users cannot run this build")
    assert "RLIMIT_MEMLOCK" in line
