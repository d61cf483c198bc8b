# SPDX-License-Identifier: BSD-3-Clause
"""A small Linux guest in qemu that does one job of tests/vm/guest, and tells how it went.

It has what scripts/vm prepared: a kernel and an initramfs.  The second serial line is the
conversation: the guest says a word, and goes on when the test answers with a line.  Every wait
ends: a guest has GUEST_SECONDS in all, which are no measure of speed.
"""

import functools
import os
import pathlib
import re
import select
import shutil
import subprocess
import time

import pytest

from harness import REPOSITORY, run

GUEST_SECONDS = 240
TRIAL_SECONDS = 20
GUEST_MIB = 256
TAIL_LINES = 60

PREPARED = pathlib.Path(os.environ.get("NBDRAM_VM", REPOSITORY / "build-vm")).resolve()
GUEST_SCRIPTS = pathlib.Path(__file__).with_name("guest")

# Emulated processors take turns: with a thread for each, a kernel that patched its own code was
# seen to hang in qemu 7.2 on a busy machine.
ACCELERATORS = {"kvm": "kvm", "tcg": "tcg,thread=single"}

# Two processors: the kernel's client has a queue for each, and so uses both connections.
CPUS = 2

# What no kernel says of a disk that works.
COMPLAINT = re.compile(
    r".*(?:I/O error|EXT4-fs error|EXT4-fs warning|BUG:|WARNING:|Oops|Call Trace|panic|"
    r"blocked for|nbd0: (?!shutting down sockets|Connection timed out, retrying)).*"
)
# Not explained: now and then, on a loaded machine and under emulation, the first read on one of two
# new connections has no answer for 30 seconds, and the kernel goes on over the other.  What is
# stored is judged all the same, and the run tells how often it was so.
RETRY = re.compile(r".*nbd0: Connection timed out, retrying.*")


@functools.cache
def accelerator():
    """kvm where a guest boots with it within TRIAL_SECONDS, else tcg: emulation in software.

    To be allowed /dev/kvm is not enough: there are nested ones in which an ordinary kernel hangs.
    """
    chosen = os.environ.get("NBDRAM_TEST_ACCEL")
    if chosen:
        return chosen
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and boots_with("kvm") else "tcg"


def boots_with(name):
    # busybox without a word says what it is and ends, which the kernel takes for a panic.
    words = "loglevel=5 panic=-1 rdinit=/bin/busybox"
    command = qemu(name, PREPARED / "initramfs", words)
    try:
        console = subprocess.run(
            [*command, "-serial", "stdio"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS,
        ).stdout
    except subprocess.TimeoutExpired:
        return False
    return b"BusyBox" in console


def qemu(accel, initramfs, kernel_words):
    """The start of the command; no windows, no devices, and a reboot is an end."""
    return (
        *("qemu-system-x86_64", "-accel", ACCELERATORS[accel], "-smp", str(CPUS)),
        *("-m", str(GUEST_MIB), "-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", PREPARED / "vmlinuz", "-initrd", initramfs),
        *("-append", f"console=ttyS0 {kernel_words}"),
    )


def initramfs_with(files, path):
    """The prepared initramfs and `files`, {name: path}, in the guest's folder /files."""
    tree = path.with_suffix(".tree")
    (tree / "files").mkdir(parents=True)
    for name, source in files.items():
        shutil.copy(source, tree / "files" / name)
    found = (*tree.glob("*"), *tree.glob("*/*"))
    names = "".join(f"{name.relative_to(tree)}\n" for name in found)
    # The kernel unpacks one archive after the other.
    shutil.copy(PREPARED / "initramfs", path)
    run("cpio", "--quiet", "-o", "-H", "newc", "-A", "-F", path, cwd=tree, input=names)


class Guest:
    """One guest from power on to power off; `words` go to its job by its environment."""

    def __init__(self, directory, job, *, devices=(), files=None, **words):
        directory.mkdir()
        self._deadline = time.monotonic() + GUEST_SECONDS
        self._console = directory / "console"
        self._errors = directory / "stderr"
        self._heard = b""
        initramfs = PREPARED / "initramfs"
        if files:
            initramfs = directory / "initramfs"
            initramfs_with(files, initramfs)
        with open(self._errors, "w") as errors:
            self._process = subprocess.Popen(
                [str(word) for word in self._command(initramfs, devices, JOB=job, **words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def _command(self, initramfs, devices, **words):
        # loglevel=5: warnings too; panic=-1: a guest that fails badly ends at once.
        told = " ".join(f"{name}={word}" for name, word in words.items())
        return (
            *qemu(accelerator(), initramfs, f"loglevel=5 panic=-1 {told}"),
            *("-serial", f"file:{self._console}", "-serial", "stdio"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            *devices,
        )

    def expect(self, word):
        """Wait for the guest to say `word`; it waits for go_on()."""
        said = self._line()
        if said != word:
            self._fail(f"the guest was to say {word!r} and said {said!r}")

    def go_on(self):
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def meet(self, word):
        self.expect(word)
        self.go_on()

    def end(self):
        """It came to the end of its job, powers off, and its kernel never complained."""
        self.meet("end 0")
        try:
            status = self._process.wait(self._seconds_left())
        except subprocess.TimeoutExpired:
            self._fail("the guest does not power off")
        if status != 0:
            self._fail(f"qemu's exit status was {status}")
        complaints = COMPLAINT.findall(self.console())
        if complaints:
            self._fail(f"the guest's kernel complained: {complaints}")

    def retries(self):
        return RETRY.findall(self.console())

    def console(self):
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _seconds_left(self):
        return max(self._deadline - time.monotonic(), 0)

    def _line(self):
        """The next line, or what was heard before the guest ended or its time was up."""
        output = self._process.stdout.fileno()
        while b"\n" not in self._heard:
            if not select.select([output], [], [], self._seconds_left())[0]:
                self._fail(f"the guest hangs; it last said {self._heard!r}")
            more = os.read(output, 4096)
            if not more:
                self._fail(f"the guest ended; it last said {self._heard!r}")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode(errors="replace").strip("\r")

    def _fail(self, why):
        tail = "\n".join(self.console().splitlines()[-TAIL_LINES:])
        said = self._errors.read_text(errors="replace")
        pytest.fail(f"{why}\n{said}-- console, whole in {self._console}\n{tail}", pytrace=False)
