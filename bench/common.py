# SPDX-License-Identifier: BSD-3-Clause
"""Shared by bench/run and bench/server: servers, measuring in pairs, the table, its verdicts."""

import json
import mmap
import os
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
PAGE = 4 * KIB
BLOCK = 256 * KIB
LARGEST = (1 << 63) - 1
COMMAND_SECONDS_MAX = 300
QUIET_SECONDS_MAX = 60
SETTLE_SECONDS = 5  # after this time, pages that nobody writes have been compressed
FIO_SECONDS = 1  # short, so that little time passes between the two runs of a pair
SIDES = ("stock", "ours")


def greets(path):
    """Whether an NBD server answers on this Unix socket. Reads its greeting and says goodbye."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(COMMAND_SECONDS_MAX)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        greeting = client.recv(18, socket.MSG_WAITALL)
        if not greeting.startswith(b"NBDMAGICIHAVEOPT"):
            raise RuntimeError(f"not NBD's greeting: {greeting}")
        # Agree to the flags it offers, then send NBD_OPT_ABORT.
        client.sendall(struct.pack(">I8sII", greeting[17] & 3, b"IHAVEOPT", 2, 0))
        client.recv(20, socket.MSG_WAITALL)
        return True


class Server:
    """One server with one memory disk on a Unix socket, and what it costs."""

    def __init__(self, name, command, path):
        """The command must listen on path. start_seconds is the time until the first greeting."""
        self.name = name
        started = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not greets(path):
                if self.process.poll() is not None or \
                   time.monotonic() > started + COMMAND_SECONDS_MAX:
                    raise RuntimeError(f"{name}: the server does not start")
                time.sleep(0.0002)
        except (OSError, RuntimeError):
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started
        self.path = path
        self.uri = f"nbd+unix:///?socket={path}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu(self):
        """CPU time in seconds, of all its threads, including those that ended. Precise to 1 ns."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name}: the server died, status {self.process.returncode}")
        return time.clock_gettime((~self.process.pid << 3) | 2)  # see clock_getcpuclockid(3)

    def rss(self, key="VmRSS"):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * KIB
        raise RuntimeError(f"{self.name}: no {key}: the server died")

    def wait_quiet(self, seconds=0.15):
        """Wait until, for this many seconds, it used almost no CPU and its resident size was
        steady. Returns the time at which that began."""
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        step = min(seconds / 3, 0.25)
        since = time.monotonic()
        cpu, rss = self.cpu(), self.rss()
        while time.monotonic() < since + seconds:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: not quiet after {QUIET_SECONDS_MAX} s")
            time.sleep(step)
            cpu_before, rss_before, cpu, rss = cpu, rss, self.cpu(), self.rss()
            if cpu - cpu_before > 0.02 * step or abs(rss - rss_before) > rss // 500:
                since = time.monotonic()
        return since

    def settled_rss(self):
        self.wait_quiet(SETTLE_SECONDS)
        return self.rss()

    def measure(self, act, requests=None, quiet_seconds=0.15):
        """Run act(), then wait until the server is quiet. The wait counts as CPU, not as time."""
        cpu = self.cpu()
        started = time.monotonic()
        result = act() or {}
        result.setdefault("seconds", time.monotonic() - started)
        result["settled_seconds"] = self.wait_quiet(quiet_seconds) - started
        result["cpu"] = (self.cpu() - cpu) / (requests or result["requests"]) * 1e6
        return result


VERDICTS = ("met", "met?", "MISSED?", "MISSED", "")


def judge(values, relation, bound):
    """The median's verdict, with "?" if the middle half of the values lies on both sides."""
    def keeps(value):
        return value <= bound if relation == "<=" else value >= bound
    if not values:
        return ""
    low, _, high = (statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1
                    else values * 3)
    verdict = "met" if keeps(statistics.median(values)) else "MISSED"
    return verdict + ("" if keeps(low) == keeps(high) else "?")


@dataclass
class Line:
    """One measurement, with its samples in pairs. The target bounds ours / stock, or ours."""

    name: str
    unit: str
    stock: list
    ours: list
    target: tuple = None  # "<=" or ">=", and the bound
    bounds_ours: bool = False
    stock_cpu: list = field(default_factory=list)
    ours_cpu: list = field(default_factory=list)
    cpu_bound: float = None  # CPU per request below this x stock's meets the target, too

    def ratios(self):
        return [o / s for s, o in zip(self.stock, self.ours) if s]

    def cpu_ratios(self):
        return [o / s for s, o in zip(self.stock_cpu, self.ours_cpu) if s]

    def verdict(self):
        """The better of two verdicts: that of the figures, and that of the CPU."""
        if not self.target:
            return ""
        verdicts = [judge(self.ours if self.bounds_ours else self.ratios(), *self.target)]
        if self.cpu_bound:
            verdicts.append(judge(self.cpu_ratios(), "<=", self.cpu_bound))
        return min(verdicts, key=VERDICTS.index)

    def target_text(self):
        if not self.target:
            return "-"
        text = f"{self.target[0]} {self.target[1]:g}{' ours' if self.bounds_ours else ''}"
        return text + (f", cpu {self.cpu_bound:g}" if self.cpu_bound else "")


ROW = "{:<42} {:<10} {:>8} {:>8} {:>6} {:>11}  {:<16} {:<7} {:>8} {:>8} {:>6}"


def figure(values):
    if not values:
        return "-"
    value = statistics.median(values)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def print_header():
    print(ROW.format("", "", "", "", "ours /", "", "", "", "CPU us/r", "CPU us/r", "ours /"))
    print(ROW.format("measured", "unit", "stock", "ours", "stock", "spread", "target", "", "stock",
                     "ours", "stock"), flush=True)


def print_line(line):
    ratios = line.ratios()
    spread = f"{min(ratios):.2f}..{max(ratios):.2f}" if len(ratios) > 1 else "-"
    print(ROW.format(line.name, line.unit, figure(line.stock), figure(line.ours), figure(ratios),
                     spread, line.target_text(), line.verdict(), figure(line.stock_cpu),
                     figure(line.ours_cpu), figure(line.cpu_ratios())), flush=True)


def line_of(name, unit, samples, key, scale=1.0, **more):
    """A Line from one key of the samples that in_turns() gathered, with the CPU they took."""
    def column(side, key):
        return [s[key] for s in samples[side] if key in s]
    return Line(name, unit, [v * scale for v in column("stock", key)],
                [v * scale for v in column("ours", key)],
                stock_cpu=column("stock", "cpu"), ours_cpu=column("ours", "cpu"), **more)


def info_of(*args, **more):
    """line_of without CPU, for a further figure of a measurement whose CPU has been shown."""
    line = line_of(*args, **more)
    line.stock_cpu, line.ours_cpu = [], []
    return line


def back_memory(size):
    """Allocate memory and free it, so that the next allocation is fast: a virtual machine may
    have given its free memory back to its host, and getting it again would hide all else."""
    if not size:
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for offset in range(0, size, MIB):
            memory[offset:offset + MIB] = bytes(MIB)


class BenchBase:
    """Drives a disk, and has what that needs. A subclass knows how to start the servers."""

    count = 0

    def __init__(self, options, directory):
        self.dir = directory
        self.is_quick = options.quick
        self.rounds = options.rounds
        self.files = {}

    def new_socket(self):
        BenchBase.count += 1
        return self.dir / f"{BenchBase.count}.sock"

    def run(self, *command):
        return subprocess.run([str(c) for c in command], check=True, timeout=COMMAND_SECONDS_MAX,
                              stdout=subprocess.PIPE, text=True).stdout

    def in_turns(self, measure, rounds=None, sides=SIDES):
        """Call measure(side) for stock, ours, stock, ours, ... and gather what it returns."""
        samples = {side: [] for side in sides}
        for _ in range(rounds or self.rounds):
            for side in sides:
                samples[side].append(measure(side))
        return samples

    def copy(self, server, path, **quiet):
        def act():
            self.run("nbdcopy", path, server.uri)
        return server.measure(act, requests=path.stat().st_size / BLOCK, **quiet)

    def fio(self, server, rw, block, depth, jobs=1):
        def act():
            output = self.run(
                "fio", "--output-format=json", "--name=bench", "--ioengine=nbd", "--thread",
                f"--uri={server.uri}", f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}",
                f"--numjobs={jobs}", "--group_reporting", "--norandommap", "--time_based",
                f"--runtime={FIO_SECONDS}")
            report = json.loads(output[output.index("{"):])  # after a line of the nbd engine
            both = [report["jobs"][0][kind] for kind in ("read", "write")]
            return {"rate": sum(b["iops"] for b in both),
                    "requests": sum(b["total_ios"] for b in both)}
        return server.measure(act)

    def random_file(self, size):
        def fill(file):
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
        return self.file(f"random-{size}", fill)

    def tar_file(self, size):
        """The first size bytes of a tar file of /usr: real files, which compress as such do."""
        def fill(file):
            with subprocess.Popen(["tar", "-C", "/", "-cf", "-", "--sort=name", "usr"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar:
                while file.tell() < size and (data := tar.stdout.read(MIB)):
                    file.write(data[:size - file.tell()])
                tar.kill()
            file.truncate(file.tell() // BLOCK * BLOCK)
        return self.file(f"tar-{size}", fill)

    def file(self, name, fill):
        path = self.dir / name
        if name not in self.files:
            with path.open("wb") as file:
                fill(file)
            self.files[name] = path
        return path


def save(options, lines):
    """Write all samples, and a description of the machine, as JSON to results/."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open()
                if line.startswith("model name")), platform.machine())
    where = {"cpu": cpu, "processors": os.cpu_count(), "kernel": platform.release(),
             "nbdkit": subprocess.getoutput("nbdkit --version"),
             "fio": subprocess.getoutput("fio --version"),
             "commit": subprocess.getoutput(f"git -C '{ROOT}' describe --always --dirty"),
             "quick": options.quick}
    path = HERE / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"where": where, "lines": [asdict(line) for line in lines]},
                               indent=1) + "\n")
    print(f"saved {path.relative_to(ROOT)}")


def add_options(parser, benches, rounds, quick_rounds):
    """Add the options that both programs have. check_options() completes what they parse to."""
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="what to measure: " + " ".join(benches) + " (all)")
    parser.add_argument("--quick", action="store_true", help="less data, less time, more noise")
    parser.add_argument("--rounds", type=int,
                        help=f"pairs of measurements ({rounds}, quick {quick_rounds})")
    parser.add_argument("--save", action="store_true", help="keep all samples in results/")
    parser.set_defaults(rounds_of={False: rounds, True: quick_rounds})


def check_options(parser, options, benches):
    unknown = set(options.names) - set(benches)
    if unknown:
        parser.error(f"unknown: {' '.join(sorted(unknown))}; there are {' '.join(benches)}")
    options.rounds = options.rounds or options.rounds_of[options.quick]


def roomy_dir():
    """/dev/shm, where files stay in memory, if it has room; None, the usual place, if not."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() and shutil.disk_usage(shm).free > 4 * GIB else None


def measure_all(options, benches, make_bench, failures=()):
    """Measure what was named, or everything. Prints the table line by line, then exits."""
    lines, failed = [], False
    print_header()
    with tempfile.TemporaryDirectory(prefix="nbdram-bench-", dir=roomy_dir()) as directory:
        bench = make_bench(options, Path(directory))
        for name in options.names or benches:
            try:
                for line in benches[name](bench):
                    lines.append(line)
                    print_line(line)
            except (RuntimeError, OSError, subprocess.SubprocessError, *failures) as error:
                print(f"{name}: could not be measured: {error}", flush=True)
                failed = True
    verdicts = [line.verdict() for line in lines if line.verdict()]
    print(f"{sum(v.startswith('met') for v in verdicts)} of {len(verdicts)} targets met")
    if options.save:
        save(options, lines)
    sys.exit(1 if failed else 0)
