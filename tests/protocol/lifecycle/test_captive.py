# SPDX-License-Identifier: BSD-3-Clause
"""--run: the command's variables, descriptors and end; and --exit-with-parent."""

import os
import pathlib
import signal
import subprocess

import pytest

from daemons import await_end, ignoring, status_of_orphan
from harness import HANG_SECONDS, MIB, SERVER, adopt_orphans, need, run

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


# {name: the command}.  It writes its process id, and then waits forever.
ENDLESS = {
    "obedient": "echo $$ > fifo; exec cat never",
    "stubborn": "trap '' TERM; echo $$ > fifo; exec cat never",  # cat ignores SIGTERM, too
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_run_ends_with_the_server(kind):
    os.mkfifo("fifo")
    os.mkfifo("never")  # not the same one: of two readers, either might get the line
    process = subprocess.Popen([SERVER, "-U", "-", "--run", ENDLESS[kind], "1M"])
    try:
        # Open it for writing too: to open it for reading only waits for a writer.
        with open("fifo", "r+b", buffering=0) as fifo:
            child = os.pidfd_open(int(fifo.readline()))
            process.terminate()
            status = process.wait(HANG_SECONDS)
            assert status == 0 or kind == "obedient"
            await_end(child)
            os.close(child)
    finally:
        process.kill()
        process.wait()
    assert sorted(os.listdir(".")) == ["fifo", "never"]


def test_run_with_sigchld_ignored():
    result = run(
        SERVER, "-U", "-", "--run", "exit 3", "1M", check=False, **ignoring(signal.SIGCHLD)
    )
    assert result.returncode == 3


def test_run_inherits_our_descriptors():
    pathlib.Path("five").write_text("passed on\n")
    command = "cat <&5; for fd in /proc/$$/fd/*; do [ ! -e $fd ] || echo ${fd##*/}; done"
    result = run("sh", "-c", 'exec "$0" -U - --run "$1" 1M 5< five', SERVER, command)
    assert result.stdout.split("\n") == ["passed on", "0", "1", "2", "5", ""]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exit_with_parent(number):
    command = '"$0" -f --exit-with-parent -U s -P fifo 1M & wait'
    adopt_orphans()
    os.mkfifo("fifo")
    with open("fifo", "r+b", buffering=0) as fifo:
        parent = subprocess.Popen(["sh", "-c", command, SERVER], stdout=subprocess.DEVNULL)
        try:
            server = os.pidfd_open(int(fifo.readline()))
            parent.send_signal(number)
            parent.wait(HANG_SECONDS)
            assert status_of_orphan(server) == (os.CLD_EXITED, 0)
        finally:
            parent.kill()
            parent.wait()
    assert os.listdir(".") == ["fifo"]
