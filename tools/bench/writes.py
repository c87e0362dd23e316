"""The rows about contents: what writing, reading, unpacking and removing files takes, over SFTP
against the peers and against OpenSSH's own client, over NFS alone.

Each figure is of a new mount. Writing ends when all of it is in the remote's file, which lies on
this machine and is looked at: so nobody gains by telling early.
"""

import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import tempfile
import time

import peers
from contenders import BenchError, Cookiefs, median, ratios, run
from report import AT_LEAST, AT_MOST, Measure, each_contender, told
from servers import DelayProxy, Ganesha, Sshd

MIB = 1 << 20
RTT_MS = 10
BLOCK = 4096
ARRIVAL_SECONDS = 300
WORKS = ("write", "read", "again", "random", "rm")


def _size_below(top):
    return sum(path.lstat().st_size for path in pathlib.Path(top).rglob("*") if path.is_file())


def _await_bytes(top, size, name):
    """Until so many bytes are in the files of the remote."""
    end = time.monotonic() + ARRIVAL_SECONDS
    while (there := _size_below(top)) != size:
        if time.monotonic() > end:
            raise BenchError(f"{name}: {there:,} of {size:,} bytes have arrived after "
                             f"{ARRIVAL_SECONDS} s")
        time.sleep(0.01)


class Load:
    """What is written and read: one large file and an archive of so many small ones."""

    def __init__(self, bench, place, files):
        self.bench = bench
        self.place = pathlib.Path(place)
        self.big_size = bench.rounds(32, 256) * MIB
        self.files = files
        self.reads = bench.rounds(50, 500)
        self.block = random.Random(1).randbytes(MIB)
        self.archive = self.place / "archive.tar"
        self.remote = self.place / "remote"
        self.local = self.place / "local"  # the large file, for OpenSSH's client
        self.remote.mkdir()
        self._pack()
        self.small_size = 0
        self.put_tree()
        self.small_size = _size_below(self.remote / "tree")
        self.clear()

    def put_local(self):
        with open(self.local, "wb") as file:
            for _ in range(self.big_size // MIB):
                file.write(self.block)

    def _pack(self):
        top = self.place / "tree"
        for i in range(self.files):
            directory = top / f"d{i % 20:02}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"file-{i:06}").write_bytes(self.block[:500 + i * 37 % 8000])
        with tarfile.open(self.archive, "w") as archive:
            archive.add(top, "tree")
        shutil.rmtree(top)

    def put_tree(self):
        run(["tar", "-xf", str(self.archive), "-C", str(self.remote)])

    def clear(self):
        for path in self.remote.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_big(load, mounted):
    start = time.monotonic()
    with open(mounted.directory / "big", "wb", buffering=0) as file:
        for _ in range(load.big_size // MIB):
            view = memoryview(load.block)
            while view:
                view = view[file.write(view):]
        os.fsync(file.fileno())
    _await_bytes(load.remote, load.big_size, mounted.name)
    return time.monotonic() - start


def _read_big(load, mounted):
    start, size = time.monotonic(), 0
    with open(mounted.directory / "big", "rb", buffering=0) as file:
        while data := file.read(MIB):
            size += len(data)
    if size != load.big_size:
        raise BenchError(f"{mounted.name} gave {size:,} bytes instead of {load.big_size:,}")
    return time.monotonic() - start


def _read_random(load, mounted):
    """Seconds of one read."""
    picks = random.Random(2)
    fd = os.open(mounted.directory / "big", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        start = time.monotonic()
        for _ in range(load.reads):
            at = picks.randrange(load.big_size // BLOCK) * BLOCK
            expected = load.block[at % MIB:at % MIB + BLOCK]
            if os.pread(fd, BLOCK, at) != expected:
                raise BenchError(f"{mounted.name}: WRONG bytes at {at}")
        return (time.monotonic() - start) / load.reads
    finally:
        os.close(fd)


def _unpack(load, client, progress):
    """Seconds, at a new mount."""
    load.clear()
    with client.mount() as mounted:
        progress(f"{client.name}: tar")
        start = time.monotonic()
        run(["tar", "-xf", str(load.archive), "-C", str(mounted.directory)])
        _await_bytes(load.remote, load.small_size, mounted.name)
        return time.monotonic() - start


def _remove(load, mounted):
    """Seconds, and requests a file where they are counted."""
    ours = hasattr(mounted, "figure")
    before = mounted.figure("remote.requests") if ours else 0
    start = time.monotonic()
    run(["rm", "-r", str(mounted.directory / "tree")])
    took = time.monotonic() - start
    if (load.remote / "tree").exists():
        raise BenchError(f"{mounted.name}: the tree is still there")
    return took, (mounted.figure("remote.requests") - before) / load.files if ours else 0


def _round(load, client, progress):
    """{work: seconds} of one contender, each at a new mount; 'asked': requests a removed file."""
    one = {}

    def at_new_mount(works):
        with client.mount() as mounted:
            for name, work in works.items():
                progress(f"{client.name}: {name}")
                one[name] = work(load, mounted)

    load.clear()
    at_new_mount({"write": _write_big})
    at_new_mount({"read": _read_big, "again": _read_big})
    at_new_mount({"random": _read_random})
    load.clear()
    load.put_tree()
    at_new_mount({"rm": _remove})
    one["rm"], one["asked"] = one["rm"]
    return one


def _openssh(load, sshd, port, progress):
    """{"write": s, "read": s} of sftp(1): what the way to the server carries."""
    progress("sftp(1)")
    load.clear()
    options = [word for key, value in sshd.options().items() for word in ("-o", f"{key}={value}")]
    back = load.place / "back"
    batch = (f"!date +%s.%N\nput -f {load.local} {load.remote}/big\n!date +%s.%N\n"
             f"get {load.remote}/big {back}\n!date +%s.%N\n")
    done = subprocess.run(["sftp", "-q", "-F", "none", "-P", str(port), *options, "-b", "-",
                           "127.0.0.1"], input=batch, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    times = [float(line) for line in done.stdout.splitlines()
             if line.replace(".", "", 1).isdigit()]
    if done.returncode != 0 or len(times) != 3:
        raise BenchError(f"sftp(1) ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    back.unlink()
    return {"write": times[1] - times[0], "read": times[2] - times[1]}


LABELS = {"write": "write and fsync", "read": "sequential read", "again": "read again",
          "random": "a random 4 KiB read", "rm": "rm -r"}


def _best_of_peers(seconds):
    """Of {contender: seconds of each round} those of the fastest peer; nothing without peers."""
    return [min(same) for same in zip(*(times for name, times in seconds.items()
                                        if not name.startswith("cookiefs")))]


def _against_peers(load, results):
    for work in WORKS:
        label = LABELS[work] + (f" of {load.files:,} files" if work == "rm" else "")
        seconds = {name: [one[work] for one in rounds] for name, rounds in results.items()}
        best = _best_of_peers(seconds)
        yield Measure("write", f"{label}: times as fast as the best peer", "",
                      ratios(best, seconds["cookiefs"]) if best else [], AT_LEAST, 1,
                      note=told(seconds), problem="" if best else "no peer is installed")
        yield from each_contender("write", label, seconds, f"write: {label}, {RTT_MS} ms away")


def _alone(load, name, rounds):
    """What has a target of its own, or is measured over NFS."""
    for work in ("write", "read"):
        yield Measure("write", f"{name}: {LABELS[work]}", "MB/s",
                      [load.big_size / 1e6 / one[work] for one in rounds])
    yield Measure("write", f"{name}: requests of rm -r, a file", "",
                  [one["asked"] for one in rounds], AT_MOST, 4, by_worst=True,
                  note=f"{load.files:,} files")


def _over_sftp(bench, load, progress):
    with Sshd(bench) as sshd, DelayProxy(bench, sshd.port, RTT_MS) as proxy:
        clients = list(peers.sftp_clients(bench, sshd, proxy.port, load.remote, writable=True))
        floors, results = [], {client.name: [] for client in clients}
        for i in range(bench.rounds(1, 3)):
            floors.append(_openssh(load, sshd, proxy.port, progress))
            for client in clients[i % len(clients):] + clients[:i % len(clients)]:
                results[client.name].append(_round(load, client, progress))
    for work in ("write", "read"):
        yield Measure("write", f"{LABELS[work]} / sftp(1)'s speed", "",
                      ratios([one[work] for one in floors],
                             [one[work] for one in results["cookiefs"]]), AT_LEAST, 0.8,
                      note=f"sftp(1): {load.big_size / 1e6 / median([f[work] for f in floors]):.0f}"
                           " MB/s")
    yield from _against_peers(load, results)
    yield from _alone(load, "SFTP", results["cookiefs"])


def _over_nfs(bench, load, progress):
    with Ganesha(bench, load.remote) as server, DelayProxy(bench, server.port, RTT_MS) as proxy:
        client = peers.Client("cookiefs", lambda: Cookiefs(bench, server.url(proxy.port)))
        rounds = [_round(load, client, progress) for _ in range(bench.rounds(1, 3))]
    yield from _alone(load, "NFS", rounds)
    for work in ("again", "random", "rm"):
        yield Measure("write", f"NFS: {LABELS[work]}", "s", [one[work] for one in rounds])


@contextlib.contextmanager
def _loaded(bench, files):
    # On tmpfs: what disks are worth is not asked here.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else bench.work
    with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir=place) as top:
        os.chmod(top, 0o755)
        yield Load(bench, top, files)


def write(bench, progress):
    """Files written, read and removed at 10 ms, over SFTP with peers, and over NFS"""
    for program, why in peers.missing(("sshfs", "rclone")):
        yield Measure("write", program, problem=why)
    with _loaded(bench, bench.rounds(100, 500)) as load:
        load.put_local()
        yield from _over_sftp(bench, load, progress)
        yield from _over_nfs(bench, load, progress)


def remove(bench, progress):
    """A directory of 100,000 files (--quick: 2,000) removed at no distance, simulated: requests"""
    files = bench.rounds(2_000, 100_000)
    asked, seconds = [], []
    for i in range(bench.rounds(2, 3)):
        progress(f"{files:,} files, round {i + 1}")
        with Cookiefs(bench, f"sim:big={files},name_len=24", directory="big") as mount:
            before = mount.figure("remote.requests")
            start = time.monotonic()
            run(["rm", "-r", str(mount.directory)])
            seconds.append(time.monotonic() - start)
            asked.append((mount.figure("remote.requests") - before) / files)
    yield Measure("remove", f"requests a removed file of {files:,}", "", asked, AT_MOST, 2,
                  by_worst=True, note="one removes it; others ask for what rm wants to know of it")
    yield Measure("remove", f"rm -r of {files:,} files", "s", seconds)


def _unpacked_over_sftp(bench, load, progress):
    """{contender: [seconds]}"""
    with Sshd(bench) as sshd, DelayProxy(bench, sshd.port, RTT_MS) as proxy:
        clients = list(peers.sftp_clients(bench, sshd, proxy.port, load.remote, writable=True))
        clients.append(peers.Client("cookiefs, close=nowait", lambda: peers.cookiefs_over_sftp(
            bench, sshd, proxy.port, load.remote, "close=nowait")))
        return {client.name: [_unpack(load, client, progress)] for client in clients}


def unpack(bench, progress):
    """An archive of 10,000 small files (--quick: 50) unpacked at 10 ms over SFTP"""
    for program, why in peers.missing(("sshfs", "rclone")):
        yield Measure("unpack", program, problem=why)
    with _loaded(bench, bench.rounds(50, 10_000)) as load:
        seconds = _unpacked_over_sftp(bench, load, progress)
        # Like with like: what sshfs has told to be closed is on the server, with rclone it is not yet.
        for ours, peer, wanted in (("cookiefs", "sshfs", (AT_LEAST, 2)),
                                   ("cookiefs, close=nowait", "rclone", (AT_LEAST, 2)),
                                   ("cookiefs", "rclone", ())):
            there = peer in seconds
            yield Measure("unpack", f"tar -x, {ours}: times as fast as {peer}", "",
                          ratios(seconds[peer], seconds[ours]) if there else [], *wanted,
                          problem="" if there else "not installed",
                          note=told({name: seconds[name] for name in (ours, peer) if there}))
        label = f"tar -x of {load.files:,} files"
        yield from each_contender("unpack", label, seconds, f"unpack: {label}, {RTT_MS} ms away")
