#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""seeds.py DIR - write what fuzz targets start from: DIR/seeds/TARGET/*, DIR/dict/TARGET

Words come from the unit tests and from the table of options, and bytes from tests/wire.py, so
they cannot become outdated here.  records.h and handshake.c describe the layouts.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
sys.path.insert(0, str(TESTS))
import wire  # noqa: E402

LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
OPTION_NAMES = re.compile(r"OPT_\w+\((?:0|'.'), (NAMES\([^)]*\)|\"[^\"]*\")")
ALL_AT_ONCE = bytes([255] * 16)  # receives and sends (struct peer_turns)
IN_PIECES = bytes([20, 0, 255, 1, 128, 40, 3, 255] * 2)


def literals(path: pathlib.Path) -> list[str]:
    """The strings in a C file, without those that contain an escape."""
    found = LITERAL.findall(path.read_text(encoding="utf-8"))
    return sorted({text for text in found if text and "\\" not in text})


def option_names() -> list[str]:
    text = (TESTS.parent / "src/server/cli/option_table.c").read_text(encoding="utf-8")
    rows = OPTION_NAMES.findall(text)
    return sorted({name for names in rows for name in LITERAL.findall(names)})


# Words.


def command_lines() -> list[bytes]:
    lines = literals(TESTS / "unit/command_line.c")
    return [b"\n".join(line.encode().split()) for line in lines if len(line) < 200]


def values() -> list[bytes]:
    """Each value for each of the grammars, which the first byte chooses."""
    files = ("options.c", "command_line.c", "parse.c")
    words = [word for name in files for word in literals(TESTS / "unit" / name)]
    short = [word.encode() for word in words if len(word) < 40 and " " not in word]
    uris = [bytes([5]) + b"an export%/\xc3\xa9?\n/tmp/a socket"]
    return [bytes([kind]) + word for word in short for kind in range(8)] + uris


# The handshake.


def sent(what: int, data: bytes = b"") -> bytes:
    return bytes([what, len(data)]) + data


def raw(data: bytes) -> bytes:
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(sent(15, piece) for piece in pieces)


def handshakes() -> list[bytes]:
    info = wire.pack_info(b"disk", [0, 1, 2, 3])
    queries = wire.pack_queries(b"disk", [b"base:allocation", b"qemu:", b"base:"])
    start = {
        "go": wire.pack_option(wire.NBD_OPT_GO, info),
        "export name": wire.pack_option(wire.NBD_OPT_EXPORT_NAME, b"disk"),
        "abort": wire.pack_option(wire.NBD_OPT_ABORT, b"why"),
    }
    plain = [sent(option) for option in range(13)]
    asked = [
        raw(wire.pack_option(wire.NBD_OPT_INFO, info)),
        raw(wire.pack_option(wire.NBD_OPT_LIST_META_CONTEXT, queries)),
        raw(wire.pack_option(wire.NBD_OPT_SET_META_CONTEXT, queries)),
        raw(wire.pack_option(wire.NBD_OPT_LIST, b"", length=1 << 20)),
        sent(wire.NBD_OPT_SET_META_CONTEXT | 16 | 128, b"\4disk\3foo"),
        sent(wire.NBD_OPT_GO | 16, b"\4disk\0\1\0\3"),
        sent(wire.NBD_OPT_LIST | 64, bytes(100)),
        sent(wire.NBD_OPT_ABORT | 64, bytes(100)),
    ]
    seeds = []
    for mode in (0, 1, 3, 4, 5, 7, 4 | 8, 4 | 16, 32, 64, 128):
        for turns in (ALL_AT_ONCE, IN_PIECES):
            head = bytes([mode, 0, 0, 0]) + turns
            seeds += [head + one + raw(end) for one in plain + asked for end in start.values()]
    head = bytes([5, 0, 0, 0]) + ALL_AT_ONCE
    seeds += [head + one + two + raw(start["go"]) for one in plain + asked for two in plain + asked]
    styles = ((wire.Style.SIMPLE, 1), (wire.Style.STRUCTURED, 8), (wire.Style.EXTENDED, 11))
    for style, option in styles:
        requests = [
            wire.Request(style, wire.NBD_CMD_WRITE, 0, 4, payload=b"data"),
            wire.Request(style, wire.NBD_CMD_READ, 0, 512),
            wire.Request(style, wire.NBD_CMD_BLOCK_STATUS, 0, 512),
            wire.Request(style, wire.NBD_CMD_TRIM, 0, 512),
            wire.Request(style, wire.NBD_CMD_DISC),
        ]
        packed = raw(b"".join(request.pack() for request in requests))
        asked_for = sent(option) if option > 1 else b""
        seeds.append(head + asked_for + asked[2] + raw(start["go"]) + packed)
    tls = sent(5) + sent(8) + asked[2] + raw(start["go"])
    seeds += [bytes([5, how, clear, 0]) + IN_PIECES + tls for how in range(4) for clear in (0, 40)]
    seeds += [bytes([4, 0, 0, when]) + IN_PIECES + tls for when in (1, 80, 200, 255)]
    return seeds


# The transmission phase.

(READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS, STATUS_OF, UNKNOWN) = range(10)
(WAIT, SETTLE, STOP, RAW, WRITE_PAGES, READ_PAGES) = range(10, 16)
BYTES, SECTORS, PAGES, LONG, FROM_END, HUGE, AT_END, FAR = range(8)


def record(kind, offset=0, length=0, scale=PAGES, flags=0, filling=3, wrong=0) -> bytes:
    return struct.pack(">BBHHBB", kind | scale << 5, flags, offset, length, filling, wrong)


def scripts() -> list[bytes]:
    """The actions of clients, as records."""
    wait, settle = record(WAIT), record(SETTLE)
    look = record(READ, 0, 16) + record(STATUS, 0, 16) + wait
    requests = b"".join(
        wire.Request(wire.Style.SIMPLE, command, 4096, 512, cookie=command).pack()
        for command in (wire.NBD_CMD_READ, wire.NBD_CMD_TRIM)
    )
    return [
        record(WRITE, 1, 3) + wait + look + record(TRIM, 2, 1) + look,
        record(WRITE, 100, 700, BYTES) + record(READ, 90, 800, BYTES) + look,
        record(WRITE, 0, 16) + record(WRITE, 3, 16, filling=2) + record(READ, 0, 16) + wait,
        record(WRITE, 0, 16, filling=2) + wait + settle + look + record(WRITE, 5, 5, BYTES) + look,
        record(WRITE, 0, 0xFFFF, BYTES) + record(ZERO, 1, 3, flags=2) + look,
        record(ZERO, 0, 0xFFFF, LONG) + record(TRIM, 0, 0xFFFF, LONG, flags=1) + look,
        record(ZERO, 0, 0, AT_END, flags=2) + record(STATUS, 0, 0, AT_END, flags=8) + wait,
        record(READ, 0, 9, PAGES, flags=4) + record(READ, 3, 17, BYTES) + look,
        record(READ, 600, 600, FROM_END) + record(WRITE, 10, 20, FROM_END) + look,
        record(READ, 0, 1, FAR) + record(WRITE, 0, 1, HUGE) + look,
        record(WRITE, 0, 4, wrong=2) + record(READ, 0, 4),
        record(WRITE, 0, 4, wrong=3) + record(READ, 0, 4),
        record(STATUS_OF, 0, 9) + record(STATUS_OF, 0, 9, wrong=3) + record(UNKNOWN) + look,
        record(FLUSH, scale=BYTES) + record(CACHE, 0, 5) + record(DISC) + look,
        record(WRITE, 0, 5) + record(STOP) + record(WRITE, 2, 5) + record(READ, 0, 9),
        record(RAW, 0, 7, BYTES) + requests + look,
    ]


def transmissions() -> list[bytes]:
    seeds = []
    for turns in (ALL_AT_ONCE, IN_PIECES):
        for disk in (0, 5, 8, 12, 13, 14, 15):
            for mode in (0, 1, 2, 0x22):
                head = bytes([disk, mode, 0, 0]) + turns
                seeds += [head + script for script in scripts()]
        for head in ((0, 0x1D, 0, 0), (0, 1, 7, 0), (8, 0x42, 0, 2), (0, 0x81, 0, 12)):
            seeds += [bytes(head) + turns + script for script in scripts()]
    return seeds


# Dictionaries.


def numbers() -> list[bytes]:
    """The specification's magic numbers, options, flags and errors."""
    found = []
    for name, value in vars(wire).items():
        if isinstance(value, int) and "MAGIC" in name:
            found.append(value.to_bytes(8 if value >> 32 else 4, "big"))
        elif isinstance(value, int) and name.startswith(("NBD_OPT_", "NBD_CMD_")):
            found.append(struct.pack(">I", value))
    return sorted(set(found))


def words() -> list[bytes]:
    short = [word for word in literals(TESTS / "unit/options.c") if len(word) < 24]
    names = [f"--{name}" for name in option_names()]
    return [word.encode() for word in short + names + ["=", "\n", "size=", "limit=", "allocator="]]


def write_dictionary(path: pathlib.Path, entries: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["".join(f"\\x{byte:02x}" for byte in entry) for entry in entries]
    path.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: seeds.py DIR")
    there = pathlib.Path(sys.argv[1])
    targets = {
        "command_line": (command_lines(), words()),
        "grammar": (values(), words()),
        "handshake": (handshakes(), numbers()),
        "requests": (transmissions(), numbers()),
        "transmission": (transmissions(), numbers()),
    }
    for target, (seeds, dictionary) in targets.items():
        folder = there / "seeds" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for seed in seeds:
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        write_dictionary(there / "dict" / target, dictionary)


main()
