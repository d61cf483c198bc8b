# SPDX-License-Identifier: BSD-3-Clause
"""Handshake flags: a client may only set what the server offered.

Specification: "Newstyle negotiation", "Handshake flags" and "Client flags".
"""

import struct

import pytest

from rules import COUNT_MAX, ServerSetup, on_servers
from wire import *  # noqa: F403 - the specification's constants
from wire import pack_option

UNKNOWN_FLAGS = (
    *(1 << 2, 3 | 1 << 3, 3 | 1 << 16, 3 | 1 << 31),
    *(0x00030000, 0x03000000, COUNT_MAX),
)


def masked(mask):
    return ServerSetup(flags=(f"--mask-handshake={mask}",))


# {name: (what the server offers, the flags that a client sets)}: one of them was not offered.
NOT_OFFERED = {
    f"{mask}-offered-{flags}-set": (masked(mask), flags)
    for mask, flags in ((0, 1), (0, 2), (0, 3), (1, 3), (1, 2), (2, 1), (2, 3))
}


def refuse_flags(bench, flags):
    client = bench.dial()
    client.recv_greeting()
    client.send_client_flags(flags)
    bench.witness.step()
    client.expect_closed()


@pytest.mark.parametrize("flags", UNKNOWN_FLAGS, ids=hex)
def test_unknown_client_flags_end_the_connection(bench, flags):
    refuse_flags(bench, flags)


@pytest.mark.parametrize("server_setup, flags", NOT_OFFERED.values(), ids=NOT_OFFERED)
def test_client_flags_that_were_not_offered_end_the_connection(bench, flags):
    refuse_flags(bench, flags)


def test_a_client_without_flags_may_name_an_export(bench):
    for flags in (0, NBD_FLAG_C_NO_ZEROES):  # the old newstyle: this option only
        client = bench.dial().greet(flags)
        client.export_name()
        bench.prove_in_step(client)


@on_servers({f"{mask}": masked(mask) for mask in range(4)})
def test_the_mask_is_what_the_server_offers(bench):
    (mask,) = (int(word.partition("=")[2]) for word in bench.setup.flags)
    client = bench.dial().greet()
    assert client.handshake_flags == mask
    client.export_name()
    bench.prove_in_step(client)


def test_flags_may_be_sent_before_the_greeting_is_read(bench):
    """Together with the first option."""
    client = bench.dial()
    flags = struct.pack(">I", NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)
    client.send(flags + pack_option(NBD_OPT_LIST))
    client.recv_greeting()
    assert client.recv_option_replies(NBD_OPT_LIST)[-1].type == NBD_REP_ACK
    bench.enter(client)
