# SPDX-License-Identifier: BSD-3-Clause
"""nbdram against bytes that are malformed, or legal and rare.

A row is named RULE-WHAT[-STYLE].  Where the specification leaves a choice, or only says SHOULD,
the row allows every answer that it leaves.  STYLE is how replies come: simple, structured or
extended.  The rules:

  01  client flags that were not offered     11  requests of 4 GiB - 1 without payload
  02  options stay in step                   12  which error means what
  03  unknown options; EXPORT_NAME           13  unknown commands and flags; request magic
  04  STARTTLS                               14  FLUSH, DISC
  05  INFO is GO                             15  cookies; how bytes are cut into packets
  06  READ and its errors are structured     16  BLOCK_STATUS
  07  DF                                     17  metadata contexts
  08  out of range                           18  what is no hole has its space
  09  read-only                              19  stopping, and clients that vanish
  10  32 MiB of payload, and more; none      20  many connections
  ext extended headers

After every row that leaves the connection open, a request on it has to work: it is in step.  A
witness is connected to the same server all the time, writes and reads its own range while the
row runs, and must not notice.  The server has one thread, which serves the witness and the row.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import random
import select
import socket
import struct
import subprocess
from collections.abc import Callable

import pytest

from client import Closed, Connection
import harness
from harness import GIB, KIB, MIB, TIB
from wire import *  # noqa: F403 - the specification's constants, a hundred of them
from wire import Broken, Request, Style, pack_info, pack_option, pack_queries, spell

SIZE = 128 * MIB + 512  # no multiple of a page
LARGEST = (1 << 63) - 1
COUNT_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 64) - 1
PAYLOAD_MAX = 32 * MIB  # what every server has to take

STYLES = tuple(Style)
CHUNKED = (Style.STRUCTURED, Style.EXTENDED)
ALLOCATION = b"base:allocation"
CLOSED = "closed"  # an outcome, beside the errors and reply types

DATA_COMMANDS = (NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE) + (
    NBD_CMD_WRITE_ZEROES,
    NBD_CMD_BLOCK_STATUS,
)
WRITERS = (NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES)
UNKNOWN_COMMANDS = (NBD_CMD_RESIZE, 9, 0x100, 0xFFFF)


@dataclasses.dataclass(frozen=True)
class Setup:
    """The server of a row."""

    size: int = SIZE
    params: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def is_writable(self) -> bool:
        return "-r" not in self.flags


PLAIN = Setup()
READ_ONLY = Setup(flags=("-r",))
WIDE = Setup(size=8 * GIB)
HUGE = Setup(size=LARGEST)


WITNESS_SECONDS = 4  # a stall; what rows ask for takes a small part of it


class Impatient(Connection):
    """Does not wait for an answer as long as others do, who only want to see no hang."""

    def recv(self, count: int) -> bytes:
        if count and not select.select([self.sock], [], [], WITNESS_SECONDS)[0]:
            raise Broken(f"the witness has no answer in {WITNESS_SECONDS} s")
        return super().recv(count)


class Witness:
    """A healthy client with a range of its own, the last of the disk."""

    def __init__(self, bench: "Bench", width: int):
        self._rng = bench.rng
        self._client = bench.connect(Style.SIMPLE, kind=Impatient)
        self._is_writable = bench.setup.is_writable
        self._start = bench.setup.size - width
        self._bytes = bytearray(width)
        if self._is_writable and width:
            # All of it now: the row may fill the disk.
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
    """What a row works with: a server, connections to it, and the witness."""

    def __init__(self, server: harness.Nbdram, setup: Setup, rng: random.Random):
        self.server, self.setup, self.rng = server, setup, rng
        self._stack = contextlib.ExitStack()
        # Rows stay below half of the disk, or off the end.
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
        """A connection on which nothing was said yet."""
        return self._stack.enter_context(kind.to(self.server.socket))

    def haggle(
        self, style: Style = Style.SIMPLE, kind: type[Connection] = Connection
    ) -> Connection:
        """A connection where options are awaited."""
        return self.dial(kind).greet().negotiate(style)

    def connect(
        self, style: Style, name: bytes = b"", kind: type[Connection] = Connection
    ) -> Connection:
        """A connection in the transmission phase, with base:allocation where that can be."""
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
        """The option haggling is in step: end it well."""
        assert len(client.list()) == 1
        client.go()
        self.prove_in_step(client)

    def outcome(self, client: Connection, request: Request) -> int | str:
        """Send a request: its error, 0 or CLOSED."""
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


# Rows.


@dataclasses.dataclass(frozen=True)
class Ask:
    """One request, in a connection of one style."""

    name: str
    style: Style
    command: int
    allowed: tuple[int | str, ...]
    offset: int = 0
    length: int = 512
    flags: int = 0
    setup: Setup = PLAIN

    def play(self, bench: Bench) -> None:
        client = bench.connect(self.style)
        payload = bytes(self.length) if self.command == NBD_CMD_WRITE else b""
        request = client.request(self.command, self.offset, self.length, self.flags, payload)
        outcome = bench.outcome(client, request)
        check_outcome(outcome, self.allowed)
        if outcome != CLOSED:
            bench.prove_in_step(client)


@dataclasses.dataclass(frozen=True)
class Haggle:
    """One option, after others that succeed."""

    name: str
    option: int
    payload: bytes
    allowed: tuple[int | str, ...]
    before: tuple[tuple[int, bytes], ...] = ()
    setup: Setup = PLAIN

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


@dataclasses.dataclass(frozen=True)
class Script:
    """Anything that takes more than one step."""

    name: str
    function: Callable
    style: Style | None = None
    setup: Setup = PLAIN

    def play(self, bench: Bench) -> None:
        if self.style is None:
            self.function(bench)
        else:
            self.function(bench, self.style)


ROWS: list[Ask | Haggle | Script] = []


def ask(name, command, allowed, *, styles=STYLES, **fields) -> None:
    for style in styles:
        ROWS.append(Ask(f"{name}-{style.value}", style, command, allowed, **fields))


def haggle(name, option, payload, allowed, **fields) -> None:
    ROWS.append(Haggle(name, option, payload, allowed, **fields))


def script(name, *, styles=(None,), setups=None):
    """Decorator: the function is a row, or one for each style and setup ({suffix: Setup})."""

    def add(function):
        for style in styles:
            for suffix, setup in (setups or {"": PLAIN}).items():
                words = [name, suffix, style.value if style else ""]
                ROWS.append(Script("-".join(filter(None, words)), function, style, setup))
        return function

    return add


def short(command: int) -> str:
    return spell("NBD_CMD_", command).removeprefix("NBD_CMD_")


def short_option(option: int) -> str:
    return spell("NBD_OPT_", option).removeprefix("NBD_OPT_")


# 01: client flags.


def refuse_flags(flags: int) -> Callable:
    def play(bench: Bench) -> None:
        client = bench.dial()
        client.recv_greeting()
        client.send_client_flags(flags)
        bench.witness.step()
        client.expect_closed()

    return play


for flags in (1 << 2, 3 | 1 << 3, 3 | 1 << 16, 3 | 1 << 31, 0x00030000, 0x03000000, COUNT_MAX):
    script(f"01-unknown-client-flags-{flags:#x}-closed")(refuse_flags(flags))

# What was masked was not offered.
for mask, flags in ((0, 1), (0, 2), (0, 3), (1, 3), (1, 2), (2, 1), (2, 3)):
    script(
        f"01-masked-handshake-{mask}-client-flags-{flags}-closed",
        setups={"": Setup(flags=(f"--mask-handshake={mask}",))},
    )(refuse_flags(flags))


@script("01-client-without-flags-may-name-an-export")
def _(bench):
    for flags in (0, NBD_FLAG_C_NO_ZEROES):  # the old newstyle: this option only
        client = bench.dial().greet(flags)
        client.export_name()
        bench.prove_in_step(client)


@script(
    "01-masked-handshake-is-what-is-offered",
    setups={f"{mask}": Setup(flags=(f"--mask-handshake={mask}",)) for mask in range(4)},
)
def _(bench):
    (mask,) = (int(word.partition("=")[2]) for word in bench.setup.flags)
    client = bench.dial().greet()
    assert client.handshake_flags == mask
    client.export_name()
    bench.prove_in_step(client)


@script("01-flags-sent-before-the-greeting-is-read-with-the-first-option")
def _(bench):
    client = bench.dial()
    flags = struct.pack(">I", NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)
    client.send(flags + pack_option(NBD_OPT_LIST))
    client.recv_greeting()
    assert client.recv_option_replies(NBD_OPT_LIST)[-1].type == NBD_REP_ACK
    bench.enter(client)


# 02, 03, 04: options.

NO_DATA = (NBD_OPT_LIST, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS)
WITH_DATA = (NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT)
UNKNOWN_OPTIONS = (0, NBD_OPT_PEEK_EXPORT, 12, 0x1234, NBD_REP_ERR_INVALID, COUNT_MAX)
SR = ((NBD_OPT_STRUCTURED_REPLY, b""),)
INVALID = (NBD_REP_ERR_INVALID,)
UNSUPPORTED = (NBD_REP_ERR_UNSUP,)
NO_TLS = (NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_PLATFORM)
TOO_BIG = (NBD_REP_ERR_TOO_BIG,)
garbage = random.Random(20).randbytes

# Options without data that have some: SHOULD be ERR_INVALID.  More than 64 KiB may be too big,
# more than 1 MiB may also end the connection.
SIZES = {
    "1-byte": (b"\0", ()),
    "300-bytes": (garbage(300), ()),
    "4K": (bytes(4 * KIB), ()),
    "64K+1": (garbage(64 * KIB + 1), TOO_BIG),
    "1M": (garbage(MIB), TOO_BIG),
    "2M": (garbage(2 * MIB), (*TOO_BIG, CLOSED)),
}
for (size, (data, also)), option in itertools.product(SIZES.items(), NO_DATA):
    haggle(f"02-{short_option(option)}-with-{size}", option, data, INVALID + also)
for size, (data, also) in SIZES.items():
    haggle(f"04-no-tls-STARTTLS-with-{size}", NBD_OPT_STARTTLS, data, INVALID + NO_TLS + also)
    # What it asks for is the end, so that is an answer too if there is much to ignore.
    allowed = (NBD_REP_ACK, *also, CLOSED) if also else (NBD_REP_ACK,)
    haggle(f"02-ABORT-with-{size}", NBD_OPT_ABORT, data, allowed)
    for option in UNKNOWN_OPTIONS:
        haggle(f"03-unknown-option-{option:#x}-with-{size}", option, data, UNSUPPORTED + also)
for option in UNKNOWN_OPTIONS:
    haggle(f"03-unknown-option-{option:#x}", option, b"", UNSUPPORTED)
haggle("04-no-tls-STARTTLS", NBD_OPT_STARTTLS, b"", NO_TLS)
for option, size in itertools.product(WITH_DATA, ("64K+1", "1M", "2M")):
    data, also = SIZES[size]
    name = f"02-{short_option(option)}-with-{size}-of-garbage"
    haggle(name, option, data, INVALID + also, before=SR)


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u16(value: int) -> bytes:
    return struct.pack(">H", value)


MALFORMED_INFO = {
    "empty": b"",
    "one-byte": b"\0",
    "three-bytes": bytes(3),
    "name-length-only": u32(0),
    "half-a-count": u32(0) + b"\0",
    "name-without-count": u32(4) + b"name",
    "name-longer-than-data": u32(5) + b"name",
    "name-takes-the-count": u32(6) + b"name" + u16(0),
    "name-length-max": u32(COUNT_MAX) + b"name" + u16(0),
    "name-length-wraps": u32(COUNT_MAX - 5) + b"name" + u16(0),
    "name-length-negative": u32(1 << 31) + b"name" + u16(0),
    "count-one-too-many": u32(0) + u16(1),
    "count-one-too-few": u32(0) + u16(0) + u16(NBD_INFO_BLOCK_SIZE),
    "count-max": u32(0) + u16(0xFFFF) + u16(NBD_INFO_BLOCK_SIZE),
    "count-wraps": u32(0) + u16(0x8000),
    "odd-byte": u32(0) + u16(1) + u16(NBD_INFO_BLOCK_SIZE) + b"\0",
    "half-a-request": u32(0) + u16(1) + b"\0",
}
for what, data in MALFORMED_INFO.items():
    for option in (NBD_OPT_INFO, NBD_OPT_GO):
        haggle(f"02-{short_option(option)}-{what}-ERR_INVALID", option, data, INVALID)

LONG_NAME = (NBD_REP_ERR_INVALID, NBD_REP_ERR_TOO_BIG, NBD_REP_ERR_UNKNOWN)
BAD_NAME = (NBD_REP_ERR_INVALID, NBD_REP_ERR_UNKNOWN)
ODD_NAME = (NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_UNKNOWN)
NAMES = {
    "4096-bytes": (b"n" * 4096, (NBD_REP_ACK,)),
    "4097-bytes": (b"n" * 4097, LONG_NAME),
    "60000-bytes": (b"n" * 60000, LONG_NAME),
    "with-NUL": (b"na\0me", BAD_NAME),
    "NUL": (b"\0", BAD_NAME),
    "not-utf8": (b"\xff\xfe\xc3", ODD_NAME),  # servers need not look
    "with-newlines-and-escapes": (b"\n\x1b[2J%s%n\r", (NBD_REP_ACK,)),
}
for what, (export, allowed) in NAMES.items():
    for option in (NBD_OPT_INFO, NBD_OPT_GO):
        haggle(f"02-{short_option(option)}-name-{what}", option, pack_info(export), allowed)
    for option in (NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT):
        data = pack_queries(export, [ALLOCATION])
        haggle(f"02-{short_option(option)}-name-{what}", option, data, allowed, before=SR)

MALFORMED_QUERIES = {
    "empty": b"",
    "three-bytes": bytes(3),
    "name-length-only": u32(0),
    "name-without-count": u32(4) + b"name",
    "name-longer-than-data": u32(9) + b"name" + u32(0),
    "name-length-max": u32(COUNT_MAX) + b"name" + u32(0),
    "name-length-wraps": u32(COUNT_MAX - 7) + b"name" + u32(0),
    "half-a-count": u32(0) + b"\0\0",
    "count-one-too-many": pack_queries(b"", [ALLOCATION]).replace(u32(1), u32(2)),
    "count-one-too-few": u32(0) + u32(0) + u32(15) + ALLOCATION,
    "count-max": u32(0) + u32(COUNT_MAX) + u32(15) + ALLOCATION,
    "count-wraps": u32(0) + u32(1 << 30) + u32(15) + ALLOCATION,
    "query-longer-than-data": u32(0) + u32(1) + u32(16) + ALLOCATION,
    "query-length-max": u32(0) + u32(1) + u32(COUNT_MAX) + ALLOCATION,
    "query-length-only": u32(0) + u32(1) + u32(15),
    "half-a-query-length": u32(0) + u32(1) + b"\0",
    "trailing-bytes": pack_queries(b"", [ALLOCATION]) + b"\0",
}
# A count that no option could hold may be too big.
for what, data in MALFORMED_QUERIES.items():
    allowed = INVALID + (TOO_BIG if what in ("count-max", "count-wraps") else ())
    for option in (NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT):
        haggle(f"17-{short_option(option)}-{what}", option, data, allowed, before=SR)


@script("02-ABORT-is-acked", setups={"": PLAIN, "read-only": READ_ONLY})
def _(bench):
    for data in (b"", b"!", garbage(4000)):  # SHOULD ignore any data
        client = bench.haggle()
        client.accepted(NBD_OPT_ABORT, data)
        client.expect_closed()
    client = bench.haggle()
    client.send_option(NBD_OPT_ABORT)
    client.close()  # without waiting for the reply


@script("02-bad-option-magic-closed")
def _(bench):
    for magic in (0, NBDMAGIC, NBD_REP_MAGIC, IHAVEOPT ^ 1, IHAVEOPT << 8 & OFFSET_MAX):
        client = bench.haggle()
        client.send(pack_option(NBD_OPT_LIST, magic=magic))
        bench.witness.step()
        client.expect_closed()


@script("02-request-instead-of-option-closed")
def _(bench):
    client = bench.haggle()
    client.send_request(NBD_CMD_READ, 0, 512)
    client.expect_closed()


@script("02-option-of-4G-closed-or-drained")
def _(bench):
    for option in (NBD_OPT_EXPORT_NAME, *NO_DATA, *WITH_DATA, 99):
        client = bench.haggle()
        with contextlib.suppress(Closed):
            client.send(pack_option(option, bytes(MIB), length=COUNT_MAX))
            client.finish_sending()
        bench.witness.step()
        # An error may come before the end; nothing else may.
        with contextlib.suppress(Closed):
            assert client.recv_option_reply(option).is_error
            client.expect_closed()


@script("02-options-split-at-every-byte")
def _(bench):
    for option, data in (
        (NBD_OPT_INFO, pack_info(b"xy", [NBD_INFO_BLOCK_SIZE])),
        (NBD_OPT_SET_META_CONTEXT, pack_queries(b"xy", [ALLOCATION])),
        (99, b"abc"),
    ):
        whole = pack_option(option, data)
        for at in range(1, len(whole)):
            client = bench.haggle(Style.STRUCTURED)
            client.send(whole[:at])
            bench.witness.step()
            client.send(whole[at:])
            final = client.recv_option_replies(option)[-1]
            assert final.type == (NBD_REP_ERR_UNSUP if option == 99 else NBD_REP_ACK)
            client.abort()
            client.close()


@script("02-gone-within-an-option")
def _(bench):
    whole = pack_option(NBD_OPT_SET_META_CONTEXT, pack_queries(b"", [ALLOCATION]))
    for at in range(len(whole)):
        client = bench.haggle(Style.STRUCTURED)
        client.send(whole[:at])
        client.close()
        bench.witness.step()


@script("02-many-errors-and-still-in-step")
def _(bench):
    """As many as should not yet look like an attack."""
    client = bench.haggle()
    for _ in range(24):
        option = bench.rng.choice((99, *NO_DATA, *WITH_DATA))
        data = bench.rng.randbytes(bench.rng.randint(1, 3000))
        final = client.option(option, data)[-1]
        assert final.is_error, f"option {option}: {final}"
    bench.enter(client)


@script("03-EXPORT_NAME")
def _(bench):
    for name in (b"", b"any", b"n" * 4096, "disk \N{SNOWMAN}".encode()):
        for flags in (NBD_FLAG_C_FIXED_NEWSTYLE, 3):  # with 124 zeroes, and without
            client = bench.dial().greet(flags)
            assert client.export_name(name).size == bench.setup.size
            bench.prove_in_step(client)


@script("03-EXPORT_NAME-after-other-options")
def _(bench):
    for style in (Style.SIMPLE, Style.STRUCTURED):
        client = bench.haggle(style)
        client.option(99)
        client.list()
        assert client.info().flags == client.export_name().flags
        bench.prove_in_step(client)


@script("03-EXPORT_NAME-bad-name-closed")
def _(bench):
    for name in (b"n" * 4097, b"n" * 70000, b"\0", b"na\0me", b"name\0"):
        client = bench.haggle()
        with contextlib.suppress(Closed):
            client.send_option(NBD_OPT_EXPORT_NAME, name)
        bench.witness.step()
        client.expect_closed()


@script("03-LIST", setups={"": PLAIN, "named": Setup(flags=("-e", "disk"))})
def _(bench):
    name = "disk" if bench.setup.flags else ""
    client = bench.haggle()
    assert client.list() == [name]
    assert client.list() == [name]
    client.info(b"disk")
    client.go(name.encode())
    bench.prove_in_step(client)


# 04: STARTTLS.


@script("04-no-tls-STARTTLS-keeps-what-was-negotiated", styles=CHUNKED)
def _(bench, style):
    client = bench.haggle(style)
    client.set_contexts(b"", [ALLOCATION])
    assert client.option(NBD_OPT_STARTTLS)[-1].is_error
    client.go()
    client.done(NBD_CMD_BLOCK_STATUS, 0, MIB)
    bench.prove_in_step(client)


# 05: INFO and GO.

INFO_REQUESTS = {
    "none": [],
    "export": [NBD_INFO_EXPORT],
    "name": [NBD_INFO_NAME],
    "description": [NBD_INFO_DESCRIPTION],
    "block-size": [NBD_INFO_BLOCK_SIZE],
    "all": [3, 2, 1, 0],
    "unknown": [4, 0x7FFF, 0xFFFF],
    "known-among-unknown": [0xFFFF, NBD_INFO_BLOCK_SIZE, 77],
    "duplicates": [3, 3, 0, 0, 1, 1, 3],
    "thousand": [NBD_INFO_BLOCK_SIZE] * 1000,
}


def info_is_go(requests: list[int]) -> Callable:
    def play(bench: Bench, style: Style) -> None:
        for name in (b"", b"some name"):
            client = bench.haggle(style)
            payload = pack_info(name, requests)
            told = client.accepted(NBD_OPT_INFO, payload)
            again = client.accepted(NBD_OPT_INFO, payload)
            gone = client.accepted(NBD_OPT_GO, payload)
            assert sorted(told) == sorted(again)
            assert [reply[2] for reply in sorted(told)] == [reply[2] for reply in sorted(gone)]
            assert client.export.size == bench.setup.size
            if client.export.name is not None:
                assert client.export.name in ("", name.decode())
            assert NBD_INFO_BLOCK_SIZE not in requests or client.export.block_size
            bench.prove_in_step(client)

    return play


for what, requests in INFO_REQUESTS.items():
    script(f"05-INFO-is-GO-{what}", styles=STYLES)(info_is_go(requests))

haggle(
    "05-GO-30000-requests",
    NBD_OPT_GO,
    pack_info(b"", [NBD_INFO_BLOCK_SIZE] * 30000),
    (NBD_REP_ACK, NBD_REP_ERR_TOO_BIG),
)

ALLOCATOR_SETUPS = {
    name: Setup(params=(f"allocator={name}",)) for name in ("sparse", "malloc", "zstd")
}


@script("05-block-size", setups=ALLOCATOR_SETUPS)
def _(bench):
    client = bench.haggle()
    minimum, preferred, maximum = client.go(b"", [NBD_INFO_BLOCK_SIZE]).block_size
    assert minimum == 1
    assert preferred in (4 * KIB, 32 * KIB)  # a page of the allocator
    assert preferred == 32 * KIB or "allocator=zstd" not in bench.setup.params
    assert maximum >= PAYLOAD_MAX


@script("05-transmission-flags", styles=STYLES, setups={"": PLAIN, "read-only": READ_ONLY})
def _(bench, style):
    flags = bench.connect(style).export.flags
    must = may = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_CAN_MULTI_CONN
    must |= NBD_FLAG_SEND_CACHE
    writing = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO
    writing |= NBD_FLAG_SEND_FUA
    if bench.setup.is_writable:
        must |= writing
    else:
        must |= NBD_FLAG_READ_ONLY
    if style is not Style.SIMPLE:
        must |= NBD_FLAG_SEND_DF
    if style is Style.EXTENDED:
        may |= NBD_FLAG_BLOCK_STATUS_PAYLOAD
    may |= must | writing  # a read-only server may name what it would refuse
    assert flags & must == must, f"{must & ~flags:#x} is missing"
    assert flags & ~may == 0, f"{flags & ~may:#x} too many"


@script("05-disk-of-no-bytes", styles=STYLES, setups={"": Setup(size=0)})
def _(bench, style):
    client = bench.connect(style)
    assert client.export.size == 0
    for command in DATA_COMMANDS:
        data = b"!" if command == NBD_CMD_WRITE else b""
        assert client.call(command, 0, 1, payload=data).error in (NBD_EINVAL, NBD_ENOSPC)
    client.done(NBD_CMD_FLUSH)
    client.disconnect()


@script("05-disk-of-odd-size", styles=STYLES, setups={"": Setup(size=5 * MIB + 4097)})
def _(bench, style):
    client = bench.connect(style)
    end = bench.setup.size
    assert client.export.size == end
    assert client.call(NBD_CMD_READ, end - 5, 6).error == NBD_EINVAL
    assert client.call(NBD_CMD_READ, end - 5, 5).error == 0


# 06: structured replies.


@script("06-every-READ-is-in-its-style", styles=STYLES)
def _(bench, style):
    """wire.py looks at the form of all these replies."""
    client = bench.connect(style)
    for offset, length, flags, error in (
        (0, 1, 0, 0),
        (0, 4 * KIB, NBD_CMD_FLAG_FUA, 0),
        (SIZE, 1, 0, NBD_EINVAL),
        (OFFSET_MAX, 1, 0, NBD_EINVAL),
        (0, 512, 1 << 15, NBD_EINVAL),
        (0, 512, NBD_CMD_FLAG_NO_HOLE, NBD_EINVAL),
    ):
        request = client.call(NBD_CMD_READ, offset, length, flags)
        assert request.error == error
        assert not (error and request.content)
    bench.prove_in_step(client)


@script("06-holes-and-data", styles=STYLES)
def _(bench, style):
    """A read across data and holes, however it is cut."""
    client = bench.connect(style)
    shadow = bytearray(2 * MIB)
    for page in bench.rng.sample(range(0, 2 * MIB, 32 * KIB), 20):
        data = bench.rng.randbytes(32 * KIB)
        client.write(page, data)
        shadow[page : page + len(data)] = data
    assert client.read(0, len(shadow)) == shadow
    for _ in range(30):
        start = bench.rng.randrange(len(shadow))
        count = bench.rng.randint(1, len(shadow) - start)
        assert client.read(start, count) == shadow[start : start + count]
        # A client that wants no fragments may be told that this is too much.
        request = client.call(NBD_CMD_READ, start, count, NBD_CMD_FLAG_DF)
        if style is Style.SIMPLE:
            assert request.error == NBD_EINVAL
        elif request.error:
            assert request.error == NBD_EOVERFLOW and count > 64 * KIB
            assert not request.content
        else:
            assert request.data == shadow[start : start + count]


@script("06-hole-is-read-as-a-hole", styles=CHUNKED)
def _(bench, style):
    """The specification leaves it open; this server promises it."""
    client = bench.connect(style)
    request = client.done(NBD_CMD_READ, 0, 4 * MIB)
    assert all(data is None for _, _, data in request.content)


@script("06-STRUCTURED_REPLY-twice")
def _(bench):
    client = bench.haggle(Style.STRUCTURED)
    final = client.option(NBD_OPT_STRUCTURED_REPLY)[-1]
    assert final.type in (NBD_REP_ACK, NBD_REP_ERR_INVALID)
    bench.enter(client)


@script("06-refused-STRUCTURED_REPLY-leaves-replies-simple")
def _(bench):
    client = bench.haggle()
    assert client.option(NBD_OPT_STRUCTURED_REPLY, b"data")[-1].is_error
    client.go()
    assert isinstance(client.call(NBD_CMD_READ, 0, 512).replies[0], SimpleReply)
    assert isinstance(client.call(NBD_CMD_READ, SIZE, 512).replies[0], SimpleReply)


@script("06-no-sr", setups={"": Setup(flags=("--no-sr",))})
def _(bench):
    client = bench.haggle()
    for option in (NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS):
        assert client.option(option)[-1].type in (NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY)
    data = pack_queries(b"", [ALLOCATION])
    assert client.option(NBD_OPT_SET_META_CONTEXT, data)[-1].is_error
    bench.enter(client)
    assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512).error == NBD_EINVAL


# 07: DF.


@script("07-DF-of-64K-is-one-chunk", styles=CHUNKED, setups=ALLOCATOR_SETUPS)
def _(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(4 * KIB)
    client.write(96 * KIB, data)
    shadow = bytes(96 * KIB) + data + bytes(92 * KIB)
    for start in (0, 64 * KIB, 95 * KIB + 1, 96 * KIB, 128 * KIB):
        request = client.done(NBD_CMD_READ, start, 64 * KIB, NBD_CMD_FLAG_DF)
        assert len(request.content) == 1
        assert request.data == shadow[start : start + 64 * KIB]


ask(
    "07-DF-of-32M",
    NBD_CMD_READ,
    (0, NBD_EOVERFLOW),
    styles=CHUNKED,
    length=PAYLOAD_MAX,
    flags=NBD_CMD_FLAG_DF,
)
ask("07-DF-not-offered", NBD_CMD_READ, (NBD_EINVAL,), styles=STYLES[:1], flags=NBD_CMD_FLAG_DF)

# 08: out of range.

BEYOND = {
    NBD_CMD_READ: NBD_EINVAL,
    NBD_CMD_WRITE: NBD_ENOSPC,
    NBD_CMD_TRIM: NBD_EINVAL,
    NBD_CMD_CACHE: NBD_EINVAL,
    NBD_CMD_WRITE_ZEROES: NBD_ENOSPC,
    NBD_CMD_BLOCK_STATUS: NBD_EINVAL,
}
RANGES = {
    "past-end": (SIZE, 1),
    "across-end": (SIZE - 1, 2),
    "offset-2^63": (1 << 63, 512),
    "offset-max": (OFFSET_MAX, 1),
    "ending-at-2^64": (OFFSET_MAX - 511, 512),
    "wrapping-to-the-start": (OFFSET_MAX - 511, 1024),
    "payload-of-1M": (SIZE - 512, MIB),
}
for (command, error), (where, (offset, length)) in itertools.product(
    BEYOND.items(), RANGES.items()
):
    name = f"08-{short(command)}-{where}-{spell('NBD_E', error)}"
    ask(name, command, (error,), offset=offset, length=length)

FAR_RANGES = {
    "all-and-one": (0, SIZE + 1),
    "count-max": (0, COUNT_MAX),
    "wrapping-far": (OFFSET_MAX - COUNT_MAX + 2, COUNT_MAX),
}
# A READ so long may be too long, wherever it is.
for where, (offset, length) in FAR_RANGES.items():
    for command, error in BEYOND.items():
        if command != NBD_CMD_WRITE:
            also = (NBD_EOVERFLOW,) if command == NBD_CMD_READ else ()
            name = f"08-{short(command)}-{where}"
            ask(name, command, (error, *also), offset=offset, length=length)

LONG_RANGES = {
    "2^32": (0, 1 << 32),
    "2^32-and-512": (0, (1 << 32) + 512),
    "2^63": (0, 1 << 63),
    "2^64-1": (0, OFFSET_MAX),
    "2^64-1-wrapping": (512, OFFSET_MAX),
    "ending-at-2^64": (SIZE, OFFSET_MAX - SIZE + 1),
}
for where, (offset, length) in LONG_RANGES.items():
    for command, error in BEYOND.items():
        if command != NBD_CMD_WRITE:
            also = (NBD_EOVERFLOW,) if command == NBD_CMD_READ else ()
            name = f"08-{short(command)}-length-{where}"
            fields = {"offset": offset, "length": length}
            ask(name, command, (error, *also), styles=STYLES[2:], **fields)


@script("08-refused-writes-change-nothing", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(4 * KIB)
    client.write(0, data)
    for command in (NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM):
        for offset in (OFFSET_MAX - 511, OFFSET_MAX - 4 * KIB + 1, SIZE - 1, SIZE):
            payload = b"\xee" * 4 * KIB if command == NBD_CMD_WRITE else b""
            assert client.call(command, offset, 4 * KIB, payload=payload).error
            bench.witness.step()
    assert client.read(0, 8 * KIB) == data + bytes(4 * KIB)


# 09: read-only.

for command, length in itertools.product(WRITERS, (1, 64 * KIB, 8 * MIB)):
    name = f"09-read-only-{short(command)}-{length}"
    ask(name, command, (NBD_EPERM,), length=length, setup=READ_ONLY)
for command in WRITERS:
    fields = {"flags": NBD_CMD_FLAG_FUA, "setup": READ_ONLY}
    ask(f"09-read-only-{short(command)}-FUA", command, (NBD_EPERM,), **fields)
    # Two reasons to refuse: either.
    fields = {"offset": SIZE, "setup": READ_ONLY}
    name = f"09-read-only-{short(command)}-beyond-end"
    ask(name, command, (NBD_EPERM, BEYOND[command]), **fields)
for flags in (NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_FAST_ZERO):
    name = f"09-read-only-WRITE_ZEROES-flags-{flags:#x}"
    # FAST_ZERO may not be offered there.
    allowed = (NBD_EPERM, NBD_EINVAL) if flags == NBD_CMD_FLAG_FAST_ZERO else (NBD_EPERM,)
    ask(name, NBD_CMD_WRITE_ZEROES, allowed, flags=flags, setup=READ_ONLY)
for command in (NBD_CMD_READ, NBD_CMD_CACHE):
    ask(f"09-read-only-{short(command)}", command, (0,), setup=READ_ONLY)
ask("09-read-only-FLUSH", NBD_CMD_FLUSH, (0,), length=0, setup=READ_ONLY)
ask("09-read-only-BLOCK_STATUS", NBD_CMD_BLOCK_STATUS, (0,), styles=CHUNKED, setup=READ_ONLY)


@script("09-read-only-pipelined", styles=STYLES, setups={"": READ_ONLY})
def _(bench, style):
    """Refused payloads between reads, in one send."""
    client = bench.connect(style)
    requests = []
    for number in range(40):
        requests.append(client.request(NBD_CMD_WRITE, number * 512, payload=b"\xee" * 700))
        requests.append(client.request(NBD_CMD_READ, number * 512, 512))
    client.send(b"".join(request.pack() for request in requests))
    for request in requests:
        client.finish(request)
        is_write = request.command == NBD_CMD_WRITE
        assert request.error == (NBD_EPERM if is_write else 0)
        assert is_write or request.data == bytes(512)


# 10: payloads.

TOO_LONG_WRITE = (0, NBD_EINVAL, NBD_ENOSPC, CLOSED)  # drained or dropped
TOO_LONG_READ = (0, NBD_EINVAL, NBD_EOVERFLOW)
ask("10-WRITE-32M+1", NBD_CMD_WRITE, TOO_LONG_WRITE, length=PAYLOAD_MAX + 1)
ask("10-WRITE-48M", NBD_CMD_WRITE, TOO_LONG_WRITE, length=48 * MIB)
ask("10-READ-32M+1", NBD_CMD_READ, TOO_LONG_READ, length=PAYLOAD_MAX + 1)
ask("10-READ-all", NBD_CMD_READ, TOO_LONG_READ, length=SIZE)
# Holes could be told in one chunk; 4 GiB of simple reply nobody sends.
ask("10-READ-4G-1", NBD_CMD_READ, TOO_LONG_READ[1:], length=COUNT_MAX, setup=WIDE)
for command in DATA_COMMANDS:
    styles = CHUNKED if command == NBD_CMD_BLOCK_STATUS else STYLES
    # Unspecified, but SHOULD NOT disconnect.
    allowed = (0, NBD_EINVAL, NBD_ENOSPC)
    ask(f"10-empty-{short(command)}", command, allowed, styles=styles, length=0)
    fields = {"offset": SIZE, "length": 0}
    ask(f"10-empty-{short(command)}-at-end", command, allowed, **fields)
    fields = {"offset": OFFSET_MAX, "length": 0}
    ask(f"10-empty-{short(command)}-beyond", command, allowed, **fields)


def longest_payload(bench: Bench, style: Style) -> None:
    client = bench.connect(style)
    data = bench.rng.randbytes(MIB) * (PAYLOAD_MAX // MIB)
    client.write(12345, data)
    bench.witness.step()
    assert client.read(12345, len(data)) == data


script("10-32M", styles=STYLES)(longest_payload)
for allocator in ("malloc", "zstd"):
    setups = {allocator: ALLOCATOR_SETUPS[allocator]}
    script("10-32M", styles=STYLES[1:2], setups=setups)(longest_payload)


@script("10-WRITE-4G-1-closed-or-drained", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    request = client.request(NBD_CMD_WRITE, 0, COUNT_MAX, payload=bytes(MIB))
    with contextlib.suppress(Closed):
        client.send(request.pack())
        client.finish_sending()
    bench.witness.step()
    with contextlib.suppress(Closed):
        client.finish(request)  # an early answer
        assert request.error in (NBD_EINVAL, NBD_ENOSPC)
        client.expect_closed()


# 11: long requests without payload.

for command in (NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE, NBD_CMD_BLOCK_STATUS):
    styles = CHUNKED if command == NBD_CMD_BLOCK_STATUS else STYLES
    for offset in (0, 4 * KIB + 1):
        name = f"11-{short(command)}-4G-1-at-{offset}"
        ask(name, command, (0,), styles=styles, offset=offset, length=COUNT_MAX, setup=WIDE)
ask(
    "11-WRITE_ZEROES-4G-1-FAST_ZERO",
    NBD_CMD_WRITE_ZEROES,
    (0, NBD_ENOTSUP),
    length=COUNT_MAX,
    flags=NBD_CMD_FLAG_FAST_ZERO,
    setup=WIDE,
)


@script("11-zeroing-4G-1-of-data", styles=STYLES, setups={"": WIDE})
def _(bench, style):
    client = bench.connect(style)
    places = (0, 4 * KIB, GIB + 1, COUNT_MAX - 4 * KIB)
    for at in places:
        client.write(at, b"\xee" * 4 * KIB)
    client.done(NBD_CMD_WRITE_ZEROES, 1, COUNT_MAX - 2)
    assert client.read(0, 1) == b"\xee"
    assert client.read(COUNT_MAX - 1, 1) == b"\xee"
    for at in places:
        assert client.read(at + 1, 4 * KIB - 2) == bytes(4 * KIB - 2)


# 12: errors.


@script("12-FAST_ZERO-is-done-or-changes-nothing", styles=STYLES, setups=ALLOCATOR_SETUPS)
def _(bench, style):
    client = bench.connect(style)
    for flags in (0, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_FUA):
        for offset, length in ((0, 64 * KIB), (1, 64 * KIB), (4 * KIB, 1)):
            client.write(0, b"\xee" * 128 * KIB)
            whole = flags | NBD_CMD_FLAG_FAST_ZERO
            error = client.call(NBD_CMD_WRITE_ZEROES, offset, length, whole).error
            assert error in (0, NBD_ENOTSUP)
            wanted = b"\xee" if error else b"\0"
            assert client.read(offset, length) == wanted * length
            # ENOTSUP is for FAST_ZERO only.
            client.done(NBD_CMD_WRITE_ZEROES, offset, length, flags)
            assert client.read(offset, length) == bytes(length)


@script("12-full-disk-is-ENOSPC", styles=STYLES, setups={"": Setup(params=("limit=4M",))})
def _(bench, style):
    """And nothing else: not ENOMEM, and the connection goes on."""
    client = bench.connect(style)
    data = bench.rng.randbytes(256 * KIB)
    errors = set()
    for offset in range(0, 16 * MIB, len(data)):
        errors.add(client.call(NBD_CMD_WRITE, offset, payload=data).error)
    assert errors == {0, NBD_ENOSPC}
    assert client.read(0, len(data)) == data
    client.done(NBD_CMD_TRIM, 0, 16 * MIB)
    bench.prove_in_step(client)


# 13: commands and flags.

KNOWN_FLAGS = {
    NBD_CMD_READ: NBD_CMD_FLAG_DF,
    NBD_CMD_WRITE_ZEROES: NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    NBD_CMD_BLOCK_STATUS: NBD_CMD_FLAG_REQ_ONE,
}
LOW_FLAGS = NBD_CMD_FLAG_PAYLOAD_LEN * 2 - 1


def allowed_errors(style: Style, command: int, flags: int) -> tuple[int, ...]:
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


def every_flag(command: int) -> Callable:
    """All combinations of the defined flags, and each undefined one alone and with FUA."""

    def play(bench: Bench, style: Style) -> None:
        client = bench.connect(style)
        high = [1 << bit | fua for bit in range(6, 16) for fua in (0, 1)]
        for flags in (*range(LOW_FLAGS + 1), *high, 0xFFC0, 0xFFFF):
            has_payload = command == NBD_CMD_WRITE
            if style is Style.EXTENDED:
                if command == NBD_CMD_WRITE and not flags & NBD_CMD_FLAG_PAYLOAD_LEN:
                    continue  # has a row of its own
                has_payload = bool(flags & NBD_CMD_FLAG_PAYLOAD_LEN)
            length = 0 if command == NBD_CMD_FLUSH and not has_payload else 512
            payload = bytes(length) if has_payload else b""
            request = client.call(command, 0, length, flags, payload)
            wanted = allowed_errors(style, command, flags)
            assert request.error in wanted, f"flags {flags:#x}: {named(request.error)}"
        bench.prove_in_step(client)

    return play


for command in (*DATA_COMMANDS, NBD_CMD_FLUSH, *UNKNOWN_COMMANDS):
    script(f"13-flags-of-{short(command)}", styles=STYLES)(every_flag(command))

BAD_MAGIC = {
    "zero": 0,
    "ones": COUNT_MAX,
    "historic": 0x12560953,
    "log": 0x25609514,
    "simple-reply": NBD_SIMPLE_REPLY_MAGIC,
    "extended-reply": NBD_EXTENDED_REPLY_MAGIC,
    "swapped": 0x13956025,
    "IHAVEOPT": IHAVEOPT >> 32,
    "one-bit": NBD_REQUEST_MAGIC ^ 1 << 31,
}


def bad_magic(magic: int | None) -> Callable:
    """None: the other kind of request."""

    def play(bench: Bench, style: Style) -> None:
        client = bench.connect(style)
        other = NBD_EXTENDED_REQUEST_MAGIC if style is not Style.EXTENDED else NBD_REQUEST_MAGIC
        request = client.request(NBD_CMD_WRITE, 0, payload=b"\xee" * 512).pack()
        client.send(u32(other if magic is None else magic) + request[4:])
        bench.witness.step()
        client.expect_closed()
        assert bench.connect(style).read(0, 512) == bytes(512)

    return play


for what, magic in {**BAD_MAGIC, "of-the-other-kind": None}.items():
    script(f"13-request-magic-{what}-closed", styles=STYLES)(bad_magic(magic))


@script("13-bad-magic-after-good-requests", styles=STYLES)
def _(bench, style):
    """What came before the nonsense may be answered, or dropped with the connection."""
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_READ, 0, 512) for _ in range(10)]
    client.send(b"".join(request.pack() for request in requests) + bytes(64))
    with contextlib.suppress(Closed):
        for request in requests:
            client.finish(request)
            assert request.error == 0
        client.expect_closed()


# 14: FLUSH and DISC.

ask("14-FLUSH", NBD_CMD_FLUSH, (0,), length=0)
ask("14-FLUSH-FUA", NBD_CMD_FLUSH, (0,), length=0, flags=NBD_CMD_FLAG_FUA)
for offset, length in ((0, 1), (1, 0), (OFFSET_MAX, 0), (0, COUNT_MAX), (4 * KIB, 4 * KIB)):
    name = f"14-FLUSH-{offset:#x}-{length:#x}-EINVAL"
    ask(name, NBD_CMD_FLUSH, (NBD_EINVAL,), offset=offset, length=length)


@script("14-DISC-has-no-reply", styles=STYLES)
def _(bench, style):
    # Offset and length MUST be zero, and flags are undefined: the connection ends all the same,
    # as it may in answer to any violation.
    for offset, length, flags in ((0, 0, 0), (0, 0, NBD_CMD_FLAG_FUA), (1, 0, 0), (0, 1, 0)):
        client = bench.connect(style)
        client.send_request(NBD_CMD_DISC, offset, length, flags)
        client.expect_closed()


@script("14-DISC-with-undefined-flags", styles=STYLES)
def _(bench, style):
    for flags in (NBD_CMD_FLAG_DF, 1 << 15):
        client = bench.connect(style)
        outcome = bench.outcome(client, client.request(NBD_CMD_DISC, flags=flags))
        check_outcome(outcome, (CLOSED, NBD_EINVAL))
        if outcome != CLOSED:
            bench.prove_in_step(client)


@script("14-DISC-after-what-is-outstanding", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(4 * KIB)
    writes = [client.request(NBD_CMD_WRITE, at * 4 * KIB, payload=data) for at in range(20)]
    reads = [client.request(NBD_CMD_READ, MIB, 4 * KIB) for _ in range(20)]
    zeroes = [client.request(NBD_CMD_WRITE_ZEROES, 2 * MIB, 8 * MIB) for _ in range(20)]
    requests = [*writes, *reads, *zeroes, client.request(NBD_CMD_DISC)]
    client.send(b"".join(request.pack() for request in requests))
    for request in requests[:-1]:
        assert client.finish(request).error == 0
    client.expect_closed()
    assert bench.connect(style).read(0, 80 * KIB) == data * 20


@script("14-nothing-is-done-after-DISC", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    requests = [
        client.request(NBD_CMD_DISC),
        client.request(NBD_CMD_WRITE, 0, payload=b"\xee" * 512),
        client.request(NBD_CMD_WRITE, 4 * KIB, payload=b"\xee" * 512),
    ]
    client.send(b"".join(request.pack() for request in requests))
    client.expect_closed()
    assert bench.connect(style).read(0, 8 * KIB) == bytes(8 * KIB)


# 15: cookies, and how bytes are cut.


@script("15-cookies-come-back", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    cookies = [0, OFFSET_MAX, 0x00FF00FF00FF00FF, NBD_REQUEST_MAGIC << 32]
    cookies += [1 << bit for bit in range(64)] + [OFFSET_MAX ^ 1 << bit for bit in range(64)]
    for command, length, wanted in (
        (NBD_CMD_READ, 64, 0),
        (NBD_CMD_READ, 2 * SIZE, NBD_EINVAL),
        (NBD_CMD_TRIM, 512, 0),
        (99, 0, NBD_EINVAL),
        (NBD_CMD_BLOCK_STATUS, 512, NBD_EINVAL if style is Style.SIMPLE else 0),
    ):
        requests = [client.request(command, 0, length, cookie=cookie) for cookie in cookies]
        client.send(b"".join(request.pack() for request in requests))
        for request in requests:
            error = client.finish(request).error
            assert error == wanted or (length > SIZE and error == NBD_EOVERFLOW)


@script("15-one-cookie-for-all", styles=STYLES)
def _(bench, style):
    """SHOULD be distinct; the server does not care."""
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_TRIM, 0, 512, cookie=7) for _ in range(50)]
    client.send(b"".join(request.pack() for request in requests))
    for request in requests:
        assert client.finish(request).error == 0


@script("15-split-at-every-byte", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    for number in range(1, 48):
        data = bench.rng.randbytes(9)
        write = client.request(NBD_CMD_WRITE, number, payload=data)
        read = client.request(NBD_CMD_READ, SIZE // 2, 3)
        whole = write.pack() + read.pack()
        client.send(whole[:number])
        bench.witness.step()
        client.send(whole[number:])
        assert client.finish(write).error == client.finish(read).error == 0
        assert client.read(number, len(data)) == data


@script("15-one-byte-at-a-time", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    write = client.request(NBD_CMD_WRITE, 100, payload=b"byte by byte")
    read = client.request(NBD_CMD_READ, SIZE // 2, 3)
    for byte in write.pack() + read.pack():
        client.send(bytes([byte]))
    assert client.finish(write).error == client.finish(read).error == 0
    assert client.read(99, 14) == b"\0byte by byte\0"


@script("15-hundreds-in-one-send", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    blocks = [bench.rng.randbytes(100) for _ in range(300)]
    writes = [
        client.request(NBD_CMD_WRITE, at * 100, payload=data) for at, data in enumerate(blocks)
    ]
    client.send(b"".join(request.pack() for request in writes))
    for request in writes:
        assert client.finish(request).error == 0
    reads = [client.request(NBD_CMD_READ, at * 100, 100) for at in range(300)]
    client.send(b"".join(request.pack() for request in reads))
    for request, data in zip(reads, blocks):
        assert client.finish(request).data == data


@script("15-payload-that-looks-like-requests", styles=STYLES)
def _(bench, style):
    client = bench.connect(style)
    inner = client.request(NBD_CMD_WRITE_ZEROES, 0, 64 * KIB).pack() * 100
    client.write(4 * KIB, inner)
    assert client.read(4 * KIB, len(inner)) == inner
    # The same in a payload that is refused.
    refused = client.call(NBD_CMD_WRITE, SIZE, payload=inner)
    assert refused.error == NBD_ENOSPC
    assert client.read(4 * KIB, len(inner)) == inner


SLOT = 256 * KIB
SLOTS = 64


def random_request(client: Connection, rng: random.Random, slot: int) -> Request:
    """A request within a slot, or one that is refused, with a payload or without."""
    length = rng.choice((1, 100, 511, 4 * KIB, 4097, 16 * KIB - 1, 16 * KIB, 70000, SLOT))
    at = slot * SLOT + rng.randint(0, SLOT - length)
    command = rng.choice((NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_WRITE, *range(10)))
    if command == NBD_CMD_DISC:
        command = NBD_CMD_WRITE
        at = SIZE - length + 1  # beyond the end
    payload = rng.randbytes(length) if command == NBD_CMD_WRITE else b""
    flags = rng.choice((0, 0, 0, NBD_CMD_FLAG_FUA, NBD_CMD_FLAG_DF, 1 << 9))
    if command == NBD_CMD_TRIM:
        command = NBD_CMD_WRITE_ZEROES  # the same, but one can tell what it leaves
    return client.request(command, at, length, flags, payload)


def check_traffic(request: Request, shadow: bytearray) -> None:
    """Hold a reply against the shadow of the disk, and keep that up to date."""
    start, end = request.offset, request.offset + request.length
    wanted = allowed_errors(request.style, request.command, request.flags)
    if end > SIZE:
        # With two faults, either is told.
        wanted = (NBD_ENOSPC, *(wanted if wanted == (NBD_EINVAL,) else ()))
    elif request.command == NBD_CMD_FLUSH:
        wanted = (NBD_EINVAL,)  # it has a length
    elif request.flags & NBD_CMD_FLAG_DF and request.length > 64 * KIB:
        wanted += (NBD_EOVERFLOW,)
    check_outcome(request.error, wanted)
    if request.error:
        return
    if request.command == NBD_CMD_READ:
        assert request.data == shadow[start:end]
    elif request.command == NBD_CMD_WRITE:
        shadow[start:end] = request.payload
    elif request.command == NBD_CMD_WRITE_ZEROES:
        shadow[start:end] = bytes(request.length)


def cut_traffic(bench: Bench, style: Style) -> None:
    """Everything mixed, many at once, cut anywhere: each slot has one request at a time."""
    client = bench.connect(style)
    rng = bench.rng
    shadow = bytearray(SLOT * SLOTS)
    for _ in range(4):
        slots = rng.sample(range(SLOTS), SLOTS)
        requests = [random_request(client, rng, slot) for slot in slots]
        stream = memoryview(b"".join(request.pack() for request in requests))

        def send_all(stream=stream):
            at = 0
            while at < len(stream):
                count = rng.choice((1, 7, 28, 31, 100, 5000, 16 * KIB, 100000, 1 << 20))
                client.send(stream[at : at + count])
                at += count

        with concurrent.futures.ThreadPoolExecutor(1) as sender:
            sent = sender.submit(send_all)
            for request in requests:
                client.finish(request)
            sent.result()
        bench.witness.step()
        for request in requests:
            check_traffic(request, shadow)
    assert client.read(0, len(shadow)) == shadow


script("15-mixed-traffic-cut-anywhere", styles=STYLES, setups=ALLOCATOR_SETUPS)(cut_traffic)

# 16: BLOCK_STATUS.

HOLE_STATE = NBD_STATE_HOLE | NBD_STATE_ZERO


def whole_map(client: Connection, offset: int, length: int) -> list[Extent]:
    """The extents of a range, clipped to it, asked for in as many requests as it takes."""
    found, end = [], offset + length
    while offset < end:
        for extent in client.done(NBD_CMD_BLOCK_STATUS, offset, end - offset).allocation:
            found.append(Extent(min(extent.length, end - offset), extent.state))
            offset += found[-1].length
    assert sum(extent.length for extent in found) == length
    return found


@script("16-fresh-disk-is-one-hole", styles=CHUNKED, setups={"": PLAIN, "8G": WIDE, "8E": HUGE})
def _(bench, style):
    client = bench.connect(style)
    for offset, length in ((0, 1), (1, 511), (4 * KIB, 4 * MIB), (0, SIZE // 2)):
        for flags in (0, NBD_CMD_FLAG_REQ_ONE):
            (extent,) = client.done(NBD_CMD_BLOCK_STATUS, offset, length, flags).allocation
            assert extent.state == HOLE_STATE
            assert extent.length == length  # told in full, and not beyond


@script(
    "16-data-and-holes",
    styles=CHUNKED,
    setups={name: ALLOCATOR_SETUPS[name] for name in ("sparse", "zstd")},
)
def _(bench, style):
    """What is data is never told as zero, and no neighbours are alike."""
    client = bench.connect(style)
    page = 32 * KIB
    has_data = [bench.rng.random() < 0.5 for _ in range(256)]
    for number, is_data in enumerate(has_data):
        if is_data:
            client.write(number * page, b"\xee" * page)
    extents = whole_map(client, 0, 256 * page)
    wanted = [
        Extent(len(list(group)) * page, 0 if is_data else HOLE_STATE)
        for is_data, group in itertools.groupby(has_data)
    ]
    assert extents == wanted
    for _ in range(100):
        start = bench.rng.randrange(256 * page)
        length = bench.rng.randint(1, 256 * page - start)
        request = client.done(NBD_CMD_BLOCK_STATUS, start, length, NBD_CMD_FLAG_REQ_ONE)
        assert bool(request.allocation[0].state & NBD_STATE_ZERO) != has_data[start // page]
        answer = client.done(NBD_CMD_BLOCK_STATUS, start, length).allocation
        assert all(one.state != two.state for one, two in itertools.pairwise(answer))


@script("16-malloc-has-no-holes", styles=CHUNKED, setups={"": ALLOCATOR_SETUPS["malloc"]})
def _(bench, style):
    client = bench.connect(style)
    assert all(not extent.state & NBD_STATE_HOLE for extent in whole_map(client, 0, SIZE))


@script("16-many-extents", styles=CHUNKED)
def _(bench, style):
    client = bench.connect(style)
    for at in range(0, 16 * MIB, 8 * KIB):
        client.write(at, b"\xee")
    pair = [Extent(4 * KIB, 0), Extent(4 * KIB, HOLE_STATE)]
    assert whole_map(client, 0, 16 * MIB) == pair * (16 * MIB // (8 * KIB))


@script("16-to-the-last-byte", styles=CHUNKED, setups={"": PLAIN, "8E": HUGE})
def _(bench, style):
    client = bench.connect(style)
    end = bench.setup.size
    for offset, length in ((end - 1, 1), (end - 4 * KIB - 7, 4 * KIB + 7)):
        assert whole_map(client, offset, length)
    assert client.call(NBD_CMD_BLOCK_STATUS, end - 1, 2).error == NBD_EINVAL


def no_contexts(bench: Bench, style: Style) -> None:
    client = bench.haggle(style)
    client.go()
    for flags in (0, NBD_CMD_FLAG_REQ_ONE):
        assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512, flags).error == NBD_EINVAL
    bench.prove_in_step(client)


script("16-without-a-context-EINVAL", styles=STYLES)(no_contexts)

# 17: contexts.

EARLY = (NBD_REP_ERR_INVALID, NBD_REP_ERR_EXT_HEADER_REQD)
CONTEXT_QUERY = pack_queries(b"", [ALLOCATION])
haggle("17-SET-before-structured-replies", NBD_OPT_SET_META_CONTEXT, CONTEXT_QUERY, EARLY)
haggle(
    "17-LIST-before-structured-replies",  # MAY be refused
    NBD_OPT_LIST_META_CONTEXT,
    CONTEXT_QUERY,
    (*EARLY, NBD_REP_ACK),
)
for option in (NBD_OPT_SET_META_CONTEXT, NBD_OPT_LIST_META_CONTEXT):
    haggle(
        f"17-{short_option(option)}-2000-queries",
        option,
        pack_queries(b"", [b"base:allocation%d" % number for number in range(2000)]),
        (NBD_REP_ACK, NBD_REP_ERR_TOO_BIG),
        before=SR,
    )

# What no server has: ignored.  Without a colon: MAY be ERR_INVALID.  Of more than 4096 bytes,
# or with NUL: not a string at all, and an error if it is not ignored.
STRANGE_QUERIES = {
    "unknown-namespace": (b"x-nobody:knows", False),
    "unknown-leaf": (b"base:nosuch", False),
    "prefix": (b"base:alloc", False),
    "suffix": (b"base:allocations", False),
    "other-case": (b"BASE:ALLOCATION", False),
    "spaced": (b" base:allocation", False),
    "no-colon": (b"base", True),
    "colon": (b":", True),
    "empty": (b"", True),
    "not-utf8": (b"x-\xff:\xff", True),
    "with-NUL": (b"base:allocation\0", True),
    "4096-bytes": (b"x-" + b"n" * 4093 + b":", False),
    "4097-bytes": (b"x-" + b"n" * 4094 + b":", True),
}


def strange_query(query: bytes, may_fail: bool) -> Callable:
    def play(bench: Bench, style: Style) -> None:
        for option in (NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT):
            client = bench.haggle(style)
            *partial, final = client.option(option, pack_queries(b"", [query]))
            assert final.type == NBD_REP_ACK or (may_fail and final.is_error), final
            assert not partial
            # Beside a good one.
            *partial, final = client.option(option, pack_queries(b"", [query, ALLOCATION]))
            assert len(partial) == (0 if final.is_error else 1)
            assert final.type == NBD_REP_ACK or may_fail
            bench.enter(client)

    return play


for what, (query, may_fail) in STRANGE_QUERIES.items():
    script(f"17-query-{what}", styles=CHUNKED)(strange_query(query, may_fail))


@script("17-LIST_META_CONTEXT", styles=CHUNKED)
def _(bench, style):
    client = bench.haggle(style)
    name = ALLOCATION.decode()
    for queries in ([], [b"base:"], [ALLOCATION], [b"base:", ALLOCATION, b"base:"]):
        assert client.list_contexts(b"", queries) == [name]
        assert client.list_contexts(b"other", queries) == [name]
    # Listing selects nothing.
    client.go()
    client.contexts = {}
    assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512).error == NBD_EINVAL


@script("17-SET_META_CONTEXT", styles=CHUNKED)
def _(bench, style):
    client = bench.haggle(style)
    assert client.set_contexts(b"", [b"base:"]) == []  # MUST be ignored
    assert client.set_contexts(b"", []) == []
    name = ALLOCATION.decode()
    assert client.set_contexts(b"", [ALLOCATION]) == [name]
    assert client.set_contexts(b"", [ALLOCATION, b"base:", ALLOCATION]) == [name]
    client.list_contexts()
    client.info(b"other", [NBD_INFO_BLOCK_SIZE])
    client.list()
    client.go()
    client.done(NBD_CMD_BLOCK_STATUS, 0, 512)


# What comes between a good SET_META_CONTEXT and GO, and leaves no context.
LOST_CONTEXTS = {
    "zero-queries": (NBD_OPT_SET_META_CONTEXT, pack_queries(b"", []), b""),
    "unknown-query": (NBD_OPT_SET_META_CONTEXT, pack_queries(b"", [b"x-no:"]), b""),
    "wildcard": (NBD_OPT_SET_META_CONTEXT, pack_queries(b"", [b"base:"]), b""),
    "failing-empty": (NBD_OPT_SET_META_CONTEXT, b"", b""),
    "failing-trailing-bytes": (NBD_OPT_SET_META_CONTEXT, CONTEXT_QUERY + b"!", b""),
    "failing-name-too-long": (
        NBD_OPT_SET_META_CONTEXT,
        pack_queries(b"n" * 4097, [ALLOCATION]),
        b"",
    ),
    "failing-too-big": (NBD_OPT_SET_META_CONTEXT, bytes(64 * KIB + 1), b""),
    "set-for-another-name": (
        NBD_OPT_SET_META_CONTEXT,
        pack_queries(b"other", [ALLOCATION]),
        b"",
    ),
    "go-to-another-name": (NBD_OPT_LIST, b"", b"other"),
    "go-to-a-longer-name": (NBD_OPT_LIST, b"", b"x"),
}


def lost_context(option: int, data: bytes, export: bytes) -> Callable:
    def play(bench: Bench, style: Style) -> None:
        for enter in (Connection.go, Connection.export_name):
            if style is Style.EXTENDED and enter is Connection.export_name:
                continue
            client = bench.haggle(style)
            client.set_contexts(b"", [ALLOCATION])
            client.option(option, data)
            enter(client, export)
            client.contexts = {}  # wire.py shall not expect any
            assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512).error == NBD_EINVAL
            bench.prove_in_step(client)

    return play


for what, (option, data, export) in LOST_CONTEXTS.items():
    script(f"17-context-lost-{what}", styles=CHUNKED)(lost_context(option, data, export))


@script("17-context-of-a-named-export", styles=CHUNKED)
def _(bench, style):
    for name in (b"name", b"n" * 4096):
        client = bench.connect(style, name)
        client.done(NBD_CMD_BLOCK_STATUS, 0, 512)
    if style is Style.STRUCTURED:
        client = bench.haggle(style)
        client.set_contexts(b"name", [ALLOCATION])
        client.export_name(b"name")
        client.done(NBD_CMD_BLOCK_STATUS, 0, 512)


# 18: no hole, no ENOSPC.

LIMITED = {
    "sparse": Setup(params=("limit=8M",)),
    "zstd": Setup(params=("limit=8M", "allocator=zstd")),
}


@script("18-what-is-no-hole-can-be-written", styles=CHUNKED, setups={"": LIMITED["sparse"]})
def _(bench, style):
    client = bench.connect(style)
    rng = bench.rng
    while client.call(
        NBD_CMD_WRITE, rng.randrange(32 * MIB), payload=rng.randbytes(32 * KIB)
    ).error == 0:
        pass
    at = 0
    for length, state in whole_map(client, 0, 32 * MIB):
        if not state & NBD_STATE_HOLE:
            for start in range(at, at + length, MIB):
                client.write(start, rng.randbytes(min(MIB, at + length - start)))
        at += length


@script("18-zeroed-with-NO_HOLE-can-be-written", styles=STYLES, setups=LIMITED)
def _(bench, style):
    client = bench.connect(style)
    rng = bench.rng
    client.done(NBD_CMD_WRITE_ZEROES, 64 * KIB, MIB, NBD_CMD_FLAG_NO_HOLE)
    if style is not Style.SIMPLE:
        (extent,) = whole_map(client, 64 * KIB, MIB)
        assert not extent.state & NBD_STATE_HOLE
    errors = set()
    for at in range(2 * MIB, 34 * MIB, 256 * KIB):
        errors.add(client.call(NBD_CMD_WRITE, at, payload=rng.randbytes(256 * KIB)).error)
    assert errors == {0, NBD_ENOSPC}
    data = rng.randbytes(MIB)
    client.write(64 * KIB, data)
    assert client.read(64 * KIB, MIB) == data


@script("18-a-hole-reads-as-zeroes", styles=CHUNKED)
def _(bench, style):
    client = bench.connect(style)
    for _ in range(200):
        command = bench.rng.choice((NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES))
        at = bench.rng.randrange(MIB)
        length = bench.rng.randint(1, 64 * KIB)
        payload = b"\xee" * length if command == NBD_CMD_WRITE else b""
        client.done(command, at, length, payload=payload)
    at = 0
    for length, state in whole_map(client, 0, 2 * MIB):
        assert state in (0, NBD_STATE_ZERO, HOLE_STATE)  # never HOLE alone
        assert not state & NBD_STATE_ZERO or client.read(at, length) == bytes(length)
        at += length


# 19: stopping, and clients that vanish.


@script("19-SIGTERM-with-idle-clients")
def _(bench):
    bench.witness.leave()
    clients = [bench.dial(), bench.haggle(), *map(bench.connect, STYLES)]
    bench.server.terminate()
    for client in clients:
        with contextlib.suppress(Closed):
            while True:
                client.recv(1)


@script("19-SIGTERM-within-requests", styles=STYLES)
def _(bench, style):
    """What is half sent keeps nobody waiting."""
    bench.witness.leave()
    clients = [bench.connect(style) for _ in range(3)]
    write = clients[0].request(NBD_CMD_WRITE, 0, payload=bytes(64 * KIB)).pack()
    for client, part in zip(clients, (write[:10], write[:32], write[:1000])):
        client.send(part)
    bench.server.terminate()
    for client in clients:
        client.expect_closed()


@script("19-SIGTERM-with-requests-in-flight", styles=STYLES)
def _(bench, style):
    """Each is done, or ESHUTDOWN, or not answered; what was answered is whole."""
    bench.witness.leave()
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_READ, 0, 64 * KIB) for _ in range(50)]
    client.send(b"".join(request.pack() for request in requests))
    client.finish(requests[0])
    bench.server.terminate()
    with contextlib.suppress(Closed):
        for request in requests[1:]:
            assert client.finish(request).error in (0, NBD_ESHUTDOWN)
        client.expect_closed()


@script("19-gone-at-every-byte", styles=STYLES)
def _(bench, style):
    for number in range(0, 45):
        client = bench.connect(style)
        whole = client.request(NBD_CMD_WRITE, 0, payload=b"\xee" * 9).pack()
        client.send(whole[: min(number, len(whole) - 1)])
        client.close()
        bench.witness.step()
    # A payload that came in part may be written in part.
    assert set(bench.connect(style).read(0, 9)) <= {0, 0xEE}


@script(
    "19-gone-within-a-payload-shows-no-old-memory",
    styles=STYLES,
    setups={name: ALLOCATOR_SETUPS[name] for name in ("sparse", "zstd")},
)
def _(bench, style):
    """Frames and buffers that held somebody's bytes go round; nobody else gets to see them."""
    secret = b"SECRET. " * (128 * KIB)
    owner = bench.connect(style)
    for sent in (0, 1, 100, 4 * KIB, 5 * KIB, 70000, MIB - 1):
        owner.write(32 * MIB, secret)
        owner.done(NBD_CMD_TRIM, 32 * MIB, len(secret))
        client = bench.connect(style)
        write = client.request(NBD_CMD_WRITE, 4 * KIB - 5, payload=b"\xee" * MIB).pack()
        client.send(write[: len(write) - MIB + sent])
        client.close()
        bench.witness.step()
        assert set(owner.read(0, 2 * MIB)) <= {0, 0xEE}
        owner.done(NBD_CMD_WRITE_ZEROES, 0, 2 * MIB)


@script(
    "19-slow-reader-sees-no-other-memory",
    styles=STYLES,
    setups={name: ALLOCATOR_SETUPS[name] for name in ("sparse", "zstd")},
)
def _(bench, style):
    """What is read may change while it is sent, but not into what other places hold."""
    owner, slow = bench.connect(style), bench.connect(style)
    length = 8 * MIB
    for _ in range(3):
        owner.write(0, b"\xaa" * length)
        read = slow.send_request(NBD_CMD_READ, 0, length)
        slow.wait_for_reply()
        owner.done(NBD_CMD_TRIM, 0, length)
        owner.write(16 * MIB, b"SECRET. " * (length // 8))
        owner.write(0, b"\xbb" * (length // 2))
        bench.witness.step()
        slow.finish(read)
        assert set(read.data) <= {0xAA, 0xBB, 0}
        owner.done(NBD_CMD_TRIM, 16 * MIB, length)


@script("19-half-closed", styles=STYLES)
def _(bench, style):
    """Who has sent everything and closed his side may get his answers, or an end."""
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_READ, 0, 4 * KIB) for _ in range(10)]
    client.send(b"".join(request.pack() for request in requests))
    client.finish_sending()
    bench.witness.step()
    with contextlib.suppress(Closed):
        for request in requests:
            assert client.finish(request).error == 0
        client.expect_closed()


@script("19-half-closed-before-and-within-the-handshake")
def _(bench):
    for data in (b"", b"\0\0", u32(3), u32(3) + pack_option(NBD_OPT_INFO, pack_info())[:9]):
        client = bench.dial()
        client.recv_greeting()
        client.send(data)
        client.finish_sending()
        bench.witness.step()
        client.expect_closed()


@script("19-reader-that-does-not-read", styles=STYLES)
def _(bench, style):
    """Answers that nobody takes block nobody else, and are dropped with the connection."""
    slow = [bench.connect(style) for _ in range(4)]
    slow[0].write(0, b"\xee" * 32 * MIB)
    for client in slow:
        client.send_request(NBD_CMD_READ, 0, 32 * MIB)
        bench.witness.step()
    bench.prove_in_step(bench.connect(style))
    for client in slow:
        client.close()
        bench.witness.step()


@script("19-sender-that-does-not-send", styles=STYLES)
def _(bench, style):
    slow = [bench.connect(style) for _ in range(8)]
    for client in slow:
        client.send(client.request(NBD_CMD_WRITE, 0, payload=bytes(32 * MIB)).pack()[:100000])
    bench.witness.step()
    bench.prove_in_step(bench.connect(style))


# 20: connections.


@script("20-what-one-writes-others-read", styles=STYLES)
def _(bench, style):
    clients = [bench.connect(other, b"name") for other in STYLES for _ in range(4)]
    for number, client in enumerate(clients):
        data = bench.rng.randbytes(5000)
        if number % 2:
            client.write(number * 5000, data, NBD_CMD_FLAG_FUA)
        else:
            client.write(number * 5000, data)
            client.done(NBD_CMD_FLUSH)
        for other in clients:
            assert other.read(number * 5000, len(data)) == data


@script("20-two-hundred-connections")
def _(bench):
    clients = [bench.connect(Style.SIMPLE) for _ in range(200)]
    for client in clients:
        bench.prove_in_step(client)
    for client in clients[::2]:
        client.disconnect()
    for client in clients[1::2]:
        client.close()


@script("20-as-the-kernel-does")
def _(bench):
    """Simple replies, requests of up to 256 KiB, pipelined on several connections."""
    clients = [bench.connect(Style.SIMPLE) for _ in range(4)]
    waiting = []
    for number in range(64):
        client = clients[number % 4]
        data = bytes([number]) * 128 * KIB
        at = number * len(data)
        waiting.append((client, client.send_request(NBD_CMD_WRITE, at, payload=data)))
    for client, request in waiting:
        assert client.finish(request).error == 0
    for number in range(64):
        at = number * 128 * KIB
        assert clients[-number % 4].read(at, 128 * KIB) == bytes([number]) * 128 * KIB


# Extended headers.

haggle("ext-EXTENDED_HEADERS", NBD_OPT_EXTENDED_HEADERS, b"", (NBD_REP_ACK,))
haggle("ext-after-structured", NBD_OPT_EXTENDED_HEADERS, b"", (NBD_REP_ACK,), before=SR)
EXT = ((NBD_OPT_EXTENDED_HEADERS, b""),)
haggle(
    "ext-twice",
    NBD_OPT_EXTENDED_HEADERS,
    b"",
    (NBD_REP_ACK, NBD_REP_ERR_INVALID),
    before=EXT,
)
for before, what in ((EXT, "ext"), (SR + EXT, "both")):
    haggle(
        f"ext-STRUCTURED_REPLY-after-{what}-ERR_EXT_HEADER_REQD",
        NBD_OPT_STRUCTURED_REPLY,
        b"",
        (NBD_REP_ERR_EXT_HEADER_REQD,),
        before=before,
    )
haggle("ext-EXPORT_NAME-closed", NBD_OPT_EXPORT_NAME, b"", (CLOSED,), before=EXT)
haggle("ext-contexts", NBD_OPT_SET_META_CONTEXT, CONTEXT_QUERY, (NBD_REP_ACK,), before=EXT)
haggle("ext-bad-GO", NBD_OPT_GO, b"", INVALID, before=EXT)
haggle("ext-bad-unknown", 99, garbage(99), UNSUPPORTED, before=EXT)


@script("ext-refused-leaves-requests-compact")
def _(bench):
    client = bench.haggle(Style.STRUCTURED)
    assert client.option(NBD_OPT_EXTENDED_HEADERS, b"data")[-1].is_error
    bench.enter(client)


for command in (NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE, NBD_CMD_BLOCK_STATUS):
    for power in (32, 33, 40, 62):
        ask(
            f"ext-64-bit-{short(command)}-2^{power}",
            command,
            (0,),
            styles=STYLES[2:],
            length=1 << power,
            setup=HUGE,
        )
# Hole chunks have 32-bit lengths, and clients SHOULD NOT ask.
for power in (32, 40, 62):
    ask(
        f"ext-64-bit-READ-2^{power}",
        NBD_CMD_READ,
        (NBD_EOVERFLOW, NBD_EINVAL),
        styles=STYLES[2:],
        length=1 << power,
        setup=HUGE,
    )


@script("ext-extents-of-64-bits", setups={"": HUGE})
def _(bench):
    client = bench.connect(Style.EXTENDED)
    (extent,) = client.done(NBD_CMD_BLOCK_STATUS, 0, 1 << 62).allocation
    assert extent == Extent(1 << 62, HOLE_STATE)
    client.write(TIB, b"\xee" * 32 * KIB)
    request = client.done(NBD_CMD_BLOCK_STATUS, 0, 1 << 62, NBD_CMD_FLAG_REQ_ONE)
    assert request.allocation == [Extent(TIB, HOLE_STATE)]
    assert whole_map(client, 0, 1 << 62) == [
        Extent(TIB, HOLE_STATE),
        Extent(32 * KIB, 0),
        Extent((1 << 62) - TIB - 32 * KIB, HOLE_STATE),
    ]
    client.done(NBD_CMD_WRITE_ZEROES, 1, (1 << 62) - 1)
    assert client.read(TIB, 32 * KIB) == bytes(32 * KIB)


@script("ext-structured-extents-of-32-bits-on-a-huge-disk", setups={"": HUGE})
def _(bench):
    client = bench.connect(Style.STRUCTURED)
    assert whole_map(client, 0, COUNT_MAX) == [Extent(COUNT_MAX, HOLE_STATE)]


@script("ext-WRITE-without-PAYLOAD_LEN")
def _(bench):
    """The flag is a MUST for clients; qemu's (10.0) send the payload without it. What must not
    happen is that the payload is taken for requests."""
    client = bench.connect(Style.EXTENDED)
    for length in (1, 512, 64 * KIB):
        data = bench.rng.randbytes(length)
        request = client.request(NBD_CMD_WRITE, 0, payload=data)
        request.flags = 0
        outcome = bench.outcome(client, request)
        check_outcome(outcome, (0, CLOSED))
        if outcome == CLOSED:
            return
        assert client.read(0, length) == data


def unwanted_payload(command: int, length: int) -> Callable:
    def play(bench: Bench) -> None:
        client = bench.connect(Style.EXTENDED)
        data = client.request(NBD_CMD_WRITE_ZEROES, 0, 1).pack() * (length // 32 + 1)
        for flags in (0, NBD_CMD_FLAG_FUA, 1 << 15)[: 1 if length > MIB else 3]:
            request = client.request(
                command, 0, length, flags | NBD_CMD_FLAG_PAYLOAD_LEN, data[:length]
            )
            check_outcome(bench.outcome(client, request), (NBD_EINVAL,))
            bench.prove_in_step(client)

    return play


for command in (*DATA_COMMANDS, NBD_CMD_FLUSH, *UNKNOWN_COMMANDS):
    if command != NBD_CMD_WRITE:
        lengths = (1, 1000, 64 * KIB, *([PAYLOAD_MAX] if command < NBD_CMD_FLUSH else []))
        for length in lengths:
            name = f"ext-{short(command)}-with-payload-of-{length}-EINVAL"
            script(name)(unwanted_payload(command, length))


@script("ext-payload-of-no-bytes")
def _(bench):
    """PAYLOAD_LEN says that there is some: an error, or nothing to do."""
    client = bench.connect(Style.EXTENDED)
    for command in (*DATA_COMMANDS, NBD_CMD_FLUSH):
        request = client.request(command, 0, 0, NBD_CMD_FLAG_PAYLOAD_LEN)
        allowed = (0, NBD_EINVAL) if command == NBD_CMD_WRITE else (NBD_EINVAL,)
        check_outcome(bench.outcome(client, request), allowed)
    bench.prove_in_step(client)


@script("ext-payload-too-long")
def _(bench):
    """SHOULD be dropped; may be drained, as far as that can be shown."""
    for command in (NBD_CMD_WRITE, NBD_CMD_READ, NBD_CMD_BLOCK_STATUS, 99):
        client = bench.connect(Style.EXTENDED)
        flags = NBD_CMD_FLAG_PAYLOAD_LEN
        request = client.request(command, 0, PAYLOAD_MAX + 1, flags, bytes(PAYLOAD_MAX + 1))
        outcome = bench.outcome(client, request)
        also = (0,) if command == NBD_CMD_WRITE else ()
        check_outcome(outcome, (CLOSED, NBD_EINVAL, *also))
        if outcome != CLOSED:
            bench.prove_in_step(client)


@script("ext-payload-of-2^40-closed")
def _(bench):
    for command in (NBD_CMD_WRITE, NBD_CMD_READ, NBD_CMD_TRIM, 99):
        for length in (1 << 32, 1 << 40, OFFSET_MAX):
            client = bench.connect(Style.EXTENDED)
            request = client.request(
                command, 0, length, NBD_CMD_FLAG_PAYLOAD_LEN, bytes(64 * KIB)
            )
            with contextlib.suppress(Closed):
                client.send(request.pack())
                client.finish_sending()
            with contextlib.suppress(Closed):
                client.finish(request)
                assert request.error
                client.expect_closed()


def status_payload(effect: int, contexts: list[int]) -> bytes:
    return struct.pack(f">Q{len(contexts)}I", effect, *contexts)


@script("ext-BLOCK_STATUS-with-contexts")
def _(bench):
    """Served if offered, else EINVAL; unknown and repeated contexts are always EINVAL."""
    client = bench.connect(Style.EXTENDED)
    (context,) = client.contexts
    is_offered = bool(client.export.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
    good = status_payload(MIB, [context])
    for payload, wanted in (
        (good, 0 if is_offered else NBD_EINVAL),
        (status_payload(MIB, [context, context]), NBD_EINVAL),
        (status_payload(MIB, [context + 1]), NBD_EINVAL),
        (status_payload(OFFSET_MAX, [context]), NBD_EINVAL),
        (good[:7], NBD_EINVAL),
        (good[:9], NBD_EINVAL),
        (good + b"!", NBD_EINVAL),
        (status_payload(MIB, [context] * 5000), NBD_EINVAL),
    ):
        request = client.request(
            NBD_CMD_BLOCK_STATUS, 0, len(payload), NBD_CMD_FLAG_PAYLOAD_LEN, payload
        )
        client.send(request.pack())
        request.length = MIB  # the effect: what extents are held against
        assert client.finish(request).error == wanted
    bench.prove_in_step(client)


# The runner.

ROWS.sort(key=lambda row: row.name)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_rule(row, nbdram, rng):
    flags = ("-t", "1", *row.setup.flags)
    server = nbdram(str(row.setup.size), *row.setup.params, flags=flags)
    with Bench(server, row.setup, rng) as bench:
        bench.witness.step()
        row.play(bench)
        if server.is_running():
            bench.witness.leave()


def test_no_row_is_lost():
    """Two rows of one name would hide each other in a report."""
    assert len({row.name for row in ROWS}) == len(ROWS) > 120


def test_standard_input_is_the_connection():
    """-s: one client, on standard input and output; the server ends with it."""
    ours, theirs = socket.socketpair()
    command = [harness.SERVER, "-s", str(SIZE)]
    with theirs, Connection(ours) as client:
        server = subprocess.Popen(command, stdin=theirs, stdout=theirs)
        theirs.close()
        try:
            client.greet().negotiate(Style.STRUCTURED).go(b"any")
            client.write(1, b"data")
            assert client.read(0, 6) == b"\0data\0"
            client.disconnect()
            assert server.wait(harness.HANG_SECONDS) == 0
        finally:
            server.kill()
            server.wait()
