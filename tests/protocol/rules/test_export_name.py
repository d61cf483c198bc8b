# SPDX-License-Identifier: BSD-3-Clause
"""NBD_OPT_EXPORT_NAME, which enters the transmission phase or ends the connection.

Specification: "Newstyle negotiation" and "Option types" (NBD_OPT_EXPORT_NAME).
"""

import contextlib

from client import Closed
from wire import *  # noqa: F403 - the specification's constants
from wire import Style


def test_any_name_is_accepted(bench):
    for name in (b"", b"any", b"n" * 4096, "disk \N{SNOWMAN}".encode()):
        for flags in (NBD_FLAG_C_FIXED_NEWSTYLE, 3):  # with 124 zeroes, and without
            client = bench.dial().greet(flags)
            assert client.export_name(name).size == bench.setup.size
            bench.prove_in_step(client)


def test_other_options_may_come_before(bench):
    for style in (Style.SIMPLE, Style.STRUCTURED):
        client = bench.haggle(style)
        client.option(99)
        client.list()
        assert client.info().flags == client.export_name().flags
        bench.prove_in_step(client)


def test_a_bad_name_ends_the_connection(bench):
    for name in (b"n" * 4097, b"n" * 70000, b"\0", b"na\0me", b"name\0"):
        client = bench.haggle()
        with contextlib.suppress(Closed):
            client.send_option(NBD_OPT_EXPORT_NAME, name)
        bench.witness.step()
        client.expect_closed()
