"""What is measured: mounts of cookiefs, of the reference server and of peers, and cgroups.

Everything that is begun here is a context manager that ends it again: mounts by name, processes by
their ids, cgroups when they are empty. bench turns signals into exceptions, so that holds for
Ctrl-C too.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import struct
import subprocess
import time

MOUNT_SECONDS = 60
END_SECONDS = 120


class BenchError(Exception):
    """Something could not be measured; the text says why."""


def run(command, **options):
    """Runs a short command; its standard output."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BenchError(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {last}")
    return done.stdout


def is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return any(line.split()[4] == str(path) for line in table)


class Mount:
    """A file system in user space, in the foreground, at a directory of its own."""

    def __init__(self, name, command, point, cgroup=None):
        """`command`: without the mount point, which takes the place of '{}' or the end."""
        self.name = name
        self.point = pathlib.Path(point)
        self.directory = self.point  # what is listed
        self._cgroup = cgroup
        words = [str(word) for word in command]
        if "{}" not in words:
            words.append("{}")
        self._command = [str(self.point) if word == "{}" else word for word in words]
        self._log = self.point.with_name(self.point.name + ".log")
        self._process = None

    def __enter__(self):
        self.point.mkdir(parents=True, exist_ok=True)
        with open(self._log, "wb") as log:
            # A session of its own: Ctrl-C reaches us alone, and we unmount.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                preexec_fn=self._cgroup.enter if self._cgroup else None)
        try:
            self._await_mount()
        except BaseException:
            self._end_by_force()
            raise
        return self

    def __exit__(self, kind, *_):
        if self._process is None or self._process.poll() is not None and not is_mounted(self.point):
            return
        try:
            self.unmount()
        except BenchError:
            self._end_by_force()
            if kind is None:
                raise
        except BaseException:
            self._end_by_force()
            raise

    def _await_mount(self):
        deadline = time.monotonic() + MOUNT_SECONDS
        while not is_mounted(self.point):
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} did not mount: {self.last_words()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} did not mount within {MOUNT_SECONDS} s")
            time.sleep(0.01)

    def unmount(self):
        """Unmounts and waits until the process is gone; the seconds that took."""
        start = time.monotonic()
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        run(command + [str(self.point)])
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise BenchError(f"{self.name} did not end within {END_SECONDS} s") from late
        took = time.monotonic() - start
        if status != 0:
            raise BenchError(f"{self.name} ended with status {status}: {self.last_words()}")
        return took

    def _end_by_force(self):
        if is_mounted(self.point):
            command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
            subprocess.run(command + [str(self.point)], stderr=subprocess.DEVNULL, check=False)
        if self._process is None:
            return
        for end in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(end)
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    pass

    def last_words(self):
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    @property
    def alive(self):
        return self._process is not None and self._process.poll() is None

    def cpu_seconds(self):
        """User and system time of the process so far."""
        stat = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, key):
        """VmRSS, VmHWM, ... of the process."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        for line in status.splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
        raise BenchError(f"no {key} for {self.name}")


class Cookiefs(Mount):
    """A mount of cookiefs, with its counters."""

    def __init__(self, bench, source, options="", name="cookiefs", directory="", cgroup=None):
        self._ctl = bench.program("cookiefsctl")
        command = [bench.program("cookiefs"), "-f"]
        if options:
            command += ["-o", options]
        super().__init__(name, command + [source], bench.new_point("cookiefs"), cgroup)
        self.directory = self.point / directory if directory else self.point

    def stats(self):
        return json.loads(run([self._ctl, "stats", str(self.point), "--json"]))

    def figure(self, key):
        """One counter, such as 'remote.requests'."""
        value = self.stats()
        for part in key.split("."):
            value = value[part]
        return value

    def drop(self):
        run([self._ctl, "drop", str(self.point)])

    def left_behind(self):
        """What its last words say is still held; 0 when all was freed."""
        found = re.findall(r"unmounted: (pages=.*)$", self._log.read_text(errors="replace"), re.M)
        if not found:
            raise BenchError(f"no line 'unmounted: pages=...' at the end: {self.last_words()}")
        held = dict(word.split("=", 1) for word in found[-1].split())
        held.pop("free_page", None)
        return sum(abs(int(value)) for value in held.values())


class MemoryCgroup:
    """A memory cgroup of `limit` bytes, v1 or v2, swap included."""

    def __init__(self, limit):
        self._limit = limit
        self._path = None
        self._version = 0

    def __enter__(self):
        if os.geteuid() != 0:
            raise BenchError("making a memory cgroup needs root")
        root = self._find_root()
        self._path = root / f"cookiefs-bench-{os.getpid()}"
        try:
            self._path.mkdir()
        except OSError as error:
            self._path = None
            raise BenchError(f"can't make a memory cgroup in {root}: {error.strerror}") from error
        try:
            self._set_limit()
        except OSError as error:
            self._path.rmdir()
            raise BenchError(f"can't limit a memory cgroup: {error.strerror}") from error
        return self

    def __exit__(self, *_):
        deadline = time.monotonic() + 10
        while True:
            try:
                self._path.rmdir()
                return
            except OSError as error:
                # What ran in it may take a moment to be gone for good.
                if time.monotonic() > deadline:
                    raise BenchError(f"could not remove {self._path}: {error.strerror}") from error
                time.sleep(0.05)

    def _find_root(self):
        unified = None
        with open("/proc/self/mountinfo", encoding="utf-8") as table:
            for line in table:
                fields, kind = line.split(" - ", 1)
                point, (fs, _, options) = fields.split()[4], kind.split(None, 2)
                if fs == "cgroup" and "memory" in options.strip().split(","):
                    self._version = 1
                    return pathlib.Path(point)
                if fs == "cgroup2":
                    unified = pathlib.Path(point)
        if unified and "memory" in (unified / "cgroup.controllers").read_text().split():
            self._version = 2
            (unified / "cgroup.subtree_control").write_text("+memory")
            return unified
        raise BenchError("no cgroup hierarchy with a memory controller is mounted")

    def usage_file(self):
        return self._path / {1: "memory.usage_in_bytes", 2: "memory.current"}[self._version]

    def usage_bytes(self):
        return int(self.usage_file().read_text())

    def limit_bytes(self):
        return self._limit

    def try_limit(self, limit):
        """Sets another limit, unless the kernel does not take it."""
        with contextlib.suppress(OSError):
            self._limit_file().write_text(str(limit))
            self._limit = limit

    def _limit_file(self):
        return self._path / {1: "memory.limit_in_bytes", 2: "memory.max"}[self._version]

    def _set_limit(self):
        self._limit_file().write_text(str(self._limit))
        swap, limit = {1: ("memory.memsw.limit_in_bytes", str(self._limit)),
                       2: ("memory.swap.max", "0")}[self._version]
        if (self._path / swap).exists():
            (self._path / swap).write_text(limit)

    def enter(self):
        """In a child, before exec."""
        (self._path / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        name = {1: "memory.oom_control", 2: "memory.events"}[self._version]
        for line in (self._path / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def peak_bytes(self):
        """The most that was charged; None where the kernel does not tell."""
        name = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}[self._version]
        path = self._path / name
        return int(path.read_text()) if path.exists() else None


class Bench:
    """Where the programs are, where to mount, and how much to do."""

    def __init__(self, build, work, quick, callgrind):
        self._build = pathlib.Path(build)
        self.work = pathlib.Path(work)
        self.quick = quick
        self.callgrind = callgrind
        self._points = 0

    def rounds(self, quick, full):
        return quick if self.quick else full

    def program(self, name):
        path = self._build / name
        if not path.exists():
            raise BenchError(f"{name} is not built (cmake --build {self._build} --target {name})")
        return str(path)

    def new_point(self, name):
        self._points += 1
        return self.work / f"{name}-{self._points}"

    def reference(self, entries, *options):
        command = [self.program("bench_reference"), "--entries", entries, *options, "{}", "-f"]
        name = " ".join(("reference", *options))
        return Mount(name, command, self.new_point("reference"))

    def listing(self, directory, *options, cgroup=None):
        """One or more passes of bench_list; a dictionary each."""
        text = run([self.program("bench_list"), str(directory)] + [str(o) for o in options],
                   preexec_fn=cgroup.enter if cgroup else None)
        return json.loads(text)["passes"]

    def once(self, directory, *options, cgroup=None):
        return self.listing(directory, *options, cgroup=cgroup)[0]


def installed(program):
    return shutil.which(program)


def alternate(contenders, rounds, measure, progress):
    """Lets every contender take its turn in each round, another one first each time.

    Returns {contender: [what measure(contender) gave, a round each]}.
    """
    results = {contender: [] for contender in contenders}
    order = list(contenders)
    for i in range(rounds):
        progress(f"round {i + 1} of {rounds}")
        for contender in order:
            results[contender].append(measure(contender))
        order.append(order.pop(0))
    return results


def ratios(of, to):
    """Round by round, so that what slows a whole round down falls out."""
    return [a / b for a, b in zip(of, to)]


def median(values):
    return statistics.median(values)


class DirectoryHandle:
    """An open directory with positions, by raw getdents64: Python's own hides d_off."""

    _libc = ctypes.CDLL(None, use_errno=True)
    _HEADER = struct.Struct("=QqHB")

    def __init__(self, path):
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)

    def seek(self, offset):
        os.lseek(self._fd, offset, os.SEEK_SET)

    def read(self, size):
        """[(name, the offset after it)] of one getdents64."""
        buffer = ctypes.create_string_buffer(size)
        got = self._libc.getdents64(self._fd, buffer, ctypes.c_size_t(size))
        if got < 0:
            raise BenchError(f"getdents64: {os.strerror(ctypes.get_errno())}")
        raw, at, entries = buffer.raw, 0, []
        while at < got:
            _, offset, length, _ = self._HEADER.unpack_from(raw, at)
            name = raw[at + self._HEADER.size:at + length].split(b"\0", 1)[0]
            entries.append((name, offset))
            at += length
        return entries
