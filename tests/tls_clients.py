# SPDX-License-Identifier: BSD-3-Clause
"""Clients of a server that requires TLS: Python's ssl (OpenSSL) with certificates, libnbd (GnuTLS)
with keys; and the files of the server, which tests replace."""

import shutil
import ssl

import nbd

from client import Closed
from credentials import KEY
from wire import *  # noqa: F403 - the specification's constants
from wire import Broken

# Files.


def write_keys(path, *users):
    path.write_text("".join(f"{user}:{KEY}\n" for user in users))


def copy_certificates(secrets, folder):
    folder.mkdir()
    for name in ("ca-cert.pem", "server-cert.pem", "server-key.pem"):
        shutil.copy(secrets.certificates / name, folder)
    return folder


def write_certificate(secrets, folder):
    """Put a new certificate of the server into its folder."""
    certificate, key = secrets.ours.pair("server")
    shutil.copy(certificate, folder / "server-cert.pem")
    shutil.copy(key, folder / "server-key.pem")


def in_folder(folder):
    """The certificate in a server's folder."""
    return ssl.PEM_cert_to_DER_cert((folder / "server-cert.pem").read_text())


# Clients.


def encrypt(connection, secrets, identity=None):
    """Do the handshake of TLS, and enter the transmission phase."""
    connection.accepted(NBD_OPT_STARTTLS)
    context = ssl.create_default_context(cafile=str(secrets.ours.certificate))
    if identity:
        context.load_cert_chain(*identity)
    connection.sock = context.wrap_socket(connection.sock, server_hostname="localhost")
    connection.go()
    return connection


def shown_to(connection):
    """The certificate that the server has shown."""
    return connection.sock.getpeercert(binary_form=True)


def assert_serves(connection, rng):
    data = rng.randbytes(4096)
    connection.write(0, data)
    assert connection.read(0, len(data)) == data


def is_admitted(connection, secrets, identity):
    """Whether it is let in.  In TLS 1.3 a client may believe too early that it is."""
    try:
        encrypt(connection, secrets, identity)
    except (ssl.SSLError, Closed, Broken, OSError):
        return False
    connection.disconnect()
    return True


class User:
    """A client with a key.  It tries to connect at once."""

    def __init__(self, socket, name, folder):
        path = folder / f"{name}.psk"
        write_keys(path, name)
        self._handle = nbd.NBD()
        self._handle.set_tls(nbd.TLS_REQUIRE)
        self._handle.set_tls_psk_file(str(path))
        self._handle.set_tls_username(name)
        self.is_admitted = True
        try:
            self._handle.connect_unix(str(socket))
        except nbd.Error:
            self.is_admitted = False

    def assert_served(self, rng):
        data = rng.randbytes(4096)
        self._handle.pwrite(data, 0)
        assert self._handle.pread(len(data), 0) == data
