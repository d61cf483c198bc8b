# SPDX-License-Identifier: BSD-3-Clause
"""NBD_OPT_STARTTLS where the server has no TLS.  test_tls.py has the servers with it.

Specification: "NOTLS mode" and "Option types" (NBD_OPT_STARTTLS).
"""

from harness import MIB
from rules import ALLOCATION, INVALID, SIZES, OptionRow, each_row, in_chunked_styles
from wire import *  # noqa: F403 - the specification's constants

NO_TLS = (NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_PLATFORM)


@each_row(
    [OptionRow("without-data", NBD_OPT_STARTTLS, b"", NO_TLS)],
    (
        OptionRow(f"with-{size}", NBD_OPT_STARTTLS, data, INVALID + NO_TLS + also)
        for size, (data, also) in SIZES.items()
    ),
)
def test_starttls_is_refused(bench, row):
    row.play(bench)


@in_chunked_styles
def test_refused_starttls_keeps_what_was_negotiated(bench, style):
    client = bench.haggle(style)
    client.set_contexts(b"", [ALLOCATION])
    assert client.option(NBD_OPT_STARTTLS)[-1].is_error
    client.go()
    client.done(NBD_CMD_BLOCK_STATUS, 0, MIB)
    bench.prove_in_step(client)
