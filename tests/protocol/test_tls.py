# SPDX-License-Identifier: BSD-3-Clause
"""TLS of nbdram: which clients are admitted, and what the protocol says about STARTTLS.

Clients that behave are libnbd (GnuTLS).  Clients that do not are client.py over Python's ssl
(OpenSSL).
"""

import ssl
import subprocess

import nbd
import pytest

from client import Closed
from credentials import KEY, USER, WRONG_KEY
from harness import KIB, MIB, SERVER, need, run, until
from observe import await_clients, await_departures, descriptors
from wire import *  # noqa: F403 - the specification's constants
from wire import Style, pack_info, pack_option, pack_queries

SIZE = 64 * MIB
ALLOCATION = b"base:allocation"
SCHEMES = ("certificates", "keys")
TLS_MODES = {"disable": nbd.TLS_DISABLE, "allow": nbd.TLS_ALLOW, "require": nbd.TLS_REQUIRE}


@pytest.fixture
def client(secrets):
    """client(scheme, mode="require", folder=..., keys=...) -> a libnbd handle to connect."""

    def make(scheme, mode="require", *, folder=None, keys=None, user=USER):
        handle = nbd.NBD()
        handle.set_tls(TLS_MODES[mode])
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        if scheme == "keys":
            handle.set_tls_psk_file(str(keys or secrets.keys))
            handle.set_tls_username(user)
        else:
            handle.set_tls_certificates(str(folder or secrets.nobody))
            handle.set_tls_verify_peer(True)
        return handle

    return make


def connects(handle, server) -> bool:
    try:
        handle.connect_unix(str(server.socket))
    except nbd.Error:
        return False
    return True


def assert_works(handle, rng, *, encrypted: bool = True) -> None:
    """The connection is (not) encrypted, and carries many records in both directions."""
    assert handle.get_tls_negotiated() == encrypted
    assert handle.get_structured_replies_negotiated()
    data = rng.randbytes(3 * MIB + 511)
    offset = rng.randrange(SIZE - len(data))
    handle.pwrite(data, offset)
    assert handle.pread(len(data), offset) == data
    handle.shutdown()


# Which clients are admitted.


@pytest.mark.parametrize("client_mode", TLS_MODES)
@pytest.mark.parametrize("server_mode", ("off", "on", "require"))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_modes(nbdram, secrets, client, rng, scheme, server_mode, client_mode):
    server = nbdram(str(SIZE), flags=(f"--tls={server_mode}", *secrets.flags(scheme)))
    handle = client(scheme, client_mode)
    refused = {("off", "require"), ("require", "disable")}
    assert connects(handle, server) == ((server_mode, client_mode) not in refused)
    if (server_mode, client_mode) not in refused:
        encrypted = server_mode != "off" and client_mode != "disable"
        assert_works(handle, rng, encrypted=encrypted)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tls_is_on_when_there_are_keys_or_certificates(nbdram, secrets, client, rng, scheme):
    server = nbdram(str(SIZE), flags=secrets.flags(scheme))
    for mode in ("disable", "require"):
        handle = client(scheme, mode)
        assert connects(handle, server)
        assert_works(handle, rng, encrypted=mode == "require")


def test_keys_come_before_certificates(nbdram, secrets, client, rng):
    flags = ("--tls=require", *secrets.flags("keys"), *secrets.flags("certificates"))
    server = nbdram(str(SIZE), flags=flags)
    assert not connects(client("certificates"), server)
    handle = client("keys")
    assert connects(handle, server)
    assert_works(handle, rng)


@pytest.mark.parametrize("peer", ("client", "nobody", "stranger"))
@pytest.mark.parametrize("verify", (False, True))
def test_verify_peer(nbdram, secrets, client, rng, verify, peer):
    flags = ["--tls=require", *secrets.flags("certificates")]
    server = nbdram(str(SIZE), flags=flags + ["--tls-verify-peer"] * verify)
    handle = client("certificates", folder=getattr(secrets, peer))
    if not verify or peer == "client":
        assert connects(handle, server)
        assert_works(handle, rng)
        return
    # With TLS 1.3 the client may believe for a moment that it is admitted.
    assert not connects(handle, server) or not handle.aio_is_ready()
    handle = client("certificates", folder=secrets.client)
    assert connects(handle, server)
    assert_works(handle, rng)
    until(lambda: "TLS refused: " in server.errors())


def test_client_that_trusts_another_authority_leaves(server, secrets, speak, rng):
    connection = speak(server)
    connection.accepted(NBD_OPT_STARTTLS)
    context = ssl.create_default_context(cafile=str(secrets.others_ca))
    with pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(connection.sock, server_hostname="localhost")
    witness = speak(server)
    witness.go()
    assert_in_step(witness, rng)


@pytest.mark.parametrize("user", (USER, "mallory"))
def test_wrong_key(nbdram, secrets, client, rng, user):
    server = nbdram(str(SIZE), flags=("--tls=require", *secrets.flags("keys")))
    assert not connects(client("keys", keys=secrets.wrong_keys, user=user), server)
    handle = client("keys")
    assert connects(handle, server)
    assert_works(handle, rng)
    what = "probably the wrong key for user" if user == USER else "there is no key for user"
    until(lambda: f'TLS refused: {what} "{user}": ' in server.errors())
    assert KEY not in server.errors()
    assert WRONG_KEY not in server.errors()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_single(secrets, client, rng, scheme):
    handle = client(scheme)
    words = (SERVER, "-s", "--tls=require", *secrets.flags(scheme), str(SIZE))
    handle.connect_command([str(word) for word in words])
    assert_works(handle, rng)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_files_that_do_not_exist(tmp_path, scheme):
    option = {"keys": "--tls-psk", "certificates": "--tls-certificates"}[scheme]
    words = (SERVER, "-f", "-U", tmp_path / "s", "--tls=require", option, tmp_path / "gone", "1M")
    result = run(*words, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert str(tmp_path / "gone") in line
    assert not (tmp_path / "s").exists()


def test_many_clients_at_once(nbdram, secrets, client, rng):
    server = nbdram(str(SIZE), flags=("--tls=require", *secrets.flags("certificates")))
    handles = [client("certificates") for _ in range(8)]
    assert all(connects(handle, server) for handle in handles)
    width = SIZE // len(handles)
    data = [rng.randbytes(width) for _ in handles]
    for i, handle in enumerate(handles):
        for at in range(0, width, MIB):
            part = nbd.Buffer.from_bytearray(bytearray(data[i][at : at + MIB]))
            handle.aio_pwrite(part, i * width + at, lambda error: 1)
    while any(handle.aio_in_flight() for handle in handles):
        for handle in handles:
            if handle.aio_in_flight():
                handle.poll(-1)
    for i, handle in enumerate(handles):  # each one reads what another one wrote
        other = (i + 1) % len(handles)
        assert handle.pread(width, other * width) == data[other]
        handle.shutdown()


def test_qemu(nbdram, secrets, tmp_path):
    need("qemu-img")
    server = nbdram(str(SIZE), flags=("--tls=require", *secrets.flags("keys")))
    creds = secrets.qemu_object("keys", tmp_path / "qemu")
    image = f"driver=nbd,server.type=unix,server.path={server.socket},tls-creds=tls0"
    info = run("qemu-img", "info", "--object", creds, "--image-opts", image)
    assert f"({SIZE} bytes)" in info.stdout


# What the client may send when.


@pytest.fixture
def encrypt(secrets):
    """encrypt(connection): do the TLS handshake.  What was negotiated before is forgotten."""
    context = ssl.create_default_context(cafile=str(secrets.certificates / "ca-cert.pem"))

    def start(connection):
        connection.sock = context.wrap_socket(connection.sock, server_hostname="localhost")
        connection.style = Style.SIMPLE
        connection.contexts = {}
        return connection

    return start


@pytest.fixture
def server(nbdram, secrets):
    return nbdram(str(SIZE), flags=("--tls=on", *secrets.flags("certificates")))


@pytest.fixture
def strict(nbdram, secrets):
    return nbdram(str(SIZE), flags=("--tls=require", *secrets.flags("certificates")))


def final(connection, option, payload=b""):
    return connection.option(option, payload)[-1].type


def assert_in_step(connection, rng):
    """The transmission phase works."""
    data = rng.randbytes(70 * KIB)
    connection.write(5 * MIB, data)
    assert connection.read(5 * MIB, len(data)) == data
    connection.disconnect()


def test_starttls_where_there_is_no_tls(nbdram, speak, rng):
    connection = speak(nbdram(str(SIZE)))
    assert final(connection, NBD_OPT_STARTTLS) in (NBD_REP_ERR_POLICY, NBD_REP_ERR_UNSUP)
    connection.go()
    assert_in_step(connection, rng)


def test_plaintext_after_starttls_is_dropped(server, speak, encrypt, rng):
    connection = speak(server)
    connection.send(
        pack_option(NBD_OPT_STARTTLS)
        + pack_option(NBD_OPT_STRUCTURED_REPLY)
        + pack_option(NBD_OPT_LIST)
        + pack_option(NBD_OPT_GO, pack_info())
    )
    assert connection.recv_option_replies(NBD_OPT_STARTTLS)[-1].type == NBD_REP_ACK
    encrypt(connection)
    # A reply to what was sent in the clear would come first, and would not be one to INFO.
    connection.info()
    connection.go()
    assert_in_step(connection, rng)


def test_half_an_option_after_starttls_is_not_continued(server, speak, encrypt, rng):
    connection = speak(server)
    connection.send(pack_option(NBD_OPT_STARTTLS) + pack_option(NBD_OPT_LIST)[:11])
    assert connection.recv_option_replies(NBD_OPT_STARTTLS)[-1].type == NBD_REP_ACK
    encrypt(connection)
    connection.go()
    assert_in_step(connection, rng)


def test_starttls_has_no_payload(server, speak, encrypt, rng):
    connection = speak(server)
    for payload in (b"x", bytes(4096)):
        assert final(connection, NBD_OPT_STARTTLS, payload) == NBD_REP_ERR_INVALID
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection).go()
    assert_in_step(connection, rng)


@pytest.mark.parametrize("mode", ("server", "strict"))
def test_starttls_is_accepted_only_once(request, speak, encrypt, rng, mode):
    connection = speak(request.getfixturevalue(mode))
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection)
    assert final(connection, NBD_OPT_STARTTLS) == NBD_REP_ERR_INVALID
    assert final(connection, NBD_OPT_STARTTLS, b"payload") == NBD_REP_ERR_INVALID
    connection.go()
    assert_in_step(connection, rng)


@pytest.mark.parametrize("style", (Style.STRUCTURED, Style.EXTENDED))
def test_what_was_negotiated_in_the_clear_is_forgotten(server, speak, encrypt, rng, style):
    connection = speak(server).negotiate(style)
    connection.set_contexts(queries=(ALLOCATION,))
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection)
    # Without structured replies there are no contexts.
    refusal = final(connection, NBD_OPT_SET_META_CONTEXT, pack_queries(queries=(ALLOCATION,)))
    assert refusal == NBD_REP_ERR_INVALID
    connection.go()
    assert connection.call(NBD_CMD_BLOCK_STATUS, 0, 4096).error == NBD_EINVAL
    assert_in_step(connection, rng)


def test_contexts_are_forgotten(server, speak, encrypt, rng):
    connection = speak(server).negotiate(Style.STRUCTURED)
    connection.set_contexts(queries=(ALLOCATION,))
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection).negotiate(Style.STRUCTURED).go()
    assert connection.call(NBD_CMD_BLOCK_STATUS, 0, 4096).error == NBD_EINVAL
    assert_in_step(connection, rng)


@pytest.mark.parametrize("style", Style)
def test_everything_can_be_negotiated_again(server, speak, encrypt, rng, style):
    connection = speak(server).negotiate(Style.STRUCTURED)
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection).negotiate(style)
    if style is not Style.SIMPLE:
        connection.set_contexts(queries=(ALLOCATION,))
    connection.go()
    if style is not Style.SIMPLE:
        assert connection.done(NBD_CMD_BLOCK_STATUS, 0, MIB).allocation
    assert_in_step(connection, rng)


def test_no_option_comes_before_starttls_where_tls_is_required(strict, speak, encrypt, rng):
    connection = speak(strict)
    for option, payload in (
        (NBD_OPT_LIST, b""),
        (NBD_OPT_INFO, pack_info()),
        (NBD_OPT_GO, pack_info()),
        (NBD_OPT_STRUCTURED_REPLY, b""),
        (NBD_OPT_EXTENDED_HEADERS, b""),
        (NBD_OPT_LIST_META_CONTEXT, pack_queries()),
        (NBD_OPT_SET_META_CONTEXT, pack_queries(queries=(ALLOCATION,))),
    ):
        assert final(connection, option, payload) == NBD_REP_ERR_TLS_REQD
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection).go()
    assert_in_step(connection, rng)


def test_export_name_where_tls_is_required_closes(strict, speak):
    with pytest.raises(Closed):
        speak(strict).export_name()


def test_abort_is_always_allowed(strict, speak):
    connection = speak(strict)
    connection.abort()
    connection.expect_closed()


def test_export_name_under_tls(strict, speak, encrypt, rng):
    connection = speak(strict)
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection).export_name()
    assert_in_step(connection, rng)


def test_abort_under_tls_ends_with_a_goodbye(strict, speak, encrypt):
    connection = speak(strict)
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection)
    connection.sock.suppress_ragged_eofs = False  # an end without a goodbye raises
    connection.abort()
    assert connection.sock.recv(1) == b""


# Handshakes that fail.


GARBAGE = {
    "text": b"GET / HTTP/1.0\r\n\r\n",
    "zeroes": bytes(600),
    "oversize": b"\x16\3\1\xff\xff",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_instead_of_a_handshake(server, speak, rng, garbage):
    connection, witness = speak(server), speak(server)
    witness.go()
    connection.accepted(NBD_OPT_STARTTLS)
    connection.send(GARBAGE[garbage])
    connection.finish_sending()
    with pytest.raises(Closed):  # after an alert, if it sends one
        connection.recv(1000)
    assert_in_step(witness, rng)


def test_a_handshake_that_goes_silent_is_given_up(nbdram, secrets, speak, rng):
    flags = ("--timeout", "3", "--tls=on", *secrets.flags("certificates"))
    server = nbdram(str(SIZE), flags=flags)
    connection, witness = speak(server), speak(server)
    witness.go()
    connection.accepted(NBD_OPT_STARTTLS)
    connection.send(b"\x16\3\1\2\0\1")
    with pytest.raises(Closed):
        connection.recv(1000)
    assert_in_step(witness, rng)  # it is past its own handshake


def test_clients_that_vanish_are_forgotten(server, speak, encrypt, rng):
    witness = speak(server)
    witness.go()
    await_clients(server, 1)
    before = descriptors(server)
    for stage in (0, 1, 2, 3) * 5:
        connection = speak(server)
        connection.accepted(NBD_OPT_STARTTLS)
        if stage > 0:
            encrypt(connection)
        if stage > 1:
            connection.go()
        if stage > 2:
            write = connection.request(NBD_CMD_WRITE, 0, payload=bytes(MIB))
            connection.send(write.pack()[:9000])
        connection.close()
    await_departures(server, before)
    assert_in_step(witness, rng)


# Payloads through TLS, also those of rejected writes.


def enter(server, speak, encrypt, style):
    connection = speak(server)
    connection.accepted(NBD_OPT_STARTTLS)
    encrypt(connection).negotiate(style).go()
    return connection


@pytest.mark.parametrize("size", (1, 4096, 100_001, 8 * MIB))
@pytest.mark.parametrize("style", Style)
def test_write_out_of_range(server, speak, encrypt, rng, style, size):
    connection = enter(server, speak, encrypt, style)
    for offset in (SIZE, SIZE - size + 1, (1 << 64) - size):
        write = connection.call(NBD_CMD_WRITE, offset, payload=rng.randbytes(size))
        assert write.error == NBD_ENOSPC
    assert_in_step(connection, rng)


@pytest.mark.parametrize("size", (1, 4096, 100_001, 8 * MIB))
@pytest.mark.parametrize("style", Style)
def test_write_to_a_read_only_disk(nbdram, secrets, speak, encrypt, rng, style, size):
    flags = ("-r", "--tls=require", *secrets.flags("certificates"))
    connection = enter(nbdram(str(SIZE), flags=flags), speak, encrypt, style)
    write = connection.call(NBD_CMD_WRITE, 4096, payload=rng.randbytes(size))
    assert write.error == NBD_EPERM
    assert connection.read(0, 2 * MIB) == bytes(2 * MIB)
    connection.disconnect()


@pytest.mark.parametrize("style", Style)
def test_requests_may_be_cut_into_records_of_any_size(server, speak, encrypt, rng, style):
    connection = enter(server, speak, encrypt, style)
    data = rng.randbytes(300 * KIB)
    write = connection.request(NBD_CMD_WRITE, 12345, payload=data)
    read = connection.request(NBD_CMD_READ, 12345, len(data))
    stream = write.pack() + read.pack()
    while stream:
        size = rng.choice((1, 7, 28, 500, 16384, 20000))
        connection.send(stream[:size])
        stream = stream[size:]
    # They may be carried out in either order, or at once: the read may return any mixture.
    connection.finish(write)
    connection.finish(read)
    assert connection.read(12345, len(data)) == data
    connection.disconnect()


def test_a_reader_that_does_not_read_blocks_no_other_client(server, speak, encrypt, rng):
    connection = enter(server, speak, encrypt, Style.SIMPLE)
    data = rng.randbytes(4 * MIB)
    connection.write(0, data)
    reads = [connection.send_request(NBD_CMD_READ, 0, len(data)) for _ in range(8)]
    witness = enter(server, speak, encrypt, Style.STRUCTURED)
    witness.write(8 * MIB, data)
    assert witness.read(8 * MIB, len(data)) == data
    witness.disconnect()
    for read in reads:
        assert connection.finish(read).data == data
    connection.disconnect()
