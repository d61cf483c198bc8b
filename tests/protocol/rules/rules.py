# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the protocol's rules share: a bench to work on, and rows of tables.

Each file in this folder tests one family of rules.  Its head names the sections of the
specification that the rules come from: doc/proto.md of NetworkBlockDevice/nbd, and for extended
headers the same file in the branch extension-ext-header.  Where the specification leaves a
choice, or only says SHOULD, a test accepts every answer that the specification accepts.

A style is the kind of replies that was negotiated: simple, structured or extended.

After every test that leaves its connection open, a request on that connection has to work: client
and server are still in step.  Meanwhile a witness is connected to the same server.  It writes and
reads a range of its own, and must not notice the test.  The server has one thread, which serves
both of them.
"""

import contextlib
import dataclasses
import itertools
import random
import select
import struct
from collections.abc import Iterable

import pytest

import harness
from client import Closed, Connection
from harness import GIB, KIB, MIB
from wire import *  # noqa: F403 - the specification's constants, a hundred of them
from wire import Broken, Extent, Request, Style, pack_queries, spell

SIZE = 128 * MIB + 512  # no multiple of a page
LARGEST = (1 << 63) - 1
COUNT_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 64) - 1
PAYLOAD_MAX = 32 * MIB  # every server has to accept that much

STYLES = tuple(Style)
CHUNKED = (Style.STRUCTURED, Style.EXTENDED)
ALLOCATION = b"base:allocation"
HOLE_STATE = NBD_STATE_HOLE | NBD_STATE_ZERO
CLOSED = "closed"  # an outcome, like the errors and the reply types

DATA_COMMANDS = (NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE) + (
    NBD_CMD_WRITE_ZEROES,
    NBD_CMD_BLOCK_STATUS,
)
UNKNOWN_COMMANDS = (NBD_CMD_RESIZE, 9, 0x100, 0xFFFF)

# The error of a command whose range ends after the end of the disk.
BEYOND = {
    NBD_CMD_READ: NBD_EINVAL,
    NBD_CMD_WRITE: NBD_ENOSPC,
    NBD_CMD_TRIM: NBD_EINVAL,
    NBD_CMD_CACHE: NBD_EINVAL,
    NBD_CMD_WRITE_ZEROES: NBD_ENOSPC,
    NBD_CMD_BLOCK_STATUS: NBD_EINVAL,
}


# Servers.


@dataclasses.dataclass(frozen=True)
class ServerSetup:
    """How the server of a test is started."""

    size: int = SIZE
    params: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def is_writable(self) -> bool:
        return "-r" not in self.flags


PLAIN = ServerSetup()
READ_ONLY = ServerSetup(flags=("-r",))
WIDE = ServerSetup(size=8 * GIB)
HUGE = ServerSetup(size=LARGEST)

ALLOCATOR_SETUPS = {
    name: ServerSetup(params=(f"allocator={name}",)) for name in harness.ALLOCATORS
}
THIN_SETUPS = {name: ALLOCATOR_SETUPS[name] for name in harness.THIN_ALLOCATORS}


def on_servers(setups: dict[str, ServerSetup]) -> pytest.MarkDecorator:
    """The test runs once on each of these servers."""
    return pytest.mark.parametrize("server_setup", setups.values(), ids=setups)


# The bench.

WITNESS_SECONDS = harness.HANG_SECONDS / 3  # longer is a stall, not a busy machine


class Impatient(Connection):
    """A connection that waits less long for an answer than others, which only detect hangs."""

    def recv(self, count: int) -> bytes:
        if count and not select.select([self.sock], [], [], WITNESS_SECONDS)[0]:
            raise Broken(f"the witness has no answer in {WITNESS_SECONDS} s")
        return super().recv(count)


class Witness:
    """A healthy client with a range of its own, the last one of the disk."""

    def __init__(self, bench: "Bench", width: int):
        self._rng = bench.rng
        self._client = bench.connect(Style.SIMPLE, kind=Impatient)
        self._is_writable = bench.setup.is_writable
        self._start = bench.setup.size - width
        self._bytes = bytearray(width)
        if self._is_writable and width:
            # Write all of it now: the test may fill the disk.
            self._bytes[:] = self._rng.randbytes(width)
            self._client.write(self._start, bytes(self._bytes))

    def step(self) -> None:
        """Write somewhere, and read everything."""
        width = len(self._bytes)
        if self._is_writable and width:
            at = self._rng.randrange(width)
            data = self._rng.randbytes(self._rng.randint(1, min(width - at, 4 * KIB)))
            self._client.write(self._start + at, data)
            self._bytes[at : at + len(data)] = data
        if width:
            assert self._client.read(self._start, width) == self._bytes, "the witness is hit"

    def leave(self) -> None:
        self.step()
        self._client.disconnect()
        self._client.close()


class Bench:
    """What a test works with: a server, connections to it, and the witness."""

    def __init__(self, server: harness.Nbdram, setup: ServerSetup, rng: random.Random):
        self.server, self.setup, self.rng = server, setup, rng
        self._stack = contextlib.ExitStack()
        # Tests use the lower half of the disk, or what is after its end.
        self.spot = setup.size // 4 * 3
        self.witness: Witness

    def __enter__(self) -> "Bench":
        with contextlib.ExitStack() as stack:
            stack.push(self.__exit__)
            self.witness = Witness(self, min(16 * KIB, self.setup.size // 8))
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def dial(self, kind: type[Connection] = Connection) -> Connection:
        """A connection on which nothing has been sent or received yet."""
        return self._stack.enter_context(kind.to(self.server.socket))

    def haggle(
        self, style: Style = Style.SIMPLE, kind: type[Connection] = Connection
    ) -> Connection:
        """A connection on which the server expects options."""
        return self.dial(kind).greet().negotiate(style)

    def connect(
        self, style: Style, name: bytes = b"", kind: type[Connection] = Connection
    ) -> Connection:
        """A connection in the transmission phase, with base:allocation where that is possible."""
        client = self.haggle(style, kind)
        if not client.handshake_flags & NBD_FLAG_FIXED_NEWSTYLE:
            client.export_name(name)
            return client
        if style is not Style.SIMPLE:
            assert client.set_contexts(name, [ALLOCATION]) == [ALLOCATION.decode()]
        client.go(name)
        return client

    def prove_in_step(self, client: Connection) -> None:
        """A request works on this connection."""
        if self.setup.is_writable:
            data = self.rng.randbytes(512)
            client.write(self.spot, data)
            assert client.read(self.spot, len(data)) == data
        else:
            assert client.read(self.spot, 512) == bytes(512)

    def enter(self, client: Connection) -> None:
        """Client and server are in step while they haggle: the transmission phase is reached."""
        assert len(client.list()) == 1
        client.go()
        self.prove_in_step(client)

    def outcome(self, client: Connection, request: Request) -> int | str:
        """Send a request.  Its error, 0 or CLOSED."""
        try:
            client.send(request.pack())
            self.witness.step()
            client.finish(request)
        except Closed:
            return CLOSED
        return request.error


def named(outcome: int | str, kind: str = "NBD_E") -> str:
    if isinstance(outcome, str):
        return outcome
    return spell(kind, outcome) if outcome else "success"


def check_outcome(
    outcome: int | str, allowed: tuple[int | str, ...], kind: str = "NBD_E"
) -> None:
    wanted = " or ".join(named(one, kind) for one in allowed)
    assert outcome in allowed, f"got {named(outcome, kind)}, expected {wanted}"


def whole_map(client: Connection, offset: int, length: int) -> list[Extent]:
    """The extents of a range, clipped to it, from as many requests as it takes.

    A busy server may end a reply in the middle of an extent.
    """
    found, end = [], offset + length
    while offset < end:
        extents = client.done(NBD_CMD_BLOCK_STATUS, offset, end - offset).allocation
        if found and found[-1].state == extents[0].state:
            offset -= found[-1].length
            extents[0] = Extent(found.pop().length + extents[0].length, extents[0].state)
        for extent in extents:
            found.append(Extent(min(extent.length, end - offset), extent.state))
            offset += found[-1].length
    assert sum(extent.length for extent in found) == length
    return found


# Flags of commands.

KNOWN_FLAGS = {
    NBD_CMD_READ: NBD_CMD_FLAG_DF,
    NBD_CMD_WRITE_ZEROES: NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    NBD_CMD_BLOCK_STATUS: NBD_CMD_FLAG_REQ_ONE,
}


def allowed_errors(style: Style, command: int, flags: int) -> tuple[int, ...]:
    """The errors, or 0, that a request may be answered with because of its command and flags."""
    known = NBD_CMD_FLAG_FUA | KNOWN_FLAGS.get(command, 0)
    if style is Style.SIMPLE:
        known &= ~NBD_CMD_FLAG_DF
    if style is Style.EXTENDED and command == NBD_CMD_WRITE:
        known |= NBD_CMD_FLAG_PAYLOAD_LEN
    if command in UNKNOWN_COMMANDS or flags & ~known:
        return (NBD_EINVAL,)
    if style is Style.SIMPLE and command == NBD_CMD_BLOCK_STATUS:
        return (NBD_EINVAL,)
    return (0, NBD_ENOTSUP) if flags & NBD_CMD_FLAG_FAST_ZERO else (0,)


# Styles.


def in_styles(*styles: Style) -> pytest.MarkDecorator:
    """The test runs once in each of these styles."""
    return pytest.mark.parametrize("style", styles, ids=[style.value for style in styles])


in_every_style = in_styles(*STYLES)
in_chunked_styles = in_styles(*CHUNKED)


# Rows of tables.


@dataclasses.dataclass(frozen=True)
class RequestRow:
    """One request on a connection of one style, and the outcomes that are allowed."""

    name: str
    style: Style
    command: int
    allowed: tuple[int | str, ...]
    offset: int = 0
    length: int = 512
    flags: int = 0
    setup: ServerSetup = PLAIN

    def play(self, bench: Bench) -> None:
        client = bench.connect(self.style)
        payload = bytes(self.length) if self.command == NBD_CMD_WRITE else b""
        request = client.request(self.command, self.offset, self.length, self.flags, payload)
        outcome = bench.outcome(client, request)
        check_outcome(outcome, self.allowed)
        if outcome != CLOSED:
            bench.prove_in_step(client)


@dataclasses.dataclass(frozen=True)
class OptionRow:
    """One option after others that succeed, and the outcomes that are allowed."""

    name: str
    option: int
    payload: bytes
    allowed: tuple[int | str, ...]
    before: tuple[tuple[int, bytes], ...] = ()
    setup: ServerSetup = PLAIN

    def play(self, bench: Bench) -> None:
        client = bench.haggle()
        for option, payload in self.before:
            client.accepted(option, payload)
        style = client.style
        try:
            client.send_option(self.option, self.payload)
            bench.witness.step()
            outcome = client.recv_option_replies(self.option)[-1].type
        except Closed:
            outcome = CLOSED
        check_outcome(outcome, self.allowed, "NBD_REP_")
        if outcome == CLOSED:
            return
        assert outcome == NBD_REP_ACK or client.style is style
        if self.option == NBD_OPT_ABORT and outcome == NBD_REP_ACK:
            client.expect_closed()
            return
        if (self.option, outcome) != (NBD_OPT_GO, NBD_REP_ACK):
            bench.enter(client)
        bench.prove_in_step(client)


def request_rows(name, command, allowed, *, styles=STYLES, **fields) -> list[RequestRow]:
    """A row for each style."""
    return [
        RequestRow(f"{name}-{style.value}", style, command, allowed, **fields)
        for style in styles
    ]


TABLES: list[list[RequestRow | OptionRow]] = []  # all that each_row() was called with


def each_row(*tables: Iterable[RequestRow | OptionRow]) -> pytest.MarkDecorator:
    """The test runs once for each row, as `row`, on the server that the row asks for."""
    rows = list(itertools.chain(*tables))
    TABLES.append(rows)
    pairs = [(row, row.setup) for row in rows]
    return pytest.mark.parametrize("row, server_setup", pairs, ids=[row.name for row in rows])


def short(command: int) -> str:
    return spell("NBD_CMD_", command).removeprefix("NBD_CMD_")


def short_option(option: int) -> str:
    return spell("NBD_OPT_", option).removeprefix("NBD_OPT_")


# Options, and what comes with them.

NO_DATA = (NBD_OPT_LIST, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS)
WITH_DATA = (NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT)
STRUCTURED_FIRST = ((NBD_OPT_STRUCTURED_REPLY, b""),)
EXTENDED_FIRST = ((NBD_OPT_EXTENDED_HEADERS, b""),)
INVALID = (NBD_REP_ERR_INVALID,)
UNSUPPORTED = (NBD_REP_ERR_UNSUP,)
TOO_BIG = (NBD_REP_ERR_TOO_BIG,)
CONTEXT_QUERY = pack_queries(b"", [ALLOCATION])

garbage = random.Random(20).randbytes

# {size: (data, outcomes)}: data for options that have none, and the outcomes that its size allows
# besides an error.  More than 64 KiB may be too big, and more than 1 MiB may also end the
# connection.
SIZES = {
    "1-byte": (b"\0", ()),
    "300-bytes": (garbage(300), ()),
    "4K": (bytes(4 * KIB), ()),
    "64K+1": (garbage(64 * KIB + 1), TOO_BIG),
    "1M": (garbage(MIB), TOO_BIG),
    "2M": (garbage(2 * MIB), (*TOO_BIG, CLOSED)),
}

# {kind: (name, outcomes)}: export names, and the outcomes of an option with such a name.
_LONG_NAME = (NBD_REP_ERR_INVALID, NBD_REP_ERR_TOO_BIG, NBD_REP_ERR_UNKNOWN)
_BAD_NAME = (NBD_REP_ERR_INVALID, NBD_REP_ERR_UNKNOWN)
_ODD_NAME = (NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_UNKNOWN)
NAMES = {
    "4096-bytes": (b"n" * 4096, (NBD_REP_ACK,)),
    "4097-bytes": (b"n" * 4097, _LONG_NAME),
    "60000-bytes": (b"n" * 60000, _LONG_NAME),
    "with-NUL": (b"na\0me", _BAD_NAME),
    "NUL": (b"\0", _BAD_NAME),
    "not-utf8": (b"\xff\xfe\xc3", _ODD_NAME),  # servers need not look
    "with-newlines-and-escapes": (b"\n\x1b[2J%s%n\r", (NBD_REP_ACK,)),
}


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u16(value: int) -> bytes:
    return struct.pack(">H", value)
