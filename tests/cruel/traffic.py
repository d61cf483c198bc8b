# SPDX-License-Identifier: BSD-3-Clause
"""Clients that send a lot before they receive, and how they connect and leave."""

import contextlib
import socket
import ssl
import struct

from client import Connection
from harness import HANG_SECONDS, KIB
from observe import address_of
from wire import (
    NBD_OPT_EXTENDED_HEADERS,
    NBD_OPT_GO,
    NBD_OPT_STRUCTURED_REPLY,
    Style,
    pack_info,
    pack_option,
)

IP_BIND_ADDRESS_NO_PORT = 24  # Python 3.11 has no name for it

FLAGS = struct.pack(">I", 3)
STYLES = tuple(Style)
STYLE_OPTIONS = {
    Style.SIMPLE: b"",
    Style.STRUCTURED: pack_option(NBD_OPT_STRUCTURED_REPLY),
    Style.EXTENDED: pack_option(NBD_OPT_EXTENDED_HEADERS),
}


def entry(style):
    """All that a client sends to reach the transmission phase."""
    return FLAGS + STYLE_OPTIONS[style] + pack_option(NBD_OPT_GO, pack_info())


def request(style, *args, **kwargs):
    client = Connection(None)
    client.style = style
    return client.request(*args, **kwargs).pack()


def first_part(data, number, least=1):
    """The first part of the data, without its end.  Its length depends on the number."""
    return data[: least + number * 7919 % (len(data) - least)]


def connect(server, data, number):
    family, address = address_of(server)
    sock = socket.socket(family)
    if family == socket.AF_INET:
        # Ports of connections that ended stay in use for a while: use many local addresses.
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.1.{1 + number % 250}", 0))
    sock.settimeout(HANG_SECONDS)
    sock.connect(address)
    sock.sendall(data)
    return sock


def leave(sock, abruptly):
    """Close it.  Abruptly: with a reset, which a Unix socket sends if it holds unread data."""
    if not abruptly:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.recv(64 * KIB)
        with contextlib.suppress(OSError):  # it may have been reset
            sock.shutdown(socket.SHUT_WR)
    elif sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def client_hello():
    """The first message of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()
