# SPDX-License-Identifier: BSD-3-Clause
"""Run nbdkit with the plugin under test, or nbdram, and talk to it.

Environment:

  NBDRAM_PLUGIN   the plugin: a path, or the word "memory" for nbdkit's own
                  (default: build/nbdkit-memory-plugin.so in this repository)
  NBDRAM_SERVER   the server: a path (default: build/nbdram in this repository)
  NBDRAM_PRELOAD  goes into LD_PRELOAD of nbdkit and of nothing else, for a
                  plugin built with a sanitizer
  NBDRAM_SEED     seed of all random data; printed at the start of every run

Nothing here waits for a fixed time.  nbdkit is ready when it has written its process id into a
FIFO, nbdram when it accepts a connection, and a server has ended when its pidfd is readable.
HANG_SECONDS is no measure of speed: it only turns a hang into a failure.
"""

import ctypes
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import nbd
import pytest

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

ALLOCATORS = ("sparse", "malloc", "zstd")
THIN_ALLOCATORS = ("sparse", "zstd")  # they take memory when it is written

all_allocators = pytest.mark.parametrize("allocator", ALLOCATORS)
thin_allocators = pytest.mark.parametrize("allocator", THIN_ALLOCATORS)

HANG_SECONDS = 60

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PRELOAD = os.environ.get("NBDRAM_PRELOAD", "")


def plugin_under_test():
    name = os.environ.get("NBDRAM_PLUGIN")
    if name is None:
        return str(REPOSITORY / "build" / "nbdkit-memory-plugin.so")
    return os.path.abspath(name) if os.sep in name else name


PLUGIN = plugin_under_test()
SERVER = os.path.abspath(os.environ.get("NBDRAM_SERVER", REPOSITORY / "build" / "nbdram"))


def until(condition, *, pause=0.005, hangs=lambda: "nothing comes"):
    """Wait until condition() is true, and return its value.  hangs() says what went wrong."""
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"hangs: {hangs()}"
        select.select([], [], [], pause)


def falling_to(limit, figure):
    """Watch figure() until it is at most `limit`, or for a while.  The last value.

    Memory goes back to the system in the background, so one look is not enough.
    """
    deadline = time.monotonic() + HANG_SECONDS / 2
    value = figure()
    while value > limit and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
        value = figure()
    return value


def accepts(path):
    """Whether a server accepts connections on this Unix socket.

    The file of a socket exists before a server listens on it.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def need(*programs):
    """Skip the test unless all these programs are installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def need_true_memory_figures():
    """Skip the test if a preloaded library changes what memory figures mean."""
    if PRELOAD:
        pytest.skip("NBDRAM_PRELOAD: memory figures are not the plugin's alone")


def nbdkit_environment():
    environment = dict(os.environ)
    if PRELOAD:
        environment["LD_PRELOAD"] = PRELOAD
    return environment


def nbdkit_config():
    """The output of nbdkit --dump-config, as a dictionary."""
    dump = run("nbdkit", "--dump-config").stdout
    return dict(line.split("=", 1) for line in dump.splitlines())


def run(*command, check=True, **options):
    """Run a program to its end.  If it fails, the test does, and shows its output."""
    result = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        **options,
    )
    if check:
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result


def run_nbdkit(*params, flags=(), plugin=None, check=False, **options):
    """Run nbdkit to its end, for start-up errors, dumps and --run."""
    command = ("nbdkit", *flags, plugin or PLUGIN, *params)
    return run(*command, check=check, env=nbdkit_environment(), **options)


def run_under_nbdkit(client, *params, plugin=None):
    """Serve a disk on a private socket while the shell command `client` runs."""
    flags = ("-U", "-", "--run", f"unset LD_PRELOAD; {client}")
    # nbdkit takes --run anywhere on its command line, so flags may hold it.
    return run_nbdkit(*params, flags=flags, plugin=plugin)


def process_status(pid):
    """The fields of /proc/PID/status, as text."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def process_bytes(pid, field):
    """A field of /proc/PID/status that is an amount of memory."""
    return int(process_status(pid)[field].split()[0]) * KIB


def adopt_orphans():
    """Become the parent of daemons started below us, so that they can be reaped."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


class DidNotStart(Exception):
    """nbdkit ended, or hung, before it was ready."""

    def __init__(self, exit_code, errors):
        super().__init__(f"exit code {exit_code}: {errors}")
        self.exit_code = exit_code
        self.errors = errors


def new_handle(structured=True):
    """A libnbd handle, not yet connected; if it is structured, it can ask for block status."""
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    if structured:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    return handle


def abandon(handles):
    """Disconnect.  That fails if the server is gone, which its exit status shows better."""
    for handle in handles:
        errno_of(handle.shutdown, nbd.SHUTDOWN_ABANDON_PENDING)
    handles.clear()


class Server:
    """One nbdkit on a Unix socket in `directory`, ready when the constructor returns.

    background=True lets nbdkit become a daemon, as a user starts it; its messages are then lost.
    `prefix` is a command that runs nbdkit's, `plugin` another plugin than the one under test.
    """

    def __init__(
        self, directory, params, *, flags=(), background=False, prefix=(), plugin=PLUGIN
    ):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.socket = self.directory / "s"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.pid = None
        self._pidfd = None
        self._exit_status = None
        self._handles = []
        self._errors_path = self.directory / "stderr"
        pid_fifo = self.directory / "pid"
        os.mkfifo(pid_fifo)
        # Open it for writing too: without a writer a read would return the end of the file.
        fifo = os.open(pid_fifo, os.O_RDWR | os.O_NONBLOCK)
        command = [*prefix, "nbdkit", "-U", self.socket, "-P", pid_fifo, *flags]
        command += [] if background else ["-f", "--exit-with-parent"]
        command += [plugin, *params]
        try:
            with open(self._errors_path, "w") as errors:
                launched = subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    env=nbdkit_environment(),
                )
            self._await_pid(launched, fifo, background)
        finally:
            os.close(fifo)
        self._watchdog = threading.Timer(3 * HANG_SECONDS, self.signal, [signal.SIGABRT])
        self._watchdog.daemon = True
        self._watchdog.start()

    def _await_pid(self, launched, fifo, background):
        launched_fd = os.pidfd_open(launched.pid)
        try:
            ready, _, _ = select.select([fifo, launched_fd], [], [], HANG_SECONDS)
            if fifo not in ready and launched_fd in ready and background:
                # The launcher may end before the daemon has written its id.
                if launched.wait() == 0:
                    ready, _, _ = select.select([fifo], [], [], HANG_SECONDS)
            if fifo not in ready:
                launched.kill()
                raise DidNotStart(launched.wait(), self.errors())
        finally:
            os.close(launched_fd)
        self.pid = int(os.read(fifo, 64))
        self._pidfd = os.pidfd_open(self.pid)
        if self.pid != launched.pid:
            assert launched.wait(HANG_SECONDS) == 0
        launched.returncode = 0  # the server is reaped by _reap, not by Popen

    def errors(self):
        """The server's messages so far."""
        return self._errors_path.read_text(errors="replace")

    def connect(self, export="", structured=True):
        """A connected libnbd handle; if it is structured, it can ask for block status."""
        handle = new_handle(structured)
        handle.set_export_name(export)
        handle.connect_unix(str(self.socket))
        self._handles.append(handle)
        return handle

    def rss(self):
        """Resident bytes of the server."""
        return process_bytes(self.pid, "VmRSS")

    def locked(self):
        """Bytes that the server has locked into memory."""
        return process_bytes(self.pid, "VmLck")

    def writable(self):
        """Bytes of the server's writable address space, used or not."""
        return process_bytes(self.pid, "VmData")

    def rss_falling_to(self, limit):
        """The resident size once it is at most `limit`, or after a while."""
        return falling_to(limit, self.rss)

    def signal(self, number):
        if self._exit_status is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self):
        if self._exit_status is None:
            select.select([self._pidfd], [], [], HANG_SECONDS)
            _, status = os.waitpid(self.pid, 0)
            self._exit_status = os.waitstatus_to_exitcode(status)
            os.close(self._pidfd)
            self._watchdog.cancel()

    def stop(self):
        """End the server, which must still be alive and must end well."""
        abandon(self._handles)
        if self._exit_status is None:
            try:
                self.signal(signal.SIGTERM)
            except ProcessLookupError:
                pass
            self._reap()
        if self._exit_status < 0:
            name = signal.Signals(-self._exit_status).name
            pytest.fail(f"nbdkit was killed by {name}\n{self.errors()}", pytrace=False)
        assert self._exit_status == 0, self.errors()


# The options for each place where nbdram can listen.  None: the path of a Unix socket is added.
PLACES = {
    "unix": None,
    "tcp4": ("-4", "-p", "0"),
    "tcp6": ("-6", "-p", "0"),
    "vsock": ("--vsock", "-p", "0"),
}


class Nbdram:
    """One nbdram in the foreground, which accepts when the constructor returns.

    NBDRAM_PRELOAD is not for it: nbdram is linked with its sanitizer.  `prefix` is a command that
    runs the command given to it, for example prlimit with its options.
    """

    def __init__(self, directory, params, *, flags=(), place="unix", prefix=()):
        directory = pathlib.Path(directory)
        directory.mkdir()
        self.socket = directory / "s"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self._handles = []
        self._errors_path = directory / "stderr"
        listen = PLACES[place] or ("-U", self.socket)
        command = [*prefix, SERVER, "-f", *listen, *flags, *params]
        with open(self._errors_path, "w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._is_stopping = False
        try:
            if place == "unix":
                self._await_accept()
            else:
                self.uri = self._await_uri()
        except BaseException:
            self.kill()
            raise

    def _await_accept(self):
        self._await(lambda: accepts(self.socket))

    def _await_uri(self):
        """The URI that it prints once it listens."""
        return self._await(lambda: re.search(r"(nbd\S*://\S+)\n", self.errors()))[1]

    def _await(self, condition):
        """The value of condition() once it is true."""

        def is_true_or_over():
            if not self.is_alive():
                raise DidNotStart(self.process.wait(), self.errors())
            return condition()

        return until(is_true_or_over, pause=0.002, hangs=self.errors)

    @property
    def pid(self):
        return self.process.pid

    @property
    def port(self):
        """The TCP or vsock port, as text."""
        return self.uri.rstrip("/").rpartition(":")[2]

    def connect(self, structured=True):
        """A connected libnbd handle; if it is structured, it can ask for block status."""
        handle = new_handle(structured)
        handle.connect_uri(self.uri)
        self._handles.append(handle)
        return handle

    def errors(self):
        """The end of the server's messages so far."""
        return self._errors_path.read_text(errors="replace")[-4000:]

    def is_alive(self):
        return self.process.poll() is None

    def is_running(self):
        """Whether it has not been asked to stop yet."""
        return not self._is_stopping

    def terminate(self):
        """Ask it to stop.  stop() waits for its end."""
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
        self._is_stopping = True

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End the server, which must still be alive and must end well."""
        lived = self._is_stopping or self.is_alive()
        abandon(self._handles)
        self.terminate()
        try:
            status = self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            status = "none: it hangs"
        self.kill()
        if not lived or status != 0:
            said = self.errors()
            pytest.fail(f"nbdram: lived {lived}, exit status {status}\n{said}", pytrace=False)


def refusal(directory, *params):
    """The single line that nbdkit prints when it refuses to start, before it is a daemon."""
    adopt_orphans()
    try:
        server = Server(directory / "refused", params, background=True)
    except DidNotStart as failure:
        assert failure.exit_code == 1
        assert not (directory / "refused" / "s").exists()
        (line,) = failure.errors.splitlines()
        assert line.startswith("nbdkit: error: ")
        return line
    server.stop()
    pytest.fail(f"{params} was accepted")


def errno_of(call, *arguments):
    """The errno of a libnbd call that fails, or 0."""
    try:
        call(*arguments)
    except nbd.Error as error:
        return error.errnum
    return 0
