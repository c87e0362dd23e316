"""The rows in which cookiefs and its peers do the same work: what people run on such trees.

A round mounts anew and does the work cold, then warm, WARM times (those on a million files: once).
What a program prints is counted, so that no wrong answer is a fast one. A measure is cookiefs' time
against the best peer's of the same round: above 1 cookiefs was slower. The seconds of each
contender are measures, too, which the table has as that one's note.
"""

import contextlib
import os
import subprocess
import tempfile
import time

import peers
from contenders import BenchError, median, ratios
from report import AT_MOST, Measure, each_contender, told
from servers import DelayProxy, Sshd

PYTHON_WALK = """
import os, sys
print(sum(len(d) + len(f) for _, d, f in os.walk(sys.argv[1])))
"""
WARM = 5
MILLION = 1_000_000
# Contenders that cookiefs is compared with one by one, besides: when, and what is wanted.
ALONE = {peers.TUNED: (("warm",), (AT_MOST, 1)), "the kernel itself": (("cold", "warm"), ())}
# What is counted of the output: its lines, or the number that it is. `{}` is the tree.
COUNTED = 'set -o pipefail; "$@" | wc -l'
WORK = {
    "ls -fR": ["ls", "-fR", "{}"],
    "ls -lR": ["ls", "-lR", "{}"],
    "find": ["find", "{}", "-type", "f"],
    "find -newer": ["find", "{}", "-newer", "/etc/hostname"],
    "find -depth": ["find", "{}", "-depth"],  # the order of rm -r
    "du": ["du", "-a", "{}"],
    "rsync -n": ["rsync", "-ain", "{}/", "/nonexistent"],
    "tar": ["tar", "-cvf", "/dev/null", "{}"],  # tar knows /dev/null, and reads no contents
    "os.walk": ["python3", "-c", PYTHON_WALK, "{}"],
}


def do_work(name, directory):
    """(seconds, lines of output) of that work on that directory."""
    words = [word.replace("{}", str(directory)) for word in WORK[name]]
    start = time.monotonic()
    done = subprocess.run(["bash", "-c", COUNTED, "bash", *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise BenchError(f"{name} failed: {said[-1] if said else done.returncode}")
    return seconds, int(done.stdout)


class Tree:
    """Directories of empty files: `shape` is (directories, files each, how deep the chain is)."""

    def __init__(self, name, directories, files, chain=False):
        self.name, self._directories, self._files, self._chain = name, directories, files, chain

    def make(self, top):
        path = top
        for i in range(self._directories):
            path = f"{path if self._chain else top}/d{i:04}"
            os.mkdir(path)
            for j in range(self._files):
                os.close(os.open(f"{path}/file-{j:06}", os.O_CREAT | os.O_WRONLY, 0o644))


def _at_new_mount(client, work, lines, warm):
    """{"cold": [s], "warm": [s, ...], "cpu": s} of that work, cold and then again and again."""
    with client.mount() as mounted:
        times = []
        for _ in range(1 + warm):
            seconds, said = do_work(work, mounted.directory)
            if said != lines:
                raise BenchError(f"{client.name}: {work} gave {said} lines instead of {lines}")
            times.append(seconds)
        return {"cold": times[:1], "warm": times[1:], "cpu": mounted.cpu_seconds()}


def _judge(row, label, work, state, clients, results):
    """cookiefs against the others in that work, and the seconds of all."""
    rounds = {client.name: [median(one[state]) for one in results[client.name, work]]
              for client in clients}
    every = {client.name: [s for one in results[client.name, work] for s in one[state]]
             for client in clients}
    rivals = [rounds[client.name] for client in clients[1:] if not client.limit]
    best = [min(same) for same in zip(*rivals)]
    yield Measure(row, f"{label}: {work}, {state} / best peer", "",
                  ratios(rounds["cookiefs"], best), AT_MOST, 1, note=told(every),
                  problem="" if best else "no peer is installed")
    for name, (states, wanted) in ALONE.items():
        if name in rounds and state in states:
            yield Measure(row, f"{label}: {work}, {state} / {name}", "",
                          ratios(rounds["cookiefs"], rounds[name]), *wanted)
    yield from each_contender(row, f"{label}: {work}, {state}", every, f"{row}: {label}, {state}")


def _compare(row, label, clients, expected, rounds, progress, warm=WARM):
    """Measures of every work that is in `expected`, which tells the lines of its output."""
    results = {}
    for i in range(rounds):
        for work, lines in expected.items():
            for client in clients[i % len(clients):] + clients[:i % len(clients)]:
                progress(f"{label}: {work}, {client.name}, round {i + 1} of {rounds}")
                results.setdefault((client.name, work), []).append(
                    _at_new_mount(client, work, lines, warm))
    for work in expected:
        for state in ("cold", "warm"):
            yield from _judge(row, label, work, state, clients, results)
    for client in (client for client in clients if not client.limit):
        seconds = [sum(results[client.name, work][i]["cpu"] for work in expected)
                   for i in range(rounds)]
        yield Measure(row, f"{label}: CPU of {client.name}, all of the above", "s", seconds)


def _expected(directory, works=tuple(WORK)):
    """What each work says of the tree itself; it is in the page cache then."""
    return {work: do_work(work, directory)[1] for work in works}


@contextlib.contextmanager
def _made(bench, tree, place=None):
    with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir=place or bench.work) as top:
        os.chmod(top, 0o755)
        tree.make(top)
        yield top


def work(bench, progress):
    """What people run on a tree, over SFTP, at a new mount: cold, then warm, against the peers"""
    for program, why in peers.missing(("sshfs", "rclone")):
        yield Measure("work", program, problem=why)
    mixed, small, wide, deep = (Tree("mixed", bench.rounds(60, 200), 50), Tree("small", 40, 25),
                                Tree("wide", 1, bench.rounds(5_000, 100_000)),
                                Tree("deep", 50, 10, chain=True))
    few = ("ls -lR", "find", "rsync -n")
    plan = [(mixed, 0, few + ("tar",), 1), (small, 10, few, 1), (wide, 10, few, 1)]
    if not bench.quick:
        # The peers' walk of 200 directories takes minutes at 100 ms.
        plan = [(mixed, 0, WORK, 3), (mixed, 1, few, 2), (mixed, 10, WORK, 1), (small, 100, few, 1)]
        plan += [(tree, rtt_ms, few, 1) for tree in (wide, deep) for rtt_ms in (0, 1, 10, 100)]
    for tree, rtt_ms, works, rounds in plan:
        with _made(bench, tree) as top, Sshd(bench) as sshd, \
                DelayProxy(bench, sshd.port, rtt_ms) as proxy:
            clients = list(peers.sftp_clients(bench, sshd, proxy.port, top,
                                              tuned=tree is wide and not bench.quick))
            yield from _compare("work", f"{tree.name}, {rtt_ms} ms", clients,
                                _expected(top, works), rounds, progress)


def million(bench, progress):
    """A million files in one directory over SFTP, next door (--quick: 20,000), and the peers"""
    for program, why in peers.missing(("sshfs", "rclone")):
        yield Measure("million", program, problem=why)
    tree = Tree("a million", 1, bench.rounds(20_000, MILLION))
    with _made(bench, tree) as top, Sshd(bench) as sshd:
        clients = list(peers.sftp_clients(bench, sshd, sshd.port, top, tuned=not bench.quick))
        yield from _compare("million", f"{bench.rounds(20_000, MILLION):,} files", clients,
                            _expected(top, ("ls -fR", "ls -lR")), 1, progress, warm=1)


def local(bench, progress):
    """The same on a directory of this machine, against those that pass it through"""
    for program, why in peers.missing(("bindfs", "mergerfs")):
        yield Measure("local", program, problem=why)
    # bindfs takes 250 us for each file of ls -l: it is asked for two extended attributes a file.
    few = ("find", "find -newer", "rsync -n")
    often = (bench.rounds(1, 5), WARM)
    plan = [(Tree("mixed", bench.rounds(100, 1000), 50), few if bench.quick else WORK, often),
            (Tree("wide", 1, bench.rounds(5_000, 100_000)), few, often)]
    if not bench.quick:
        plan += [(Tree("deep", 50, 10, chain=True), WORK, often),
                 (Tree("a million", 1, MILLION), few, (1, 1))]  # minutes each
    for tree, works, (rounds, warm) in plan:
        with _made(bench, tree) as top:
            clients = [*peers.local_clients(bench, top), peers.local_limit(top)]
            yield from _compare("local", tree.name, clients, _expected(top, works), rounds,
                                progress, warm)
