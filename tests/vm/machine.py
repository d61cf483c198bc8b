# SPDX-License-Identifier: BSD-3-Clause
"""A small Linux guest in qemu that does one job of tests/vm/guest, and reports how it went.

It uses a kernel and an initramfs that scripts/vm has prepared.  The guest and the test converse
over the second serial line: the guest sends a word, and goes on when the test replies with a
line.  A guest has GUEST_SECONDS in all, which turn a hang into a failure and are no measure of
speed.
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

# Emulated processors share one thread: with a thread for each, a kernel that patched its own code
# has hung in qemu 7.2 on a busy machine.
ACCELERATORS = {"kvm": "kvm", "tcg": "tcg,thread=single"}

# Two processors: the kernel's client has a queue for each, so it uses both connections.
CPUS = 2

# Messages of a kernel whose disk does not work.
COMPLAINT = re.compile(
    r".*(?:I/O error|EXT4-fs error|EXT4-fs warning|BUG:|WARNING:|Oops|Call Trace|panic|"
    r"blocked for|oom-killer|nbd0: (?!shutting down sockets|Connection timed out, retrying)).*"
)
# Not explained: now and then, on a loaded machine and under emulation, the first read on one of
# two new connections gets no answer for 30 seconds, and the kernel goes on over the other.  That
# fails no test, but the run reports how often it happened.
RETRY = re.compile(r".*nbd0: Connection timed out, retrying.*")


@functools.cache
def accelerator():
    """kvm if a guest boots with it within TRIAL_SECONDS, else tcg: emulation in software.

    Access to /dev/kvm is not enough: in some nested virtual machines an ordinary kernel hangs.
    """
    chosen = os.environ.get("NBDRAM_TEST_ACCEL")
    if chosen:
        return chosen
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and boots_with("kvm") else "tcg"


def boots_with(name):
    # busybox without arguments prints its name and ends, upon which the kernel panics.
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


def qemu(accel, initramfs, kernel_words, memory=GUEST_MIB):
    """The start of the command: no windows, no devices, and a reboot ends it."""
    return (
        *("qemu-system-x86_64", "-accel", ACCELERATORS[accel], "-smp", str(CPUS)),
        *("-m", str(memory), "-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", PREPARED / "vmlinuz", "-initrd", initramfs),
        *("-append", f"console=ttyS0 {kernel_words}"),
    )


def initramfs_with(files, path):
    """Write the prepared initramfs, with `files` ({name: path}) in the guest's folder /files."""
    tree = path.with_suffix(".tree")
    (tree / "files").mkdir(parents=True)
    for name, source in files.items():
        shutil.copy(source, tree / "files" / name)
    found = (*tree.glob("*"), *tree.glob("*/*"))
    names = "".join(f"{name.relative_to(tree)}\n" for name in found)
    # The kernel unpacks archives that follow one another.
    shutil.copy(PREPARED / "initramfs", path)
    run("cpio", "--quiet", "-o", "-H", "newc", "-A", "-F", path, cwd=tree, input=names)


class Guest:
    """One guest from power on to power off, with `memory` MiB.

    `words` become environment variables of its job.
    """

    def __init__(
        self,
        directory,
        job,
        *,
        devices=(),
        files=None,
        memory=GUEST_MIB,
        seconds=GUEST_SECONDS,
        **words,
    ):
        directory.mkdir()
        self._deadline = time.monotonic() + seconds
        self._console = directory / "console"
        self._errors = directory / "stderr"
        self._heard = b""
        initramfs = PREPARED / "initramfs"
        if files:
            initramfs = directory / "initramfs"
            initramfs_with(files, initramfs)
        command = self._command(initramfs, memory, devices, JOB=job, **words)
        with open(self._errors, "w") as errors:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def _command(self, initramfs, memory, devices, **words):
        # loglevel=5: also warnings.  panic=-1: a guest whose kernel panics ends at once.
        words_of_job = " ".join(f"{name}={word}" for name, word in words.items())
        return (
            *qemu(accelerator(), initramfs, f"loglevel=5 panic=-1 {words_of_job}", memory),
            *("-serial", f"file:{self._console}", "-serial", "stdio"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            *devices,
        )

    def expect(self, word):
        """Wait for the guest to say `word`.  The guest then waits for go_on()."""
        said = self._line()
        if said != word:
            self._fail(f"the guest said {said!r}, not {word!r}")

    def hear(self, word):
        """Wait for the guest to say `word` and some numbers.  Returns the numbers."""
        said, *numbers = self._line().split() or ("",)
        if said != word:
            self._fail(f"the guest said {said!r}, not {word!r}")
        return [int(number) for number in numbers]

    def has_spoken(self):
        """Whether the guest said something that was not expected or heard yet."""
        return b"\n" in self._heard or bool(select.select([self._process.stdout], [], [], 0)[0])

    def go_on(self):
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def meet(self, word):
        self.expect(word)
        self.go_on()

    def end(self):
        """Check that it ends its job, powers off, and that its kernel has not complained."""
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
        """The next line.  Fails if the guest ends or its time is up."""
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
