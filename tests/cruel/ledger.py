# SPDX-License-Identifier: BSD-3-Clause
"""How often each cruelty is done, and what a server may hold before and after.

With NBDRAM_TEST_FULL=1 everything is done in its full count, else often enough to be a test.
"""

import os
import pathlib

from harness import KIB, MIB, falling_to
from observe import (
    await_clients,
    await_departures,
    descriptors,
    join,
    peak,
    resident,
    resident_is_meaningful,
)
from wire import NBD_CMD_FLUSH

FULL = os.environ.get("NBDRAM_TEST_FULL") == "1"

# Bytes that may stay in use: buffers of loops that had no such clients yet, and heap fragments.
SLACK = 2 * MIB
SLACK_AGAIN = MIB
LOOPS = ("-t", "2")


def scaled(usual, full):
    return full if FULL else usual


class Ledger:
    """What a server holds while it is idle, and a witness of what it should store.

    The first MiB of the disk is the witness's.  Others may read it, but no change of theirs may
    succeed there.  All of the disk holds data, so that writes take no more memory.
    """

    def __init__(self, server, rng):
        self._server = server
        self._witness = join(server)
        self._stored = bytearray(rng.randbytes(MIB))
        for at in range(0, self._witness.export.size, MIB):
            self._witness.write(at, self._stored)
        await_clients(server, 1)
        self.descriptors = descriptors(server)
        self._is_meaningful = resident_is_meaningful(server)
        self.memory = resident(server)

    def await_departures(self):
        await_departures(self._server, self.descriptors)

    def check_stored(self):
        assert self._witness.read(0, MIB) == self._stored

    def check_change(self, rng):
        """The witness writes something, and reads it and what is around it."""
        at, count = rng.randrange(MIB // 2), rng.randrange(1, 64 * KIB)
        data = rng.randbytes(count)
        self._witness.write(at, data)
        self._stored[at : at + count] = data
        around = slice(max(at - KIB, 0), at + count + KIB)
        found = self._witness.read(around.start, around.stop - around.start)
        assert found == self._stored[around]

    def check_service(self):
        """The witness is served, and so is a new client."""
        self.check_stored()
        with join(self._server) as newcomer:
            newcomer.write(MIB // 2, self._stored[MIB // 2 :][: 64 * KIB])
            newcomer.done(NBD_CMD_FLUSH)
            newcomer.disconnect()
        self.await_departures()

    def balance(self, more=SLACK):
        """Check that all descriptors are closed, and that at most `more` memory is kept.

        Returns how much memory is kept, or 0 if there is less than at first.
        """
        self.await_departures()
        self.check_service()
        most = more if self._is_meaningful else float("inf")
        kept = falling_to(most, lambda: resident(self._server) - self.memory)
        is_fine = kept <= more or not self._is_meaningful
        assert is_fine, f"{kept >> 10} KiB stay in use, not {more >> 10}"
        return max(kept, 0)

    def forget_peak(self):
        pathlib.Path(f"/proc/{self._server.pid}/clear_refs").write_text("5")

    def check_peak(self, more):
        """Check that since forget_peak() at most `more` memory was in use at once."""
        taken = peak(self._server) - self.memory
        assert not self._is_meaningful or taken <= more, f"{taken >> 10} KiB, not {more >> 10}"
