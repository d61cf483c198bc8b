# SPDX-License-Identifier: BSD-3-Clause
"""NBD as bytes: the specification's constants, and messages packed and unpacked.

The specification is doc/proto.md of NetworkBlockDevice/nbd, with the extended headers of its
branch extension-ext-header.  Constants have its names.  What the caller packs may be wrong on
purpose.  What the server sent is checked while it is unpacked: anything that the specification
does not allow raises Broken.  No socket is used here (client.py does that).
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

NBD_STRING_MAX = 4096

NBDMAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
NBD_REP_MAGIC = 0x3E889045565A9

NBD_REQUEST_MAGIC = 0x25609513
NBD_EXTENDED_REQUEST_MAGIC = 0x21E41C71
NBD_SIMPLE_REPLY_MAGIC = 0x67446698
NBD_STRUCTURED_REPLY_MAGIC = 0x668E33EF
NBD_EXTENDED_REPLY_MAGIC = 0x6E8A278C

NBD_FLAG_FIXED_NEWSTYLE = 1 << 0
NBD_FLAG_NO_ZEROES = 1 << 1
NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0
NBD_FLAG_C_NO_ZEROES = 1 << 1

NBD_FLAG_HAS_FLAGS = 1 << 0
NBD_FLAG_READ_ONLY = 1 << 1
NBD_FLAG_SEND_FLUSH = 1 << 2
NBD_FLAG_SEND_FUA = 1 << 3
NBD_FLAG_ROTATIONAL = 1 << 4
NBD_FLAG_SEND_TRIM = 1 << 5
NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6
NBD_FLAG_SEND_DF = 1 << 7
NBD_FLAG_CAN_MULTI_CONN = 1 << 8
NBD_FLAG_SEND_RESIZE = 1 << 9
NBD_FLAG_SEND_CACHE = 1 << 10
NBD_FLAG_SEND_FAST_ZERO = 1 << 11
NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12

NBD_OPT_EXPORT_NAME = 1
NBD_OPT_ABORT = 2
NBD_OPT_LIST = 3
NBD_OPT_PEEK_EXPORT = 4
NBD_OPT_STARTTLS = 5
NBD_OPT_INFO = 6
NBD_OPT_GO = 7
NBD_OPT_STRUCTURED_REPLY = 8
NBD_OPT_LIST_META_CONTEXT = 9
NBD_OPT_SET_META_CONTEXT = 10
NBD_OPT_EXTENDED_HEADERS = 11

NBD_REP_ACK = 1
NBD_REP_SERVER = 2
NBD_REP_INFO = 3
NBD_REP_META_CONTEXT = 4
NBD_REP_FLAG_ERROR = 1 << 31
NBD_REP_ERR_UNSUP = NBD_REP_FLAG_ERROR + 1
NBD_REP_ERR_POLICY = NBD_REP_FLAG_ERROR + 2
NBD_REP_ERR_INVALID = NBD_REP_FLAG_ERROR + 3
NBD_REP_ERR_PLATFORM = NBD_REP_FLAG_ERROR + 4
NBD_REP_ERR_TLS_REQD = NBD_REP_FLAG_ERROR + 5
NBD_REP_ERR_UNKNOWN = NBD_REP_FLAG_ERROR + 6
NBD_REP_ERR_SHUTDOWN = NBD_REP_FLAG_ERROR + 7
NBD_REP_ERR_BLOCK_SIZE_REQD = NBD_REP_FLAG_ERROR + 8
NBD_REP_ERR_TOO_BIG = NBD_REP_FLAG_ERROR + 9
NBD_REP_ERR_EXT_HEADER_REQD = NBD_REP_FLAG_ERROR + 10

NBD_INFO_EXPORT = 0
NBD_INFO_NAME = 1
NBD_INFO_DESCRIPTION = 2
NBD_INFO_BLOCK_SIZE = 3

NBD_CMD_READ = 0
NBD_CMD_WRITE = 1
NBD_CMD_DISC = 2
NBD_CMD_FLUSH = 3
NBD_CMD_TRIM = 4
NBD_CMD_CACHE = 5
NBD_CMD_WRITE_ZEROES = 6
NBD_CMD_BLOCK_STATUS = 7
NBD_CMD_RESIZE = 8

NBD_CMD_FLAG_FUA = 1 << 0
NBD_CMD_FLAG_NO_HOLE = 1 << 1
NBD_CMD_FLAG_DF = 1 << 2
NBD_CMD_FLAG_REQ_ONE = 1 << 3
NBD_CMD_FLAG_FAST_ZERO = 1 << 4
NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5

NBD_REPLY_FLAG_DONE = 1 << 0

NBD_REPLY_TYPE_NONE = 0
NBD_REPLY_TYPE_OFFSET_DATA = 1
NBD_REPLY_TYPE_OFFSET_HOLE = 2
NBD_REPLY_TYPE_BLOCK_STATUS = 5
NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6
NBD_REPLY_TYPE_ERROR = (1 << 15) + 1
NBD_REPLY_TYPE_ERROR_OFFSET = (1 << 15) + 2

NBD_STATE_HOLE = 1 << 0
NBD_STATE_ZERO = 1 << 1

NBD_EPERM = 1
NBD_EIO = 5
NBD_ENOMEM = 12
NBD_EINVAL = 22
NBD_ENOSPC = 28
NBD_EOVERFLOW = 75
NBD_ENOTSUP = 95
NBD_ESHUTDOWN = 108
ERRORS = (1, 5, 12, 22, 28, 75, 95, 108)

# The reply type that may precede the final reply to an option.
PARTIAL_REPLIES = {
    NBD_OPT_LIST: NBD_REP_SERVER,
    NBD_OPT_INFO: NBD_REP_INFO,
    NBD_OPT_GO: NBD_REP_INFO,
    NBD_OPT_LIST_META_CONTEXT: NBD_REP_META_CONTEXT,
    NBD_OPT_SET_META_CONTEXT: NBD_REP_META_CONTEXT,
}


class Style(enum.Enum):
    """What was negotiated for the transmission phase."""

    SIMPLE = "simple"
    STRUCTURED = "structured"
    EXTENDED = "extended"


class Broken(AssertionError):
    """The server did what the specification does not allow, or hangs."""


def spell(prefix: str, value: int) -> str:
    """The specification's name of a value: spell("NBD_OPT_", 7) is NBD_OPT_GO."""
    for name, constant in globals().items():
        if name.startswith(prefix) and constant == value:
            return name
    return f"{prefix}{value:#x}"


def demand(condition: bool, message: str) -> None:
    if not condition:
        raise Broken(message)


def checked_string(raw: bytes) -> str:
    demand(len(raw) <= NBD_STRING_MAX, f"a string of {len(raw)} bytes")
    demand(b"\0" not in raw, f"NUL in a string: {raw!r}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Broken(f"a string that is not UTF-8: {raw!r}") from None


# Options.


class OptionReply(NamedTuple):
    option: int
    type: int
    payload: bytes

    @property
    def is_error(self) -> bool:
        return bool(self.type & NBD_REP_FLAG_ERROR)

    @property
    def is_final(self) -> bool:
        return self.is_error or self.type == NBD_REP_ACK

    def __repr__(self) -> str:
        return f"<{spell('NBD_REP_', self.type)} {self.payload[:80]!r}>"


class Context(NamedTuple):
    id: int
    name: str


class BlockSize(NamedTuple):
    minimum: int
    preferred: int
    maximum: int


@dataclasses.dataclass
class Export:
    """What the server said about the export in reply to INFO, GO or EXPORT_NAME."""

    size: int = -1
    flags: int = 0
    name: str | None = None
    description: str | None = None
    block_size: BlockSize | None = None


def pack_option(
    option: int, payload: bytes = b"", *, length: int | None = None, magic: int = IHAVEOPT
) -> bytes:
    """An option as bytes.  `length` and `magic` may be wrong on purpose."""
    length = len(payload) if length is None else length
    return struct.pack(">QII", magic, option, length) + payload


def pack_info(name: bytes = b"", requests: Sequence[int] = ()) -> bytes:
    """The payload of INFO and GO."""
    head = struct.pack(">I", len(name)) + name
    return head + struct.pack(f">H{len(requests)}H", len(requests), *requests)


def pack_queries(name: bytes = b"", queries: Sequence[bytes] = ()) -> bytes:
    """The payload of LIST_META_CONTEXT and SET_META_CONTEXT."""
    payload = struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries))
    return payload + b"".join(struct.pack(">I", len(query)) + query for query in queries)


def unpack_server(payload: bytes) -> str:
    """The name in an NBD_REP_SERVER."""
    demand(len(payload) >= 4, f"NBD_REP_SERVER of {len(payload)} bytes")
    (length,) = struct.unpack_from(">I", payload)
    demand(4 + length <= len(payload), "NBD_REP_SERVER is shorter than its name")
    checked_string(payload[4 + length :])
    return checked_string(payload[4 : 4 + length])


def unpack_context(payload: bytes) -> Context:
    demand(len(payload) > 4, f"NBD_REP_META_CONTEXT of {len(payload)} bytes")
    return Context(struct.unpack_from(">I", payload)[0], checked_string(payload[4:]))


def unpack_export(replies: Iterable[OptionReply]) -> Export:
    """Combine the NBD_REP_INFO replies of a successful INFO or GO."""
    export = Export()
    seen = set()
    for reply in replies:
        demand(len(reply.payload) >= 2, "NBD_REP_INFO without a type")
        (kind,) = struct.unpack_from(">H", reply.payload)
        demand(kind not in seen, f"{spell('NBD_INFO_', kind)} twice")
        seen.add(kind)
        body = reply.payload[2:]
        if kind == NBD_INFO_EXPORT:
            demand(len(body) == 10, f"NBD_INFO_EXPORT of {2 + len(body)} bytes")
            export.size, export.flags = struct.unpack(">QH", body)
        elif kind == NBD_INFO_NAME:
            export.name = checked_string(body)
        elif kind == NBD_INFO_DESCRIPTION:
            export.description = checked_string(body)
        elif kind == NBD_INFO_BLOCK_SIZE:
            demand(len(body) == 12, f"NBD_INFO_BLOCK_SIZE of {2 + len(body)} bytes")
            export.block_size = BlockSize(*struct.unpack(">III", body))
    demand(NBD_INFO_EXPORT in seen, "success without NBD_INFO_EXPORT")
    check_transmission_flags(export.flags)
    return export


def check_transmission_flags(flags: int) -> None:
    demand(bool(flags & NBD_FLAG_HAS_FLAGS), "NBD_FLAG_HAS_FLAGS is not set")
    if flags & NBD_FLAG_SEND_FAST_ZERO:
        demand(bool(flags & NBD_FLAG_SEND_WRITE_ZEROES), "FAST_ZERO without WRITE_ZEROES")


# Replies.


class Extent(NamedTuple):
    length: int
    state: int


class SimpleReply(NamedTuple):
    error: int
    cookie: int
    data: bytes


class Chunk(NamedTuple):
    """A chunk of a structured or extended reply.  Only an extended one has an offset."""

    flags: int
    type: int
    cookie: int
    offset: int | None
    payload: bytes

    @property
    def is_done(self) -> bool:
        return bool(self.flags & NBD_REPLY_FLAG_DONE)

    @property
    def is_content(self) -> bool:
        return self.type in (NBD_REPLY_TYPE_OFFSET_DATA, NBD_REPLY_TYPE_OFFSET_HOLE)

    @property
    def error(self) -> int:
        """The error that the chunk reports, or 0."""
        return struct.unpack_from(">I", self.payload)[0] if self.type >> 15 else 0

    def content(self) -> tuple[int, int, bytes | None]:
        """(offset, length, bytes or None for a hole) of a content chunk."""
        if self.type == NBD_REPLY_TYPE_OFFSET_HOLE:
            demand(len(self.payload) == 12, f"a hole chunk of {len(self.payload)} bytes")
            return *struct.unpack(">QI", self.payload), None
        demand(len(self.payload) >= 9, f"a data chunk of {len(self.payload)} bytes")
        (offset,) = struct.unpack_from(">Q", self.payload)
        return offset, len(self.payload) - 8, self.payload[8:]

    def status(self) -> tuple[int, list[Extent]]:
        """(context id, extents) of a status chunk."""
        head, entry = 4, 8
        if self.type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
            head, entry = 8, 16
        body = len(self.payload) - head
        demand(body >= entry and body % entry == 0, f"{body} bytes of extents")
        if self.type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
            (count,) = struct.unpack_from(">I", self.payload, 4)
            demand(count == body // entry, f"{body // entry} descriptors, counted as {count}")
        pairs = struct.iter_unpack(">II" if entry == 8 else ">QQ", self.payload[head:])
        return struct.unpack_from(">I", self.payload)[0], list(itertools.starmap(Extent, pairs))


@dataclasses.dataclass(eq=False)
class Request:
    """A request, and what the server has sent in reply so far."""

    style: Style
    command: int
    offset: int = 0
    length: int = 0
    flags: int = 0
    payload: bytes = b""
    cookie: int = 0
    contexts: dict[int, str] = dataclasses.field(default_factory=dict)
    error: int = 0
    is_done: bool = False
    replies: list[SimpleReply | Chunk] = dataclasses.field(default_factory=list)
    content: list[tuple[int, int, bytes | None]] = dataclasses.field(default_factory=list)
    extents: dict[str, list[Extent]] = dataclasses.field(default_factory=dict)

    def pack(self) -> bytes:
        form, magic = ">IHHQQI", NBD_REQUEST_MAGIC
        if self.style is Style.EXTENDED:
            form, magic = ">IHHQQQ", NBD_EXTENDED_REQUEST_MAGIC
        head = (magic, self.flags, self.command, self.cookie, self.offset, self.length)
        return struct.pack(form, *head) + self.payload

    @property
    def data(self) -> bytes:
        """The bytes that a READ returned."""
        whole = bytearray(self.length)
        for offset, length, data in self.content:
            if data is not None:
                start = offset - self.offset
                whole[start : start + length] = data
        return bytes(whole)

    @property
    def allocation(self) -> list[Extent]:
        """The answer to a BLOCK_STATUS in base:allocation."""
        return self.extents["base:allocation"]

    def add(self, reply: SimpleReply | Chunk) -> None:
        """Check and store a reply, or a chunk of one, to this request."""
        demand(not self.is_done, f"{reply} after the end of the reply")
        self.replies.append(reply)
        if isinstance(reply, SimpleReply):
            self._add_simple(reply)
        else:
            self._add_chunk(reply)
        if self.is_done and self.error == 0:
            self._check_success()

    def _add_simple(self, reply: SimpleReply) -> None:
        # Stricter than the specification, which allows a simple error reply to BLOCK_STATUS.
        allowed = self.style is Style.SIMPLE or (
            self.style is Style.STRUCTURED
            and self.command not in (NBD_CMD_READ, NBD_CMD_BLOCK_STATUS)
        )
        name = spell("NBD_CMD_", self.command)
        demand(allowed, f"simple reply to {name} in {self.style}")
        self.error = reply.error
        self.is_done = True
        if self.command == NBD_CMD_READ and reply.error == 0:
            self.content.append((self.offset, self.length, reply.data))

    def _add_chunk(self, chunk: Chunk) -> None:
        wanted = Style.STRUCTURED if chunk.offset is None else Style.EXTENDED
        demand(self.style is wanted, f"{wanted} reply in {self.style}")
        demand(chunk.flags in (0, NBD_REPLY_FLAG_DONE), f"reply flags {chunk.flags:#x}")
        if chunk.offset is not None:
            demand(chunk.offset == self.offset, f"offset {chunk.offset}, not {self.offset}")
        if chunk.type >> 15:
            self._add_error(chunk)
        elif chunk.is_content:
            self._add_content(*chunk.content())
        elif chunk.type == NBD_REPLY_TYPE_NONE:
            is_plain = chunk.is_done and not chunk.payload
            demand(is_plain, f"NBD_REPLY_TYPE_NONE with a payload, or without DONE: {chunk}")
        else:
            self._add_status(chunk)
        self.is_done = chunk.is_done

    def _add_error(self, chunk: Chunk) -> None:
        tails = {NBD_REPLY_TYPE_ERROR: 0, NBD_REPLY_TYPE_ERROR_OFFSET: 8}
        demand(chunk.type in tails, f"reply type {chunk.type:#x}")
        demand(len(chunk.payload) >= 6, f"an error chunk of {len(chunk.payload)} bytes")
        error, length = struct.unpack_from(">IH", chunk.payload)
        tail = tails[chunk.type]
        demand(len(chunk.payload) == 6 + length + tail, f"error chunk {chunk.payload!r}")
        checked_string(chunk.payload[6 : 6 + length])
        demand(error in ERRORS, f"error {error}")
        if tail:
            (offset,) = struct.unpack_from(">Q", chunk.payload, 6 + length)
            demand(self.offset <= offset < self.offset + self.length, f"error at {offset}")
        self.error = self.error or error

    def _add_content(self, offset: int, length: int, data: bytes | None) -> None:
        where = f"content at {offset}, {length} bytes"
        demand(self.command == NBD_CMD_READ, f"{where}: in reply to a request that reads nothing")
        demand(length > 0, f"{where}: empty")
        is_within = self.offset <= offset and offset + length <= self.offset + self.length
        demand(is_within, f"{where}: outside the range of the request")
        for other, count, _ in self.content:
            is_apart = offset + length <= other or other + count <= offset
            demand(is_apart, f"{where}: overlaps earlier content")
        self.content.append((offset, length, data))
        is_whole = len(self.content) == 1 or not self.flags & NBD_CMD_FLAG_DF
        demand(is_whole, "several content chunks despite NBD_CMD_FLAG_DF")

    def _add_status(self, chunk: Chunk) -> None:
        types = {
            Style.STRUCTURED: NBD_REPLY_TYPE_BLOCK_STATUS,
            Style.EXTENDED: NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
        }
        demand(chunk.type == types[self.style], f"reply type {chunk.type}")
        demand(self.command == NBD_CMD_BLOCK_STATUS, "block status in reply to another command")
        context, extents = chunk.status()
        demand(context in self.contexts, f"context {context} was not negotiated")
        name = self.contexts[context]
        demand(name not in self.extents, f"{name} twice")
        demand(all(extent.length for extent in extents), "an empty extent")
        inner = sum(extent.length for extent in extents[:-1])
        demand(inner < max(self.length, 1), "extents after the end of the request")
        if self.flags & NBD_CMD_FLAG_REQ_ONE:
            demand(len(extents) == 1, f"{len(extents)} extents with REQ_ONE")
            demand(extents[0].length <= self.length, "an extent longer than the request")
        self.extents[name] = extents

    def _check_success(self) -> None:
        if self.command == NBD_CMD_READ:
            got = sum(length for _, length, _ in self.content)
            demand(got == self.length, f"success with {got} of {self.length} bytes")
        elif self.command == NBD_CMD_BLOCK_STATUS:
            demand(set(self.extents) == set(self.contexts.values()), "a context is missing")
