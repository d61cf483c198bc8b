# SPDX-License-Identifier: BSD-3-Clause
"""A client that speaks NBD byte by byte, and can also be wrong.

It sends what the caller asks for, well formed or not.  What it receives is held against the
specification (wire.py), and anything else raises Broken.  Closed says that the server ended the
connection.  No receive waits longer than HANG_SECONDS.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Sequence

from harness import HANG_SECONDS
from wire import *  # noqa: F403 - the specification's constants
from wire import (
    Broken,
    Chunk,
    Export,
    OptionReply,
    Request,
    SimpleReply,
    Style,
    check_transmission_flags,
    checked_string,
    demand,
    pack_info,
    pack_option,
    pack_queries,
    spell,
    unpack_context,
    unpack_export,
    unpack_server,
)


class Closed(Exception):
    """The server ended the connection."""

    def __init__(self, got: int, wanted: int):
        super().__init__(f"closed after {got} of {wanted} bytes")


class Connection:
    """A socket that speaks NBD.  It sends and receives only when the caller asks for it."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.style = Style.SIMPLE
        self.handshake_flags = 0
        self.contexts: dict[int, str] = {}
        self.export = Export()
        self._client_flags = 0
        self._cookies = itertools.count(0x0123456789ABCDEF)
        self._pending: dict[int, list[Request]] = {}

    @classmethod
    def to(cls, path: str) -> Connection:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(HANG_SECONDS)
        sock.connect(str(path))
        return cls(sock)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes | memoryview) -> None:
        self.sock.settimeout(HANG_SECONDS)
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise Broken(f"the server does not receive {len(data)} bytes") from None
        except (BrokenPipeError, ConnectionResetError):
            raise Closed(0, 0) from None

    def recv(self, count: int) -> bytes:
        got = bytearray(count)
        view, at = memoryview(got), 0
        deadline = time.monotonic() + HANG_SECONDS
        while at < count:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                received = self.sock.recv_into(view[at:])
            except TimeoutError:
                raise Broken(f"no answer: {at} of {count} bytes in time") from None
            except ConnectionResetError:
                received = 0
            if not received:
                raise Closed(at, count)
            at += received
        return bytes(got)

    def recv_fields(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.recv(struct.calcsize(form)))

    def finish_sending(self) -> None:
        """Half-close: the server sees the end of the stream, and can still reply."""
        self.sock.shutdown(socket.SHUT_WR)

    def expect_closed(self) -> None:
        """The server ends the connection, and sends nothing before."""
        try:
            extra = self.recv(1)
        except Closed:
            return
        raise Broken(f"expected the end of the connection, got {extra!r}...")

    # Handshake.

    def recv_greeting(self) -> int:
        magic, option_magic, self.handshake_flags = self.recv_fields(">QQH")
        demand((magic, option_magic) == (NBDMAGIC, IHAVEOPT), "not a newstyle greeting")
        demand(self.handshake_flags in range(4), f"handshake flags {self.handshake_flags:#x}")
        return self.handshake_flags

    def send_client_flags(self, flags: int) -> None:
        self._client_flags = flags
        self.send(struct.pack(">I", flags))

    def greet(self, client_flags: int | None = None) -> Connection:
        """Exchange handshake flags.  The default is to set all that the server offers."""
        offered = self.recv_greeting()
        self.send_client_flags(offered if client_flags is None else client_flags)
        return self

    def send_option(self, option: int, payload: bytes = b"") -> None:
        self.send(pack_option(option, payload))

    def recv_option_reply(self, option: int) -> OptionReply:
        magic, replied, kind, length = self.recv_fields(">QIII")
        demand(magic == NBD_REP_MAGIC, f"option reply magic {magic:#x}")
        demand(replied == option, f"reply to {replied:#x}, not to {option:#x}")
        demand(length <= 1 << 16, f"an option reply of {length} bytes")
        reply = OptionReply(replied, kind, self.recv(length))
        if reply.is_error:
            checked_string(reply.payload)
        elif kind == NBD_REP_ACK:
            demand(not reply.payload, f"NBD_REP_ACK with data {reply.payload!r}")
        else:
            demand(kind == PARTIAL_REPLIES.get(option), f"{reply} to option {option}")
        return reply

    def recv_option_replies(self, option: int) -> list[OptionReply]:
        """All replies to an option, up to and including the final one."""
        replies = [self.recv_option_reply(option)]
        while not replies[-1].is_final:
            replies.append(self.recv_option_reply(option))
        self._note(option, replies)
        return replies

    def option(self, option: int, payload: bytes = b"") -> list[OptionReply]:
        self.send_option(option, payload)
        return self.recv_option_replies(option)

    def _note(self, option: int, replies: list[OptionReply]) -> None:
        """Remember what the option changed for the transmission phase."""
        succeeded = replies[-1].type == NBD_REP_ACK
        if option == NBD_OPT_SET_META_CONTEXT:
            found = [unpack_context(reply.payload) for reply in replies[:-1]]
            self.contexts = dict(found) if succeeded else {}
            demand(not succeeded or len(self.contexts) == len(found), f"ids repeat: {found}")
        elif option == NBD_OPT_EXTENDED_HEADERS and succeeded:
            self.style = Style.EXTENDED
        elif option == NBD_OPT_STRUCTURED_REPLY and succeeded:
            demand(self.style is not Style.EXTENDED, "back to structured replies")
            self.style = Style.STRUCTURED
        elif option in (NBD_OPT_INFO, NBD_OPT_GO) and succeeded:
            self.export = unpack_export(replies[:-1])
            self._check_export()

    def _check_export(self) -> None:
        has_df = bool(self.export.flags & NBD_FLAG_SEND_DF)
        demand(has_df <= (self.style is not Style.SIMPLE), "SEND_DF with simple replies")
        takes_payload = bool(self.export.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
        demand(takes_payload <= (self.style is Style.EXTENDED), "flag BLOCK_STATUS_PAYLOAD")

    def accepted(self, option: int, payload: bytes = b"") -> list[OptionReply]:
        """Send an option that has to succeed; the replies before the ACK."""
        *partial, final = self.option(option, payload)
        demand(final.type == NBD_REP_ACK, f"{spell('NBD_OPT_', option)}: {final}")
        return partial

    def negotiate(self, style: Style) -> Connection:
        if style is Style.STRUCTURED:
            self.accepted(NBD_OPT_STRUCTURED_REPLY)
        elif style is Style.EXTENDED:
            self.accepted(NBD_OPT_EXTENDED_HEADERS)
        return self

    def list(self) -> list[str]:
        return [unpack_server(reply.payload) for reply in self.accepted(NBD_OPT_LIST)]

    def list_contexts(self, name: bytes = b"", queries: Sequence[bytes] = ()) -> list[str]:
        replies = self.accepted(NBD_OPT_LIST_META_CONTEXT, pack_queries(name, queries))
        return [unpack_context(reply.payload).name for reply in replies]

    def set_contexts(self, name: bytes = b"", queries: Sequence[bytes] = ()) -> list[str]:
        self.accepted(NBD_OPT_SET_META_CONTEXT, pack_queries(name, queries))
        return list(self.contexts.values())

    def info(self, name: bytes = b"", requests: Sequence[int] = ()) -> Export:
        self.accepted(NBD_OPT_INFO, pack_info(name, requests))
        return self.export

    def go(self, name: bytes = b"", requests: Sequence[int] = ()) -> Export:
        self.accepted(NBD_OPT_GO, pack_info(name, requests))
        return self.export

    def export_name(self, name: bytes = b"") -> Export:
        """Enter the transmission phase the old way.  Raises Closed if the server refuses."""
        self.send_option(NBD_OPT_EXPORT_NAME, name)
        size, flags = self.recv_fields(">QH")
        if not self._client_flags & NBD_FLAG_C_NO_ZEROES:
            demand(self.recv(124) == bytes(124), "the 124 bytes are not zero")
        check_transmission_flags(flags)
        self.export = Export(size, flags)
        self._check_export()
        return self.export

    def abort(self) -> None:
        self.accepted(NBD_OPT_ABORT)

    # Transmission.

    def request(
        self,
        command: int,
        offset: int = 0,
        length: int | None = None,
        flags: int = 0,
        payload: bytes = b"",
        cookie: int | None = None,
    ) -> Request:
        """Make a request.  The caller sends it; its replies are expected from now on.

        With extended headers a WRITE gets the flag PAYLOAD_LEN.  The caller may still change
        Request.flags.
        """
        if command == NBD_CMD_WRITE and self.style is Style.EXTENDED:
            flags |= NBD_CMD_FLAG_PAYLOAD_LEN
        length = len(payload) if length is None else length
        cookie = next(self._cookies) if cookie is None else cookie
        request = Request(
            self.style, command, offset, length, flags, payload, cookie, dict(self.contexts)
        )
        self._pending.setdefault(cookie, []).append(request)
        return request

    def send_request(self, command: int, *args, **kwargs) -> Request:
        request = self.request(command, *args, **kwargs)
        self.send(request.pack())
        return request

    def recv_reply(self) -> Request:
        """Receive one reply or chunk, and return the request that it belongs to."""
        (magic,) = self.recv_fields(">I")
        try:
            if magic == NBD_SIMPLE_REPLY_MAGIC:
                return self._recv_simple()
            if magic == NBD_STRUCTURED_REPLY_MAGIC:
                flags, kind, cookie, length = self.recv_fields(">HHQI")
                return self._recv_chunk(flags, kind, cookie, None, length)
            if magic == NBD_EXTENDED_REPLY_MAGIC:
                flags, kind, cookie, offset, length = self.recv_fields(">HHQQQ")
                return self._recv_chunk(flags, kind, cookie, offset, length)
        except Closed:
            raise Broken("closed within a reply") from None
        raise Broken(f"reply magic {magic:#x}")

    def _recv_simple(self) -> Request:
        error, cookie = self.recv_fields(">IQ")
        demand(error == 0 or error in ERRORS, f"error {error}")
        request = self._expected(cookie)
        data = b""
        if error == 0 and request.command == NBD_CMD_READ:
            demand(request.length <= 1 << 28, f"success of a READ of {request.length} bytes")
            data = self.recv(request.length)
        return self._add(request, SimpleReply(error, cookie, data))

    def _recv_chunk(
        self, flags: int, kind: int, cookie: int, offset: int | None, length: int
    ) -> Request:
        demand(length <= 1 << 28, f"a chunk of {length} bytes")
        request = self._expected(cookie)
        return self._add(request, Chunk(flags, kind, cookie, offset, self.recv(length)))

    def _expected(self, cookie: int) -> Request:
        demand(cookie in self._pending, f"cookie {cookie:#x} was not sent")
        return self._pending[cookie][0]

    def _add(self, request: Request, reply: SimpleReply | Chunk) -> Request:
        request.add(reply)
        if request.is_done:
            self._pending[request.cookie].pop(0)
            if not self._pending[request.cookie]:
                del self._pending[request.cookie]
        return request

    def finish(self, request: Request) -> Request:
        """Receive until the reply to this request is complete, and others meanwhile."""
        while not request.is_done:
            self.recv_reply()
        return request

    def wait_for_reply(self) -> None:
        """Wait for the first byte of a reply, without consuming it."""
        self.sock.settimeout(HANG_SECONDS)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            raise Broken(f"no answer in {HANG_SECONDS} s") from None

    def call(self, command: int, *args, **kwargs) -> Request:
        return self.finish(self.send_request(command, *args, **kwargs))

    def done(self, command: int, *args, **kwargs) -> Request:
        """Like call(), for a request that has to succeed."""
        request = self.call(command, *args, **kwargs)
        name = spell("NBD_CMD_", command)
        demand(request.error == 0, f"{name}: {spell('NBD_E', request.error)}")
        return request

    def read(self, offset: int, length: int, flags: int = 0) -> bytes:
        return self.done(NBD_CMD_READ, offset, length, flags).data

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        self.done(NBD_CMD_WRITE, offset, flags=flags, payload=data)

    def disconnect(self) -> None:
        """Send DISC, upon which the server closes without a reply."""
        self.send_request(NBD_CMD_DISC)
        self.expect_closed()
