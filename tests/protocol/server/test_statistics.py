# SPDX-License-Identifier: BSD-3-Clause
"""The numbers that --stats writes and SIGUSR1 prints are those of what was done."""

import re

from harness import KIB, MIB, until
from observe import Statistics, join
from serving import STYLES, pattern
from wire import (
    NBD_CMD_BLOCK_STATUS,
    NBD_CMD_FLUSH,
    NBD_CMD_READ,
    NBD_CMD_TRIM,
    NBD_CMD_WRITE,
    NBD_CMD_WRITE_ZEROES,
)


def test_statistics_count_what_was_done(nbdram, tmp_path):
    statistics = Statistics(tmp_path)
    server = nbdram("16M", flags=("-t", "2", *statistics.flags))
    until(lambda: statistics.now(server)["connections"] == 0)
    accepted = statistics.now(server)["accepted"]
    clients = [join(server, style) for style in STYLES]
    for number, client in enumerate(clients):
        client.write(number * MIB, pattern(MIB))
        client.write(number * MIB, b"small")
        client.read(0, 3 * MIB)
        client.read(15 * MIB, 5)  # a hole counts, too
        client.done(NBD_CMD_TRIM, number * MIB, 512 * KIB)
        client.done(NBD_CMD_WRITE_ZEROES, number * MIB + 512 * KIB, 256 * KIB)
        client.done(NBD_CMD_FLUSH)
        assert client.call(NBD_CMD_WRITE, 16 * MIB, payload=b"beyond").error
        assert client.call(NBD_CMD_READ, 16 * MIB, 1).error
    for client in clients[1:]:
        client.done(NBD_CMD_BLOCK_STATUS, 0, MIB)
    clients.pop().disconnect()
    until(lambda: statistics.now(server)["connections"] == 2)
    # What was trimmed is freed once no thread can be reading it any more.
    until(lambda: statistics.now(server)["stored_bytes"] == 3 * 256 * KIB)
    numbers = statistics.now(server)
    assert numbers["requests"] == {
        "read": 9,
        "write": 9,
        "disconnect": 1,
        "flush": 3,
        "trim": 3,
        "cache": 0,
        "write_zeroes": 3,
        "block_status": 2,
        "failed": 6,
    }
    assert numbers["accepted"] - accepted == 3
    assert numbers["bytes_read"] == 3 * (3 * MIB + 5)
    assert numbers["bytes_written"] == 3 * (MIB + 5)
    assert numbers["disk_size"] == 16 * MIB
    assert numbers["memory_bytes"] >= numbers["stored_bytes"]
    assert 0 < numbers["resident_bytes"] < 64 * MIB
    check_screen(server.errors(), numbers)


def check_screen(errors, numbers):
    """Compare what the last SIGUSR1 has printed."""
    lines = errors.rsplit("nbdram statistics\n", 1)[1].splitlines()
    found = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines if "  " in line)
    names = {name.replace(" ", "_"): text for name, text in found.items()}
    assert found["connections"].split() == ["2", "now,", str(numbers["accepted"]), "in", "all"]
    assert found["requests"] == "6 failed"
    for name in ("write", "disconnect", "flush", "trim", "cache"):
        assert re.search(rf"^    {name} +{numbers['requests'][name]}$", errors, re.MULTILINE)
    assert names["holding_data"] == "0.8 MiB"
    assert found["disk"] == "16.0 MiB"
