# SPDX-License-Identifier: BSD-3-Clause
"""SIGHUP: nbdram reads certificates, keys and revocations again, while connections stay.

The clients are Python's ssl (OpenSSL) for certificates, and libnbd (GnuTLS) for keys.
"""

import contextlib
import os
import shutil
import signal
import threading

import pytest

from credentials import KEY, USER
from harness import MIB, until
from observe import await_clients, descriptors, resident, resident_is_meaningful
from tls_clients import (
    User,
    assert_serves,
    copy_certificates,
    encrypt,
    in_folder,
    is_admitted,
    shown_to,
    write_certificate,
    write_keys,
)

SIZE = 16 * MIB
NEWCOMER = "carol"
TWO_SPANS = [(f"202{n}0101000000Z", "20900101000000Z") for n in (1, 2)]  # both hold now


# The server.


@pytest.fixture
def folder(secrets, tmp_path):
    """The server's certificates, which tests replace."""
    return copy_certificates(secrets, tmp_path / "pki")


@pytest.fixture
def keys(tmp_path):
    """The server's file of keys."""
    made = tmp_path / "keys.psk"
    write_keys(made, USER)
    return made


@pytest.fixture
def start(nbdram):
    """start("--tls-psk", path) -> a server that requires TLS."""
    return lambda *flags: nbdram(str(SIZE), flags=("--tls=require", *flags))


def log_lines(server):
    """What the log says about SIGHUP."""
    log = (server.socket.parent / "stderr").read_text()
    return [line for line in log.splitlines() if "SIGHUP: " in line]


def reload(server):
    """Send SIGHUP, and return the line about it."""
    before = len(log_lines(server))
    os.kill(server.pid, signal.SIGHUP)
    until(
        lambda: len(log_lines(server)) > before or not server.is_alive(), hangs=server.errors
    )
    assert server.is_alive(), "SIGHUP has ended it"
    (line,) = log_lines(server)[before:]
    return line


def reload_well(server):
    assert "was read again" in reload(server)


# What is read again.


def test_new_clients_see_the_new_certificate(start, speak, secrets, folder, rng):
    server = start("--tls-certificates", folder)
    old, halfway = encrypt(speak(server), secrets), speak(server)
    before = in_folder(folder)
    write_certificate(secrets, folder)
    assert shown_to(encrypt(speak(server), secrets)) == before  # nothing is read without a signal
    reload_well(server)
    assert_serves(old, rng)
    assert shown_to(old) == before
    for connection in (speak(server), halfway):
        assert shown_to(encrypt(connection, secrets)) == in_folder(folder) != before
        assert_serves(connection, rng)
    assert_serves(old, rng)


def test_new_clients_are_verified_with_the_new_authority(start, speak, secrets, folder):
    server = start("--tls-certificates", folder, "--tls-verify-peer")
    ours, theirs = secrets.ours.pair("client"), secrets.others.pair("client")
    assert is_admitted(speak(server), secrets, ours)
    assert not is_admitted(speak(server), secrets, theirs)
    shutil.copy(secrets.others.certificate, folder / "ca-cert.pem")
    reload_well(server)
    assert not is_admitted(speak(server), secrets, ours)
    assert is_admitted(speak(server), secrets, theirs)


def test_revocations(start, speak, secrets, folder, rng):
    server = start("--tls-certificates", folder, "--tls-verify-peer")
    identity, other = (secrets.ours.pair("client", dates) for dates in TWO_SPANS)
    old = encrypt(speak(server), secrets, identity)
    (folder / "ca-crl.pem").write_bytes(secrets.ours.revocations(identity[0]))
    reload_well(server)
    assert not is_admitted(speak(server), secrets, identity)
    until(lambda: "revoked" in server.errors())
    assert_serves(old, rng)
    assert is_admitted(speak(server), secrets, other)
    (folder / "ca-crl.pem").unlink()
    reload_well(server)
    assert is_admitted(speak(server), secrets, identity)


def test_users_come_and_go(start, keys, tmp_path, rng):
    server = start("--tls-psk", keys)
    old = User(server.socket, USER, tmp_path)
    assert not User(server.socket, NEWCOMER, tmp_path).is_admitted
    write_keys(keys, NEWCOMER)
    reload_well(server)
    new = User(server.socket, NEWCOMER, tmp_path)
    assert new.is_admitted
    assert not User(server.socket, USER, tmp_path).is_admitted
    old.assert_served(rng)
    new.assert_served(rng)
    assert KEY not in server.errors()


def test_folders_are_often_replaced_by_a_link(start, speak, secrets, folder, tmp_path):
    now, link = tmp_path / "now", tmp_path / "link"
    shutil.copytree(folder, now)
    link.symlink_to(folder)
    server = start("--tls-certificates", link)
    write_certificate(secrets, now)
    link.unlink()
    link.symlink_to(now)
    reload_well(server)
    assert shown_to(encrypt(speak(server), secrets)) == in_folder(now)


# Files that cannot be used: the old content stays.


def unlink(path):
    path.unlink()


def replace_by_garbage(path):
    path.write_text("garbage\n")


def replace_by_nothing(path):
    path.write_text("")


def replace_by_fifo(path):
    """To read it would wait for a writer."""
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


FAULTS = (unlink, replace_by_garbage, replace_by_nothing, replace_by_fifo, replace_by_folder)
CERTIFICATE_FILES = ("ca-cert.pem", "server-cert.pem", "server-key.pem", "ca-crl.pem")


def remove(path):
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def is_no_fault(fault, name):
    """A server needs no list of revocations."""
    return name == "ca-crl.pem" and fault is unlink


@pytest.mark.parametrize("fault", FAULTS)
def test_certificates_that_cannot_be_used(start, speak, secrets, folder, fault, rng):
    (folder / "ca-crl.pem").write_bytes(secrets.ours.revocations())
    server = start("--tls-certificates", folder)
    before = in_folder(folder)
    old = encrypt(speak(server), secrets)
    write_certificate(secrets, folder)
    after = in_folder(folder)
    for name in CERTIFICATE_FILES:
        if is_no_fault(fault, name):
            continue
        content = (folder / name).read_bytes()
        fault(folder / name)
        line = reload(server)
        assert str(folder) in line and name in line and line.endswith("stays in use"), line
        assert shown_to(encrypt(speak(server), secrets)) == before
        remove(folder / name)
        (folder / name).write_bytes(content)
    assert_serves(old, rng)
    reload_well(server)
    assert shown_to(encrypt(speak(server), secrets)) == after


def test_a_key_that_does_not_fit(start, speak, secrets, folder):
    server = start("--tls-certificates", folder)
    before = in_folder(folder)
    certificate, _ = secrets.ours.pair("server")
    shutil.copy(certificate, folder / "server-cert.pem")  # the key is still to come
    line = reload(server)
    assert "server-key.pem" in line and "do not match" in line
    assert shown_to(encrypt(speak(server), secrets)) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_keys_that_cannot_be_used(start, keys, tmp_path, fault):
    server = start("--tls-psk", keys)
    fault(keys)
    line = reload(server)
    assert str(keys) in line and line.endswith("stays in use"), line
    assert User(server.socket, USER, tmp_path).is_admitted
    remove(keys)
    write_keys(keys, NEWCOMER)
    reload_well(server)
    assert User(server.socket, NEWCOMER, tmp_path).is_admitted


# Many times.


def test_nothing_is_left_of_what_was_replaced(start, speak, secrets, folder, rng):
    server = start("--tls-certificates", folder)
    old = encrypt(speak(server), secrets)
    await_clients(server, 1)
    before = descriptors(server)
    for _ in range(20):
        reload_well(server)
        (folder / "server-key.pem").rename(folder / "hidden")
        assert reload(server).endswith("stays in use")
        (folder / "hidden").rename(folder / "server-key.pem")
    assert descriptors(server) == before
    assert_serves(old, rng)


def test_memory_of_what_was_replaced_comes_back(start, keys, tmp_path):
    """A file of 20,000 users takes some 3 MB.  Every second one has a session for a while."""
    server = start("--tls-psk", keys)
    if not resident_is_meaningful(server):
        pytest.skip("a sanitizer keeps freed memory")
    write_keys(keys, USER, *(f"user-{number}" for number in range(20_000)))
    sizes = []
    for _ in range(10):
        reload_well(server)
        sizes.append(resident(server))
        client = User(server.socket, USER, tmp_path)
        assert client.is_admitted
        reload_well(server)
        del client
    assert max(sizes) - sizes[1] < 15 * MIB, sizes


@pytest.mark.parametrize("scheme", ("certificates", "keys"))
def test_reloads_while_clients_come_and_go(start, speak, secrets, folder, keys, tmp_path, scheme):
    """Each handshake succeeds, whichever files it meets."""
    option = {"certificates": ("--tls-certificates", folder), "keys": ("--tls-psk", keys)}
    server = start("-t", "3", *option[scheme])
    done, failures = threading.Event(), []

    def come_and_go(number):
        with contextlib.ExitStack() as stack:
            stack.callback(done.set)
            for _ in range(25):
                if scheme == "keys":
                    assert User(server.socket, USER, own_folders[number]).is_admitted
                else:
                    encrypt(speak(server), secrets).disconnect()

    def guarded(number):
        try:
            come_and_go(number)
        except BaseException as failure:  # noqa: BLE001 - shown by the main thread
            failures.append(failure)

    own_folders = [tmp_path / f"client-{number}" for number in range(3)]
    for own in own_folders:
        own.mkdir()
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        reload_well(server)
    for thread in threads:
        thread.join()
    assert not failures
    assert len(log_lines(server)) > 1
