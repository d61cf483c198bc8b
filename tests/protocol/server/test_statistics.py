# SPDX-License-Identifier: BSD-3-Clause
"""The numbers that --stats writes and SIGUSR1 prints are those of what was done."""

import json
import re

from harness import KIB, MIB, SERVER, run, until
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


def test_statistics_at_the_end_keep_their_numbers(nbdram, tmp_path):
    statistics = Statistics(tmp_path)
    server = nbdram("16M", flags=("-t", "2", *statistics.flags))
    clients = [join(server) for _ in range(2)]  # one for each loop
    for client in clients:
        client.write(0, pattern(MIB))
        client.read(0, MIB)
    until(lambda: statistics.now(server)["bytes_read"] == 2 * MIB)
    before = statistics.now(server)
    server.stop()
    after = statistics.last()
    assert after["connections"] == 0
    for name in ("requests", "accepted", "bytes_read", "bytes_written", "stored_bytes"):
        assert after[name] == before[name], name
    assert after["requests"]["write"] == 2


def test_statistics_at_the_end_of_a_command(tmp_path):
    """They are those of the command, however short it was."""
    client = "h.connect_uri(sys.argv[1]); h.pwrite(b'x' * 4096, 0); h.pread(8192, 0); h.shutdown()"
    command = f"/usr/bin/python3 -c \"import nbd, sys; h = nbd.NBD(); {client}\" $uri"
    run(SERVER, "-U", "-", "--stats", tmp_path / "stats", "1M", "--run", command)
    numbers = json.loads((tmp_path / "stats").read_text())
    assert numbers["accepted"] == 1 and numbers["connections"] == 0
    assert numbers["requests"]["write"] == numbers["requests"]["read"] == 1
    assert numbers["requests"]["disconnect"] == 1
    assert numbers["bytes_written"] == 4096 and numbers["bytes_read"] == 8192
    assert numbers["stored_bytes"] == 4096


def check_screen(errors, numbers):
    """Compare what the last SIGUSR1 has printed."""
    lines = errors.rsplit("nbdram statistics\n", 1)[1].splitlines()
    found = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines if "  " in line)
    names = {name.replace(" ", "_"): text for name, text in found.items()}
    assert found["connections"].split() == ["2", "now,", str(numbers["accepted"]), "in", "all"]
    assert found["requests"] == f"6 failed, {numbers['parked']} parked"
    for name in ("write", "disconnect", "flush", "trim", "cache"):
        assert re.search(rf"^    {name} +{numbers['requests'][name]}$", errors, re.MULTILINE)
    assert names["holding_data"] == "0.8 MiB"
    assert found["disk"] == "16.0 MiB"
