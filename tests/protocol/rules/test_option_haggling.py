# SPDX-License-Identifier: BSD-3-Clause
"""Options that are malformed, unknown, too large, or cut anywhere: both sides stay in step.

Specification: "Fixed newstyle negotiation", "Termination of the session during option haggling",
"Option types" (NBD_OPT_ABORT, NBD_OPT_LIST) and "Option reply types".
"""

import contextlib
import itertools

from client import Closed
from harness import MIB
from rules import (
    ALLOCATION,
    CLOSED,
    COUNT_MAX,
    INVALID,
    NO_DATA,
    OFFSET_MAX,
    PLAIN,
    READ_ONLY,
    SIZES,
    STRUCTURED_FIRST,
    UNSUPPORTED,
    WITH_DATA,
    OptionRow,
    ServerSetup,
    each_row,
    garbage,
    on_servers,
    short_option,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style, pack_info, pack_option, pack_queries

UNKNOWN_OPTIONS = (0, NBD_OPT_PEEK_EXPORT, 12, 0x1234, NBD_REP_ERR_INVALID, COUNT_MAX)


# The specification says SHOULD.
@each_row(
    OptionRow(f"{short_option(option)}-with-{size}", option, data, INVALID + also)
    for (size, (data, also)), option in itertools.product(SIZES.items(), NO_DATA)
)
def test_data_after_an_option_without_data_is_invalid(bench, row):
    row.play(bench)


def large_garbage():
    for option, size in itertools.product(WITH_DATA, ("64K+1", "1M", "2M")):
        data, also = SIZES[size]
        name = f"{short_option(option)}-with-{size}"
        yield OptionRow(name, option, data, INVALID + also, before=STRUCTURED_FIRST)


@each_row(large_garbage())
def test_garbage_after_an_option_with_data_is_invalid(bench, row):
    row.play(bench)


def unknown_options():
    for size, (data, also) in SIZES.items():
        for option in UNKNOWN_OPTIONS:
            yield OptionRow(f"{option:#x}-with-{size}", option, data, UNSUPPORTED + also)
    for option in UNKNOWN_OPTIONS:
        yield OptionRow(f"{option:#x}", option, b"", UNSUPPORTED)


@each_row(unknown_options())
def test_unknown_options_are_unsupported(bench, row):
    row.play(bench)


# An ABORT asks for the end, so the end is an answer too if there is much data to ignore.
@each_row(
    OptionRow(
        f"with-{size}",
        NBD_OPT_ABORT,
        data,
        (NBD_REP_ACK, *also, CLOSED) if also else (NBD_REP_ACK,),
    )
    for size, (data, also) in SIZES.items()
)
def test_abort_with_data_is_acknowledged_or_closed(bench, row):
    row.play(bench)


@on_servers({"writable": PLAIN, "read-only": READ_ONLY})
def test_abort_is_acknowledged(bench):
    for data in (b"", b"!", garbage(4000)):  # SHOULD ignore any data
        client = bench.haggle()
        client.accepted(NBD_OPT_ABORT, data)
        client.expect_closed()
    client = bench.haggle()
    client.send_option(NBD_OPT_ABORT)
    client.close()  # without waiting for the reply


def test_bad_option_magic_ends_the_connection(bench):
    for magic in (0, NBDMAGIC, NBD_REP_MAGIC, IHAVEOPT ^ 1, IHAVEOPT << 8 & OFFSET_MAX):
        client = bench.haggle()
        client.send(pack_option(NBD_OPT_LIST, magic=magic))
        bench.witness.step()
        client.expect_closed()


def test_a_request_instead_of_an_option_ends_the_connection(bench):
    client = bench.haggle()
    client.send_request(NBD_CMD_READ, 0, 512)
    client.expect_closed()


def test_an_option_of_4_gib_is_closed_or_drained(bench):
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


def test_options_may_be_split_at_every_byte(bench):
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


def test_a_client_may_leave_within_an_option(bench):
    whole = pack_option(NBD_OPT_SET_META_CONTEXT, pack_queries(b"", [ALLOCATION]))
    for at in range(len(whole)):
        client = bench.haggle(Style.STRUCTURED)
        client.send(whole[:at])
        client.close()
        bench.witness.step()


def test_many_errors_leave_both_sides_in_step(bench):
    """As many as should not yet look like an attack."""
    client = bench.haggle()
    for _ in range(24):
        option = bench.rng.choice((99, *NO_DATA, *WITH_DATA))
        data = bench.rng.randbytes(bench.rng.randint(1, 3000))
        final = client.option(option, data)[-1]
        assert final.is_error, f"option {option}: {final}"
    bench.enter(client)


@on_servers({"default": PLAIN, "named": ServerSetup(flags=("-e", "disk"))})
def test_list_names_the_export(bench):
    name = "disk" if bench.setup.flags else ""
    client = bench.haggle()
    assert client.list() == [name]
    assert client.list() == [name]
    client.info(b"disk")
    client.go(name.encode())
    bench.prove_in_step(client)
