# SPDX-License-Identifier: BSD-3-Clause
"""Faults from nbdram's start to its end (trial.py)."""

import os
import shutil

import nbd
import pytest

import harness
from credentials import USER
from harness import ALLOCATORS, adopt_orphans, until
from trial import Trial, live_through, numbers

NOBODY = "65534"
EVERYTHING = ("-U", "s", "-P", "pid", "--stats", "stats")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("calls", ("heap", "pages", "threads"))
def test_without_memory(tmp_path, rng, calls, allocator):
    words = (*EVERYTHING, f"allocator={allocator}")
    live_through(tmp_path, words, rng, calls=calls, allocator=allocator)


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_without_pages_for_long(tmp_path, rng, allocator):
    """The engine tries again after a single failure.  After many, writes are refused."""
    words = ("-U", "s", f"allocator={allocator}")
    live_through(tmp_path, words, rng, times=1000, calls="pages", allocator=allocator)


@pytest.mark.parametrize("calls", ("descriptors", "files", "sockets", "watching", "process"))
def test_with_files(tmp_path, rng, calls):
    live_through(tmp_path, EVERYTHING, rng, calls=calls)


@pytest.mark.parametrize("calls", ("descriptors", "sockets", "heap"))
def test_at_a_port(tmp_path, rng, calls):
    live_through(tmp_path, ("-p", "0", "--keepalive"), rng, calls=calls)


@pytest.mark.parametrize("calls", ("pages", "threads"))
def test_locked_into_memory(tmp_path, rng, calls):
    words = ("-U", "s", "--swap", "allocator=malloc,mlock=true")
    live_through(tmp_path, words, rng, calls=calls, allocator="malloc")


@needs_root
def test_as_another_user(tmp_path, rng):
    """A server that cannot give up a privilege does not serve."""

    def serve(trial):
        status = harness.process_status(trial.victim.pid)
        for kind in ("Uid", "Gid", "Groups"):
            assert set(status[kind].split()) == {NOBODY}, status[kind]
        trial.serve()

    live_through(tmp_path, ("-4", "-p", "0", "-u", NOBODY), rng, serve, calls="process")


def test_with_keys(tmp_path, rng):
    """All keys are read or none, also one whose line is longer than the first buffer for it."""
    keys = tmp_path / "keys"
    keys.write_text(f"bob:{'01' * 16}\n{USER}:{'5a' * 60}\n")

    def get_in(trial):
        handle = nbd.NBD()
        handle.set_tls(nbd.TLS_REQUIRE)
        handle.set_tls_psk_file(str(keys))
        handle.set_tls_username(USER)
        harness.errno_of(handle.connect_unix, str(trial.folder / "s"))
        return handle.aio_is_ready()

    def serve(trial):
        failed = trial.shim.failed
        if not get_in(trial) or trial.shim.failed > failed:
            trial.shim.disarm()
            assert trial.shim.failed > failed and get_in(trial)

    live_through(tmp_path, ("-U", "s", "--tls-psk", keys), rng, serve, calls="heap")


@pytest.mark.parametrize("calls", ("heap", "threads", "descriptors", "process"))
def test_for_a_command(tmp_path, rng, calls):
    """--run: the command is run as a whole, or not at all."""
    words = ("-U", "-", "--run", f": {'x' * 9000}; exit 3")
    for runs, n in enumerate(numbers(dense=200)):  # few calls have to do with the command
        trial = Trial(tmp_path / str(n), words, rng, calls=calls)
        trial.shim.arm(n)
        with trial.running():
            assert not trial.victim.await_ready()  # it prints no URI, and ends
            if trial.victim.status != 3:
                trial.check_refusal()
            trial.check_left()
        if not trial.shim.failed:
            assert runs > 0, "nothing was put to the test"
            return
        shutil.rmtree(trial.folder)


def await_no_children():
    """Wait until the processes of a daemon that did not start have ended."""

    def is_last():
        try:
            return os.waitpid(-1, os.WNOHANG) and False
        except ChildProcessError:
            return True

    until(is_last, hangs=lambda: "a child process stays")


@pytest.mark.parametrize("calls", ("heap", "threads", "descriptors", "process", "files"))
def test_in_the_background(tmp_path, rng, calls):
    """Either the command succeeds and there is a server, or it fails and there is none."""
    adopt_orphans()
    for runs, n in enumerate(numbers()):
        trial = Trial(tmp_path / str(n), EVERYTHING, rng, calls=calls)
        trial.shim.arm(n)
        with trial.running():
            if trial.victim.await_background():
                trial.serve()
                trial.victim.stop()
            else:
                trial.check_refusal()
            await_no_children()
            trial.check_left()
        if not trial.shim.failed:
            assert runs > 0, "nothing was put to the test"
            return
        shutil.rmtree(trial.folder)
