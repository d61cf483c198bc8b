# SPDX-License-Identifier: BSD-3-Clause
"""Clients that TLS keeps out, with what the log says of each; and requests rejected inside TLS.

The client is Python's ssl (OpenSSL).  test_tls.py has the clients that are admitted, and keys.
"""

import contextlib
import re
import ssl

import pytest

from client import Closed, Connection
from harness import KIB, MIB, until
from wire import *  # noqa: F403 - the specification's constants
from wire import Broken, Style, pack_info, pack_option

SIZE = 16 * MIB
PAST, FUTURE = ("20200101000000Z", "20200201000000Z"), ("20900101000000Z", "20910101000000Z")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def start(nbdram, secrets):
    """start("--tls-verify-peer") -> a server that requires TLS."""

    def run(*flags, folder=None):
        folder = folder or secrets.certificates
        return nbdram(str(SIZE), flags=("--tls=require", "--tls-certificates", folder, *flags))

    return run


@pytest.fixture
def context(secrets):
    """context(pair, version) -> the ssl.SSLContext of a client that trusts our authority."""

    def make(pair=None, version=None):
        made = ssl.create_default_context(cafile=str(secrets.certificates / "ca-cert.pem"))
        if pair:
            made.load_cert_chain(*pair)
        if version:
            made.minimum_version = made.maximum_version = VERSIONS[version]
        return made

    return make


def encrypt(connection, context):
    connection.accepted(NBD_OPT_STARTTLS)
    connection.sock = context.wrap_socket(connection.sock, server_hostname="localhost")
    return connection


def is_admitted(connection, context):
    """Whether the server answers it.  In TLS 1.3 a client may believe too early that it is in."""
    try:
        encrypt(connection, context).go()
    except (ssl.SSLError, Closed, Broken, OSError):
        return False
    connection.write(0, b"here")
    assert connection.read(0, 4) == b"here"
    connection.disconnect()
    return True


def log_line(server, count=1):
    """The last of `count` lines in the log.  There is one for each client that was refused."""

    def refusals():
        return [line for line in server.errors().splitlines() if "refused" in line]

    until(lambda: len(refusals()) >= count, hangs=server.errors)
    lines = refusals()
    assert len(lines) == count, lines
    assert re.match(r"nbdram: unix:\d+: ", lines[-1])
    return lines[-1]


# Clients whose certificate is not accepted.

# {certificate: what the log says}
IMPOSTORS = {
    "of another authority": "the client's certificate: The certificate is NOT trusted. "
    "The certificate issuer is unknown.",
    "expired": "The certificate chain uses expired certificate.",
    "not yet valid": "The certificate chain uses not yet valid certificate.",
    "a server's": "The certificate chain does not match the intended purpose.",
    "none": "ertificate",  # GnuTLS's message depends on the version of TLS
}


def impostor(secrets, kind):
    if kind == "none":
        return None
    ours, others = secrets.ours, secrets.others
    return {
        "of another authority": lambda: others.pair("client"),
        "expired": lambda: ours.pair("client", PAST),
        "not yet valid": lambda: ours.pair("client", FUTURE),
        "a server's": lambda: ours.pair("server"),
    }[kind]()


@each_version
@pytest.mark.parametrize("kind", IMPOSTORS)
def test_clients_without_the_right_certificate(start, speak, context, secrets, kind, version):
    server = start("--tls-verify-peer")
    assert not is_admitted(speak(server), context(impostor(secrets, kind), version))
    line = log_line(server)
    assert "TLS refused: " in line and IMPOSTORS[kind] in line
    good = secrets.ours.pair("client")
    assert is_admitted(speak(server), context(good, version))


# Clients that do not accept the server's certificate: they give up, and the log says so.


@each_version
@pytest.mark.parametrize("what", ("expired", "not yet valid", "a client's", "another authority's"))
def test_a_server_without_the_right_certificate(
    start, speak, context, secrets, tmp_path, what, version
):
    ours, others = secrets.ours, secrets.others
    certificate, key = {
        "expired": lambda: ours.pair("server", PAST),
        "not yet valid": lambda: ours.pair("server", FUTURE),
        "a client's": lambda: ours.pair("client"),
        "another authority's": lambda: others.pair("server"),
    }[what]()
    (tmp_path / "ca-cert.pem").write_bytes(ours.certificate.read_bytes())
    (tmp_path / "server-cert.pem").write_bytes(certificate.read_bytes())
    (tmp_path / "server-key.pem").write_bytes(key.read_bytes())
    server = start(folder=tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        encrypt(speak(server), context(version=version))
    # In TLS 1.3 OpenSSL sends its alert in the clear, where GnuTLS does not expect that.
    gave_up = r"the client gave up: .*(ertificate|CA)|probably the client does not trust our cert"
    assert re.search(f"TLS refused: ({gave_up})", log_line(server))


# Downgrades.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1))
def test_old_versions(start, speak, context, version):
    server = start()
    old = context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    assert not is_admitted(speak(server), old)
    assert "TLS refused: A packet with illegal or unsupported version" in log_line(server)


GOING_ON = {
    "GO": pack_option(NBD_OPT_GO, pack_info()),
    "EXPORT_NAME": pack_option(NBD_OPT_EXPORT_NAME),
    "LIST, and ABORT": pack_option(NBD_OPT_LIST) + pack_option(NBD_OPT_ABORT),
}


@pytest.mark.parametrize("how", GOING_ON)
def test_going_on_in_the_clear(start, speak, how):
    """As if an attacker had replaced the server's answer by "no TLS here"."""
    server = start()
    connection = speak(server)
    connection.send(GOING_ON[how])
    connection.finish_sending()
    with pytest.raises(Closed):
        while True:
            connection.recv(1)
    assert "refused: TLS is required, and it went on in the clear" in log_line(server)


def test_a_client_may_try_in_the_clear_before_it_begins_tls(start, speak, context):
    server = start()
    connection = speak(server)
    assert connection.option(NBD_OPT_LIST)[-1].type == NBD_REP_ERR_TLS_REQD
    assert is_admitted(connection, context())
    assert "refused" not in server.errors()


def test_going_on_in_the_clear_after_starttls(start, speak):
    server = start()
    connection = speak(server)
    connection.accepted(NBD_OPT_STARTTLS)
    connection.send(pack_option(NBD_OPT_GO, pack_info()))
    with pytest.raises(Closed):  # after an alert
        connection.recv(1000)
    assert "TLS refused: An unexpected TLS packet was received." in log_line(server)


# What comes together with STARTTLS.


@pytest.mark.parametrize("style", Style)
def test_a_write_after_starttls_is_not_carried_out(start, speak, context, style):
    """The whole conversation comes in one piece, before STARTTLS is acknowledged."""
    connection = speak(start())
    probe = Connection(None)
    probe.style = style
    write = probe.request(NBD_CMD_WRITE, 0, payload=b"injected" * 512)
    ask = {
        Style.SIMPLE: b"",
        Style.STRUCTURED: pack_option(NBD_OPT_STRUCTURED_REPLY),
        Style.EXTENDED: pack_option(NBD_OPT_EXTENDED_HEADERS),
    }[style]
    go = pack_option(NBD_OPT_GO, pack_info())
    connection.send(pack_option(NBD_OPT_STARTTLS) + ask + go + write.pack())
    assert connection.recv_option_replies(NBD_OPT_STARTTLS)[-1].type == NBD_REP_ACK
    connection.sock = context().wrap_socket(connection.sock, server_hostname="localhost")
    connection.negotiate(style).go()
    assert connection.read(0, 64 * KIB) == bytes(64 * KIB)
    connection.disconnect()


def test_a_hello_before_the_acknowledgement_is_not_read(start, speak, context):
    """Whatever comes with STARTTLS is dropped, so another hello can follow."""
    connection = speak(start())
    hello = ssl.MemoryBIO()
    early = context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        early.do_handshake()
    connection.send(pack_option(NBD_OPT_STARTTLS) + hello.read())
    assert connection.recv_option_replies(NBD_OPT_STARTTLS)[-1].type == NBD_REP_ACK
    connection.sock = context().wrap_socket(connection.sock, server_hostname="localhost")
    connection.go()
    assert connection.read(0, 4096) == bytes(4096)
    connection.disconnect()


# Inside TLS.


@each_version
def test_the_first_option_may_come_with_the_end_of_the_handshake(start, speak, context, version):
    """They come in one piece, so the option is decrypted before the server asks for it."""
    connection = speak(start())
    connection.accepted(NBD_OPT_STARTTLS)
    plain, incoming, outgoing = connection.sock, ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context(version=version).wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
            break
        plain.sendall(outgoing.read())
        incoming.write(plain.recv(1 << 16))
    client.write(pack_option(NBD_OPT_LIST) + pack_option(NBD_OPT_ABORT))
    plain.sendall(outgoing.read())
    while chunk := plain.recv(1 << 16):
        incoming.write(chunk)
    # The replies to LIST and ABORT: an export, and two ACKs.
    assert len(client.read(1000)) == 20 + 4 + len("a RAM disk") + 20 + 20


def in_pieces(connection, stream, rng):
    while stream:
        size = rng.choice((1, 7, 28, 500, 16384, 20000, 70000))
        connection.send(stream[:size])
        stream = stream[size:]


@each_version
@pytest.mark.parametrize("style", Style)
def test_rejected_writes_among_others(start, speak, context, rng, style, version):
    """However records are cut, each request is answered, and the good ones are carried out."""
    connection = encrypt(speak(start()), context(version=version)).negotiate(style)
    connection.go()
    requests, good = [], {}
    for i in range(24):
        payload = rng.randbytes(rng.choice((1, 4095, 20_000, 200_000)))
        write = connection.request(NBD_CMD_WRITE, i * 256 * KIB, payload=payload)
        if i % 3 == 1:
            write.offset = SIZE - len(payload) + 1
        elif i % 3 == 2:
            write.flags |= NBD_CMD_FLAG_NO_HOLE  # not for a write
        else:
            good[write.offset] = payload
        requests.append(write)
    in_pieces(connection, b"".join(write.pack() for write in requests), rng)
    for i, write in enumerate(requests):
        assert connection.finish(write).error == (0, NBD_ENOSPC, NBD_EINVAL)[i % 3]
    for offset, payload in good.items():
        assert connection.read(offset, len(payload)) == payload
    assert connection.read(256 * KIB, 4096) == bytes(4096)
    connection.disconnect()


@pytest.mark.parametrize("style", Style)
def test_a_payload_that_is_too_long_ends_the_connection(start, speak, context, rng, style):
    """The server does not interpret the payload, which begins like a write."""
    server = start()
    connection = encrypt(speak(server), context()).negotiate(style)
    connection.go()
    inner = connection.request(NBD_CMD_WRITE, 0, payload=b"injected" * 512)
    outer = connection.request(NBD_CMD_WRITE, 0, payload=b"")
    outer.length = (64 << 20) + 1
    with contextlib.suppress(Closed):
        connection.send(outer.pack() + inner.pack())
    connection.expect_closed()
    witness = encrypt(speak(server), context())
    witness.go()
    assert witness.read(0, 64 * KIB) == bytes(64 * KIB)
    witness.disconnect()


def test_a_payload_that_is_cut_off_is_not_written_as_a_whole(start, speak, context):
    """The socket ends within a record, without a goodbye.  The next client is served."""
    server = start()
    for cut in (28, 5000, 100_000):
        connection = encrypt(speak(server), context())
        connection.go()
        write = connection.request(NBD_CMD_WRITE, MIB, payload=b"\x11" * 200_000)
        connection.send(write.pack()[:cut])
        connection.close()
    witness = encrypt(speak(server), context())
    witness.go()
    assert set(witness.read(MIB, 200_000)) <= {0, 0x11}
    assert witness.read(MIB + 100_000, 100_000) == bytes(100_000)
    witness.disconnect()
