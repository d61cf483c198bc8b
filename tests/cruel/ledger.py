# SPDX-License-Identifier: BSD-3-Clause
"""How much of each cruelty, and what a server must hold before and after.

With NBDRAM_TEST_FULL=1 everything is done in its full count; else enough of it to be a test.
"""

import contextlib
import os
import pathlib

from harness import KIB, MIB, process_status
from observe import descriptors, join, resident, resident_is_telling, until
from wire import NBD_CMD_FLUSH

FULL = os.environ.get("NBDRAM_TEST_FULL") == "1"

# Bytes that may stay: buffers of loops that had no such clients before, and scraps of the heap.
SLACK = 2 * MIB
SLACK_AGAIN = MIB
LOOPS = ("-t", "2")


def scaled(usual, full):
    return full if FULL else usual


def sockets(server):
    count, folder = 0, pathlib.Path(f"/proc/{server.pid}/fd")
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(link).startswith("socket:")
    return count


def peak(server):
    """Bytes: the largest resident size that it had."""
    return int(process_status(server.pid)["VmHWM"].split()[0]) * KIB


class Ledger:
    """What a server holds when nothing is asked of it, and a witness of what it should store.

    The first MIB of the disk is the witness's: others may read there, and be refused.
    All of the disk holds something, so that what is written takes no more memory.
    """

    def __init__(self, server, rng):
        self._server = server
        self._witness = join(server)
        self._stored = bytearray(rng.randbytes(MIB))
        for at in range(0, self._witness.export.size, MIB):
            self._witness.write(at, self._stored)
        until(lambda: sockets(server) == 2)  # the listening one, and the witness's
        self.descriptors = descriptors(server)
        self.telling = resident_is_telling(server)
        self.memory = resident(server)

    def everybody_left(self):
        until(lambda: descriptors(self._server) == self.descriptors)

    def finds_what_it_stored(self):
        assert self._witness.read(0, MIB) == self._stored

    def changes(self, rng):
        """The witness writes something, and finds that and what is around it."""
        at, count = rng.randrange(MIB // 2), rng.randrange(1, 64 * KIB)
        data = rng.randbytes(count)
        self._witness.write(at, data)
        self._stored[at : at + count] = data
        around = slice(max(at - KIB, 0), at + count + KIB)
        found = self._witness.read(around.start, around.stop - around.start)
        assert found == self._stored[around]

    def serves(self):
        """The witness is served, and so is somebody new."""
        self.finds_what_it_stored()
        with join(self._server) as newcomer:
            newcomer.write(MIB // 2, self._stored[MIB // 2 :][: 64 * KIB])
            newcomer.done(NBD_CMD_FLUSH)
            newcomer.disconnect()
        self.everybody_left()

    def balance(self, more=SLACK):
        """All descriptors are back, and no more than that much memory is kept; how much is."""
        self.everybody_left()
        self.serves()
        kept = resident(self._server) - self.memory
        assert not self.telling or kept <= more, f"{kept >> 10} KiB stay, not {more >> 10}"
        return kept

    def forget_peak(self):
        pathlib.Path(f"/proc/{self._server.pid}/clear_refs").write_text("5")

    def peak_is_within(self, more):
        """Never since forget_peak was so much more memory taken."""
        taken = peak(self._server) - self.memory
        assert not self.telling or taken <= more, f"{taken >> 10} KiB, not {more >> 10}"
