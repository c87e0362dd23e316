"""The rows of the benchmark: each is a function of a Bench that yields Measures.

Sizes are those that the targets name; --quick takes fewer rounds, and smaller directories only
where no target depends on the size.
"""

import contextlib
import json
import math
import os
import random
import re
import subprocess
import tempfile
import threading
import time

import peers
from contenders import (BenchError, Cookiefs, DirectoryHandle, MemoryCgroup, alternate,
                        installed, median, ratios, run)
from kernel import kernel
from report import AT_LEAST, AT_MOST, Measure, each_contender, told
from servers import DelayProxy, Ganesha, Sshd
from work import MILLION, local, million, work
from writes import remove, unpack, write

MIB = 1 << 20
BUFFERS = {"32 KiB": 32 << 10, "1 MiB": MIB}
NO_PLUS = "readdirplus=no"


def big(entries, **options):
    """A simulated remote with `entries` names of 24 bytes in `big`."""
    keys = {"big": entries, "name_len": 24, "rtt": 0, **options}
    return "sim:" + ",".join(f"{key}={value}" for key, value in keys.items())


# -------------------------------------------------------------------------------- warm ----------

class _Warm:
    """A contender of the warm row: a mount that holds the whole listing."""

    def __init__(self, bench, mount):
        self.bench, self.mount, self.name = bench, mount, mount.name
        bench.once(mount.directory)  # fills the cache

    def listing(self, buffer):
        before = self.mount.cpu_seconds()
        one = self.bench.once(self.mount.directory, "--buffer", buffer)
        if one["entries"] != MILLION:
            raise BenchError(f"{self.name} gave {one['entries']} entries instead of {MILLION}")
        return {"rate": MILLION / one["seconds"], "cpu": self.mount.cpu_seconds() - before,
                "calls": one["calls"]}


def _warm_with(bench, contenders, label, buffer, progress):
    reference, plain, usual = contenders
    reads = {c: c.mount.figure("readdir.calls") for c in (plain, usual)}
    asked = plain.mount.figure("remote.requests")
    results = alternate(contenders, bench.rounds(3, 21), lambda c: c.listing(buffer), progress)
    rates = {c: [one["rate"] for one in results[c]] for c in contenders}
    listed = MILLION * len(results[plain])
    calls = plain.mount.figure("readdir.calls") - reads[plain]
    asked = plain.mount.figure("remote.requests") - asked
    yield Measure("warm", f"cookiefs / reference server, {label} buffers", "",
                  ratios(rates[plain], rates[reference]), AT_LEAST, 0.85,
                  note=f"{listed / calls:,.0f} entries a READDIR, "
                       f"{asked / len(results[plain]):.1f} remote requests a listing")
    yield Measure("warm", f"the same with readdirplus=auto, {label} buffers", "",
                  ratios(rates[usual], rates[reference]))
    for contender in contenders:
        yield Measure("warm", f"{contender.name}, {label} buffers", "entries/s", rates[contender],
                      group="Warm listing of a million names")
    for contender in (reference, plain):
        # Clock ticks are coarse: the mean of all rounds in one figure.
        seconds = sum(one["cpu"] for one in results[contender]) / len(results[contender])
        yield Measure("warm", f"CPU of {contender.name} per million entries, {label} buffers", "s",
                      [seconds])


def _readdir_buffer(directory):
    """How much readdir(3) of glibc asks for at a time."""
    return min(max(os.stat(directory).st_blksize, 32 << 10), MIB)


def _warm_plus(bench, progress):
    """READDIRPLUS: a first listing links every entry, later ones what the kernel has not."""
    kibs = BUFFERS["32 KiB"]
    firsts = {}
    rounds = bench.rounds(2, 5)
    entries = 200_000
    for i in range(rounds):
        progress(f"first listings, round {i + 1} of {rounds}")
        for mount in (bench.reference(entries, "--plus"),
                      Cookiefs(bench, big(entries), "readdirplus=yes,ttl=1h", "cookiefs", "big")):
            with mount:
                one = bench.once(mount.directory, "--buffer", kibs)
            firsts.setdefault(mount.name, []).append(entries / one["seconds"])
    reference, plus = firsts.values()
    yield Measure("warm", "READDIRPLUS / reference server's: the first, of 200,000", "",
                  ratios(plus, reference),
                  note=f"{median(plus):,.0f} entries/s, each linked; ours asks the remote too")
    with bench.reference(MILLION, "--plus") as reference, \
            Cookiefs(bench, big(MILLION), "readdirplus=yes,cache_size=512M,ttl=1h", "READDIRPLUS",
                     "big") as plus:
        contenders = [_Warm(bench, mount) for mount in (reference, plus)]
        linked = plus.figure("inodes.linked")
        results = alternate(contenders, bench.rounds(3, 9),
                            lambda c: c.listing(kibs)["rate"], progress)
        linked = plus.figure("inodes.linked") - linked
    ours, theirs = results[contenders[1]], results[contenders[0]]
    yield Measure("warm", "READDIRPLUS / reference server's: those that follow, of 1 M", "",
                  ratios(ours, theirs), AT_LEAST, 0.9,
                  note=f"{median(ours):,.0f} entries/s; {linked / len(ours):,.0f} linked again")


def warm(bench, progress):
    """Warm READDIR of 1 M entries, against ready-made replies by the same loop"""
    with bench.reference(MILLION) as reference, \
            Cookiefs(bench, big(MILLION), NO_PLUS, "cookiefs", "big") as plain, \
            Cookiefs(bench, big(MILLION), "", "cookiefs, readdirplus=auto", "big") as usual:
        contenders = [_Warm(bench, mount) for mount in (reference, plain, usual)]
        for label, buffer in BUFFERS.items():
            yield from _warm_with(bench, contenders, label, buffer, progress)
        buffer = _readdir_buffer(usual.directory)
        times = [MILLION / contenders[-1].listing(buffer)["rate"]
                 for _ in range(bench.rounds(5, 21))]
        yield Measure("warm", "a million names, asked for as readdir(3) does", "s", times, AT_MOST,
                      0.15, note=f"buffers of {buffer >> 10} KiB")
    yield from _warm_plus(bench, progress)


# ------------------------------------------------------------------------------ memory ----------

def memory(bench, progress):
    """Memory per cached entry with 24-byte names, without attributes; and outside the bound"""
    progress("a million entries")
    with Cookiefs(bench, big(MILLION), NO_PLUS, directory="big") as mount:
        empty = mount.figure("cache.bytes")
        bench.once(mount.directory)
        stats = mount.stats()
        held, entries = stats["cache"]["bytes"], stats["entries"]["resident"]
        note = f"{entries:,} entries resident; names {stats['names']['bytes'] / entries:.1f} bytes"
        yield Measure("memory", "an entry, beyond the empty cache", "bytes",
                      [(held - empty) / entries], note=note)
        yield Measure("memory", "an entry, everything counted", "bytes", [held / entries], AT_MOST,
                      52, note=f"an empty cache of 256 MiB holds {empty / MIB:.1f} MiB")
        with Cookiefs(bench, big(MILLION), "readdirplus=yes", directory="big") as plus:
            empty = plus.figure("cache.bytes")
            bench.once(plus.directory)
            yield Measure("memory", "an entry with attributes, beyond the empty cache", "bytes",
                          [(plus.figure("cache.bytes") - empty) / entries], AT_MOST, 120)
        yield Measure("memory", "an entry, resident memory of the daemon", "bytes",
                      [mount.memory_bytes("VmRSS") / entries])
    limit = 64
    progress(f"10 million entries through {limit} MiB")
    with Cookiefs(bench, big(10 * MILLION), f"cache_size={limit}M,{NO_PLUS}",
                  directory="big") as mount:
        bench.once(mount.directory)
        peak = mount.memory_bytes("VmHWM") / MIB
        yield Measure("memory", "resident beyond cache_size=64M, 10 M entries listed", "MiB",
                      [peak - limit], AT_MOST, 24,
                      note=f"most that was resident: {peak:.1f} MiB; "
                           f"the cache's peak: {mount.figure('cache.peak_bytes') / MIB:.1f} MiB")


# -------------------------------------------------------------------------------- cold ----------

def cold(bench, progress):
    """First name and whole listing of 1 M entries, each at a new mount, rtt=10ms,batch=10000"""
    rtt, batch = 0.010, 10_000
    firsts, opened, shares, floors, asked = [], [], [], [], []
    rounds = bench.rounds(3, 9)
    for i in range(rounds):
        progress(f"mount {i + 1} of {rounds}")
        with Cookiefs(bench, big(MILLION, rtt="10ms", batch=batch), "", directory="big") as mount:
            before = mount.figure("remote.requests")
            one = bench.once(mount.directory, "--check", MILLION)
            requests = mount.figure("remote.requests") - before
        if one["duplicates"] or one["missing"] or one["unexpected"]:
            raise BenchError(f"the listing was wrong: {one}")
        firsts.append(one["first_name_seconds"] / rtt)
        opened.append((one["first_name_seconds"] - one["opened_seconds"]) / rtt)
        shares.append(one["seconds"] / (requests * rtt))
        floors.append(one["seconds"] / (math.ceil(MILLION / batch) * rtt))
        asked.append(requests)
    yield Measure("cold", "first name after the call of open", "round trips", firsts, AT_MOST, 3,
                  note="the path's lookup is one of them")
    yield Measure("cold", "first name after open returned", "round trips", opened)
    yield Measure("cold", "listing time / (requests x rtt)", "", shares, AT_MOST, 1.3)
    yield Measure("cold", "listing time / (fewest requests x rtt)", "", floors,
                  note=f"fewest: {math.ceil(MILLION / batch)} requests of {batch:,} entries")
    yield Measure("cold", "requests", "", asked)


# ----------------------------------------------------------------------------- squeeze ----------

def squeeze(bench, progress):
    """10 M entries through cache_size=64M, daemon and lister in a memory cgroup of 128 MiB"""
    entries, batch, passes = 10 * MILLION, 10_000, bench.rounds(2, 3)
    with MemoryCgroup(128 * MIB) as cgroup:
        source = big(entries, rtt="1ms", batch=batch)
        with Cookiefs(bench, source, f"cache_size=64M,{NO_PLUS}", directory="big",
                      cgroup=cgroup) as mount:
            requests, listings = [], []
            for i in range(passes):
                progress(f"listing {i + 1} of {passes}")
                before = mount.figure("remote.requests")
                listings.append(bench.once(mount.directory, "--check", entries, cgroup=cgroup))
                requests.append((mount.figure("remote.requests") - before) / (entries / batch))
            alive, resident = mount.alive, mount.memory_bytes("VmHWM") / MIB
            reclaimed, peak = mount.figure("reclaim.pages"), cgroup.peak_bytes()
        kills = cgroup.kills()
    wrong = [p["duplicates"] + p["missing"] + p["unexpected"] for p in listings]
    yield Measure("squeeze", "names missing, twice or unexpected", "", wrong, AT_MOST, 0,
                  by_worst=True)
    yield Measure("squeeze", "processes killed for want of memory", "",
                  [kills + (0 if alive else 1)], AT_MOST, 0, by_worst=True)
    yield Measure("squeeze", "requests / fewest possible, a listing", "", requests, AT_MOST, 2,
                  note="O(n): a small multiple that does not grow with the directory")
    yield Measure("squeeze", "seconds a listing", "s", [p["seconds"] for p in listings],
                  note=f"{reclaimed:,} pages reclaimed; the daemon's most resident "
                       f"{resident:.1f} MiB" + (f", the cgroup's {peak / MIB:.1f} MiB" if peak
                                                else ""))


# -------------------------------------------------------------------------------- seek ----------

# Long enough for what is read ahead to be asked for.
SETTLE_SECONDS = 0.2
# No time-to-live: how often attributes are asked for is another matter.
SEEK_OPTIONS = "ttl=1h," + NO_PLUS
STYLES = ("ordered", "hashed", "descending", "huge", "index", "name")


def _seek_rtt(bench):
    """Far longer than reading the counters takes: what was asked until the reply is known then."""
    return bench.rounds("20ms", "50ms")


def _remember(handle, entries, count):
    """Lists everything; `count` places (an offset and the name that follows it) all over it."""
    handle.seek(0)
    picks = random.Random(entries)
    wanted = sorted(picks.sample(range(entries // 100, entries), count))
    places, seen = [], 0
    while batch := handle.read(MIB):
        for at, (name, offset) in enumerate(batch):
            if places and places[-1][1] is None:
                places[-1][1] = name
            if wanted and seen + at >= wanted[0]:
                wanted.pop(0)
                places.append([offset, None])
        seen += len(batch)
    if seen != entries + 2:
        raise BenchError(f"WRONG: the listing gave {seen - 2} names instead of {entries}")
    if places and places[-1][1] is None:
        places.pop()
    picks.shuffle(places)
    return places


class _Seeks:
    """Seeks and what they asked of the remote: until the reply, and with what was read ahead."""

    def __init__(self, mount):
        self.mount, self.until_reply, self.in_all = mount, [], []

    def to(self, handle, offset, name):
        before = self.mount.figure("remote.requests")
        handle.seek(offset)
        got = handle.read(32 << 10)
        replied = self.mount.figure("remote.requests")
        if not got or got[0][0] != name:
            came = got[0][0].decode() if got else "the end"
            raise BenchError(f"WRONG: after a seek came {came}, not {name.decode()}")
        time.sleep(SETTLE_SECONDS)
        self.until_reply.append(replied - before)
        self.in_all.append(self.mount.figure("remote.requests") - before)


def _seek_after_drop(bench, style, entries, places):
    """Everything was evicted; the seek is made by the handle that remembered and by a new one."""
    source = big(entries, rtt=_seek_rtt(bench), cookies=style)
    with Cookiefs(bench, source, SEEK_OPTIONS, directory="big") as mount, \
            DirectoryHandle(mount.directory) as handle:
        seeks = _Seeks(mount)
        for offset, name in _remember(handle, entries, places):
            mount.drop()
            seeks.to(handle, offset, name)
            mount.drop()
            with DirectoryHandle(mount.directory) as other:
                seeks.to(other, offset, name)
        return seeks


def _seek_after_squeeze(bench, style, entries, places):
    """The cache is far too small: the arrays, and perhaps their anchors, were pushed out."""
    source = big(entries, rtt=_seek_rtt(bench), cookies=style)
    with Cookiefs(bench, source, "cache_size=1M," + SEEK_OPTIONS, directory="big") as mount, \
            DirectoryHandle(mount.directory) as handle:
        seeks = _Seeks(mount)
        for offset, name in _remember(handle, entries, places):
            seeks.to(handle, offset, name)
        return seeks


def seek(bench, progress):
    """Remote requests until the reply to a seek, to a remembered position that was evicted"""
    entries, places = bench.rounds(40_000, MILLION), bench.rounds(3, 12)
    for style in STYLES:
        ways = {"dropped": _seek_after_drop, "squeezed out": _seek_after_squeeze}
        for label, measure in ways.items():
            progress(f"cookies={style}, {label}")
            one = Measure("seek", f"cookies={style}, {label}", "requests", [], AT_MOST, 2,
                          by_worst=True)
            try:
                seeks = measure(bench, style, entries, places)
                one.samples = seeks.until_reply
                one.note = (f"the worst counts (median {median(one.samples):g}); with what was "
                            f"read ahead: median {median(seeks.in_all):g}, "
                            f"most {max(seeks.in_all)}")
            except BenchError as error:
                one.problem = str(error)
            yield one


# ------------------------------------------------------------------------------ refill ----------

def refill(bench, progress):
    """An evicted listing of 1 M names fetched again, against its first fetching, rtt=10ms"""
    first, again, asked = [], [], []
    for batch in (1000, 10_000):
        first.clear(), again.clear(), asked.clear()
        rounds = bench.rounds(1, 5)
        for i in range(rounds):
            progress(f"batch={batch}, mount {i + 1} of {rounds}")
            with Cookiefs(bench, big(MILLION, rtt="10ms", batch=batch), NO_PLUS,
                          directory="big") as mount:
                first.append(bench.once(mount.directory, "--check", MILLION)["seconds"])
                mount.drop()
                before = mount.figure("remote.requests")
                one = bench.once(mount.directory, "--check", MILLION)
                if one["duplicates"] or one["missing"] or one["unexpected"]:
                    raise BenchError(f"the listing was wrong: {one}")
                again.append(one["seconds"])
                asked.append(mount.figure("remote.requests") - before)
        # Chained answers of 10,000 are near the limit of one processor already.
        target = (AT_LEAST, 5) if batch == 1000 else ()
        yield Measure("refill", f"times faster than chained, batch={batch:,}", "",
                      ratios(first, again), *target,
                      note=f"{median(first):.2f} s chained, {median(again):.2f} s from anchors, "
                           f"{median(asked):,.0f} requests")


# ------------------------------------------------------------------------------ stalls ----------

@contextlib.contextmanager
def _listing_on(bench, directory):
    """A lister of that directory, again and again, until the block ends."""
    lister = subprocess.Popen([bench.program("bench_list"), str(directory), "--repeat", "1000000"],
                              stdout=subprocess.DEVNULL)
    try:
        yield
        if lister.poll() is not None:
            raise BenchError("the lister beside it has ended")
    finally:
        lister.kill()
        lister.wait()


def stalls(bench, progress):
    """Times of warm replies (32 KiB) with reclaim flat out beside them, and without"""
    # Beside the hot directory another is listed all the time: in one mount it is warm too, in the
    # other it never fits, so that every array that it takes must be reclaimed.
    source = f"{big(MILLION)},tree=1x100000"
    with Cookiefs(bench, source, f"cache_size=256M,{NO_PLUS}", "without reclaim") as roomy, \
            Cookiefs(bench, source, f"cache_size=24M,{NO_PLUS}", "with reclaim") as tight:
        def percentiles(mount):
            directory = mount.point / "tree" / _only_name(mount.point / "tree")
            for _ in range(3):
                bench.once(directory)
            with _listing_on(bench, mount.point / "big"):
                time.sleep(0.5)
                before = mount.figure("reclaim.pages")
                passes = bench.listing(directory, "--repeat", bench.rounds(30, 100))
                reclaimed = mount.figure("reclaim.pages") - before
            if (mount is tight) != (reclaimed > 1000):
                raise BenchError(f"{mount.name}: {reclaimed} pages were reclaimed")
            calls = {key: median([one["call_us"][key] for one in passes])
                     for key in ("p50", "p99", "p999")}
            return calls

        bench.once(roomy.point / "big")
        results = alternate([roomy, tight], bench.rounds(3, 9), percentiles, progress)
    for key, label in (("p50", "median"), ("p99", "99 %"), ("p999", "99.9 %")):
        of, to = ([one[key] for one in results[mount]] for mount in (tight, roomy))
        target = (AT_MOST, 3) if key == "p999" else ()
        yield Measure("stalls", f"{label}, with reclaim / without", "", ratios(of, to), *target,
                      note=f"{median(of):,.0f} us and {median(to):,.0f} us")


def _only_name(directory):
    return os.listdir(directory)[0]


# ---------------------------------------------------------------------------- pressure ----------

TAKE_MEMORY = """
import mmap, sys, time
usage, most = sys.argv[1], int(sys.argv[2])
memory = mmap.mmap(-1, most, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
step = bytes(1 << 20)
sys.stdin.readline()
while True:
    with open(usage) as file:
        full = int(file.read()) >= most
    if full or memory.tell() + len(step) > most:
        time.sleep(0.002)
    else:
        memory.write(step)
"""


@contextlib.contextmanager
def _greedy_neighbour(cgroup, most):
    """Takes, from now to the end of the block, whatever is left of so many bytes of the cgroup."""
    with subprocess.Popen(["python3", "-c", TAKE_MEMORY, str(cgroup.usage_file()), str(most)],
                          stdin=subprocess.PIPE, text=True, preexec_fn=cgroup.enter) as process:
        try:
            process.stdin.write("go\n")
            process.stdin.flush()
            yield
            if process.poll() is not None:
                raise BenchError("the neighbour was killed for want of memory")
        finally:
            process.kill()


def _await(condition, what):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{what} not within 30 s")
        time.sleep(0.002)


@contextlib.contextmanager
def _falling_limit(cgroup, least):
    """Lowers the cgroup's limit to what is used and 4 MiB, again and again, down to `least`."""
    stop = threading.Event()

    def lower():
        while cgroup.limit_bytes() > least and not stop.wait(0.005):
            wanted = max(least, cgroup.usage_bytes() + 4 * MIB)
            if wanted < cgroup.limit_bytes():
                cgroup.try_limit(wanted)

    thread = threading.Thread(target=lower)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def pressure(bench, progress):
    """A full cache of 1 GiB gives way, in a memory cgroup of 2 GiB, down to cache_min=32M"""
    entries, group, enough = 20 * MILLION, 2048 * MIB, (32 + 24) * MIB
    pressed = {
        "while the cgroup's limit is lowered to what is used": (
            lambda cgroup: _falling_limit(cgroup, 48 * MIB), lambda _: True, (AT_MOST, 1)),
        "while a neighbour takes what it can": (
            lambda cgroup: _greedy_neighbour(cgroup, group - 40 * MIB),
            lambda cgroup: cgroup.usage_bytes() > group * 9 // 10, ())}
    for label, (press, begun, target) in pressed.items():
        times, before, after = [], [], []
        for i in range(bench.rounds(1, 3)):
            progress(f"filling a cache of 1 GiB, {label}, round {i + 1}")
            with MemoryCgroup(group) as cgroup, \
                    Cookiefs(bench, big(entries), f"cache_size=1G,cache_min=32M,{NO_PLUS}",
                             directory="big", cgroup=cgroup) as mount:
                bench.once(mount.directory)
                before.append(mount.memory_bytes("VmRSS") / MIB)
                with press(cgroup):
                    _await(lambda: begun(cgroup), "pressure")
                    start = time.monotonic()
                    _await(lambda: mount.memory_bytes("VmRSS") <= enough, "memory given up")
                    times.append(time.monotonic() - start)
                    time.sleep(1)
                    after.append(mount.memory_bytes("VmRSS") / MIB)
        yield Measure("pressure", f"to 56 MiB resident, {label}", "s", times, *target,
                      note=f"from {median(before):,.0f} MiB; a second later "
                      f"{median(after):.1f} MiB are left")


# ----------------------------------------------------------------------------- scaling ----------

def scaling(bench, progress):
    """Warm listings by 1 to 64 readers (--quick: 2 and 16), each of a directory of its own"""
    numbers = bench.rounds([2, 16], [1, 2, 4, 16, 64])
    with Cookiefs(bench, f"sim:tree={numbers[-1]}x10000,name_len=24", NO_PLUS) as mount:
        tree = mount.point / "tree"
        directories = [tree / name for name in sorted(os.listdir(tree))]

        def rate(readers):
            passes = bench.listing(directories[0], *directories[1:readers], "--threads", readers,
                                   "--repeat", 640 // readers)
            return sum(p["entries"] for p in passes) / sum(p["seconds"] for p in passes)

        rate(numbers[-1])  # fills the cache
        rates = alternate(numbers, bench.rounds(5, 15), rate, progress)
    yield Measure("scaling", "16 readers / 2 readers, entries/s of all", "",
                  ratios(rates[16], rates[2]), AT_LEAST, 0.95,
                  note=f"{median(rates[2]):,.0f} entries/s by 2 readers")
    for readers in numbers:
        yield Measure("scaling", f"{readers} readers", "entries/s", rates[readers],
                      group="Warm listings by readers of directories of their own")


# ----------------------------------------------------------------------------- unmount ----------

def unmount(bench, progress):
    """From umount to the end of the daemon, with a full cache"""
    for entries, size in ((MILLION, "256M"), (10 * MILLION, "1G")):
        took, pages, left = [], 0, 0
        rounds = bench.rounds(2, 5)
        for i in range(rounds):
            progress(f"{entries:,} entries, round {i + 1} of {rounds}")
            mount = Cookiefs(bench, big(entries), f"cache_size={size},{NO_PLUS}", directory="big")
            with mount:
                bench.once(mount.directory)
                pages = mount.figure("pages.resident")
                took.append(mount.unmount())
            left += mount.left_behind()
        yield Measure("unmount", f"{entries:,} entries cached", "s", took,
                      note=f"{pages:,} pages; left behind: {left}")


# ----------------------------------------------------------------------------- compare ----------

def _warm_rates(bench, contenders, count, progress):
    """Entries/s of every contender that gave every entry, round by round."""
    for contender in contenders:
        bench.once(contender.directory)

    def rate(contender):
        one = bench.once(contender.directory)
        if one["entries"] != count:
            raise BenchError(f"{contender.name} gave {one['entries']} entries, not {count}")
        return count / one["seconds"]

    return alternate(contenders, bench.rounds(5, 15), rate, progress)


def _compare_on(bench, kind, directory, count, progress):
    native = peers.Native("the kernel itself", directory)
    with contextlib.ExitStack() as stack:
        contenders = [native]
        for client in peers.local_clients(bench, directory):
            try:
                contenders.append(stack.enter_context(client.mount()))
            except BenchError as error:
                yield Measure("compare", f"{client.name} on {kind}", problem=str(error))
        results = _warm_rates(bench, contenders, count, progress)
    for contender in contenders:
        share = median(ratios(results[contender], results[native]))
        yield Measure("compare", f"{contender.name} on {kind}", "entries/s", results[contender],
                      note="" if contender is native else f"{share:.2f} of the kernel's own",
                      group=f"Warm listing of {count:,} local names ({kind})")


def compare(bench, progress):
    """What a user would take instead: warm listings of 100,000 names on this machine, by 32 KiB"""
    count = 100_000
    places = {"tmpfs": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None, "disk": bench.work}
    for kind, place in places.items():
        if place is None:
            yield Measure("compare", f"the kernel itself on {kind}", problem="no writable /dev/shm")
            continue
        progress(f"making {count:,} files on {kind}")
        with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir=place) as directory:
            peers.make_files(directory, count)
            yield from _compare_on(bench, kind, directory, count, progress)
    for peer, why in peers.missing(("bindfs", "mergerfs")):
        yield Measure("compare", peer, problem=why)


# -------------------------------------------------------------------------------- sftp ----------

def _floor(bench, sshd, port, directory, depth):
    text = run([bench.program("bench_sftp_floor"), "--depth", str(depth), str(directory)] +
               [str(word) for word in sshd.ssh(port)])
    return json.loads(text)


def _sftp_round(bench, client, count):
    """A cold and five warm listings at a new mount."""
    with client.mount() as mounted:
        cold = bench.once(mounted.directory, "--buffer", "32K", "--check", count)
        if cold["duplicates"] or cold["missing"] or cold["unexpected"]:
            raise BenchError(f"{client.name}: the listing was wrong: {cold}")
        warm = [one["seconds"] for one in bench.listing(mounted.directory, "--repeat", 5)]
        return {"cold": cold["seconds"], "warm": median(warm),
                "first": cold["first_name_seconds"] - cold["opened_seconds"],
                "bytes": mounted.memory_bytes("VmRSS") / count}


def _sftp_peer(ours, name, theirs, rtt_ms):
    """How many times as fast as that peer. sshfs has targets of its own."""
    def faster(key):
        return ratios([one[key] for one in theirs], [one[key] for one in ours])

    first = median([one["first"] for one in theirs]) * 1000
    cold_target = (1.5 if rtt_ms == 10 else 6) if name == "sshfs" else 1
    yield Measure("sftp", f"times faster than {name} at {rtt_ms} ms, cold", "", faster("cold"),
                  AT_LEAST, cold_target,
                  note=f"{name}: {median([one['cold'] for one in theirs]):.2f} s")
    yield Measure("sftp", f"times faster than {name}, first name at {rtt_ms} ms", "",
                  faster("first"), AT_LEAST, 20,
                  note=f"{name}'s after {first / rtt_ms:.0f} round trips")
    yield Measure("sftp", f"times faster than {name}, warm, mounted at {rtt_ms} ms", "",
                  faster("warm"), AT_LEAST, 5)
    if rtt_ms == 10:
        of, to = ([one["bytes"] for one in rounds] for rounds in (ours, theirs))
        yield Measure("sftp", f"resident memory an entry / that of {name}", "", ratios(of, to),
                      note=f"whole daemons: {median(of):.0f} and {median(to):.0f} bytes an entry")


def _sftp_at(bench, sshd, directory, count, rtt_ms, depth, progress):
    with DelayProxy(bench, sshd.port, rtt_ms) as proxy:
        clients = [client for client in peers.sftp_clients(bench, sshd, proxy.port, directory)
                   if client.name != "rclone" or rtt_ms == 10]  # it takes minutes at 100 ms
        floors, results = [], {client.name: [] for client in clients}
        for i in range(bench.rounds(2, 7)):
            progress(f"{rtt_ms} ms, round {i + 1}")
            floors.append(_floor(bench, sshd, proxy.port, directory, depth)["last_ms"] / 1000)
            for client in clients:
                results[client.name].append(_sftp_round(bench, client, count))
    ours = results.pop("cookiefs")
    cold = [one["cold"] for one in ours]
    yield Measure("sftp", f"cold listing at {rtt_ms} ms / raw pipelined client's", "",
                  ratios(cold, floors), *((AT_MOST, 1.15) if rtt_ms == 10 else ()),
                  note=f"{median(cold):.2f} s and {median(floors):.2f} s")
    yield Measure("sftp", f"first name after opendir at {rtt_ms} ms", "round trips",
                  [one["first"] * 1000 / rtt_ms for one in ours], AT_MOST, 4)
    for name, theirs in results.items():
        yield from _sftp_peer(ours, name, theirs, rtt_ms)
    every = {"cookiefs": ours, **results}
    for key, label in (("cold", "cold"), ("first", "first name"), ("warm", "warm, mounted")):
        seconds = {name: [one[key] for one in rounds] for name, rounds in every.items()}
        if key == "cold":
            seconds["raw client"] = floors
        yield from each_contender("sftp", f"{label} at {rtt_ms} ms", seconds,
                                  f"sftp: {label}, {count:,} names, {rtt_ms} ms away")


def sftp(bench, progress):
    """100,000 names (--quick: 40,000) over SFTP behind a delay proxy, each listing at a new mount"""
    count = bench.rounds(40_000, 100_000)
    with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir=bench.work) as directory, \
            Sshd(bench) as sshd:
        progress(f"making {count:,} files")
        peers.make_files(directory, count)
        for peer, why in peers.missing(("sshfs", "rclone")):
            yield Measure("sftp", peer, problem=why)
        for rtt_ms, depth in ((10, 64), (100, 512))[:bench.rounds(1, 2)]:
            yield from _sftp_at(bench, sshd, directory, count, rtt_ms, depth, progress)


# --------------------------------------------------------------------------------- nfs ----------

def _nfs_listings(bench, server, proxy, options, count):
    """Seconds of a cold listing at a new mount, and of the next one after everything is dropped."""
    with Cookiefs(bench, server.url(proxy.port), f"{options},cache_size=512M") as mount:
        one = bench.once(mount.directory, "--check", count)
        if one["duplicates"] or one["missing"] or one["unexpected"]:
            raise BenchError(f"the listing was wrong: {one}")
        mount.drop()
        return one["seconds"], bench.once(mount.directory)["seconds"]


def _nfs_cold(bench, server, proxy, count, progress):
    for label, options, floor, wanted in (
            ("names only", NO_PLUS, (), 350_000),
            ("with attributes", "readdirplus=yes", ("--plus",), 150_000)):
        rates, floors, again = [], [], []
        for i in range(bench.rounds(1, 5) + 1):
            progress(f"{label}, mount {i}")
            least = server.floor(proxy.port, *floor)["last_ms"] / 1000
            cold, refilled = _nfs_listings(bench, server, proxy, options, count)
            if i > 0:  # the server's own cache is warm then
                rates.append(count / cold)
                floors.append(cold / least)
                again.append(cold / refilled)
        yield Measure("nfs", f"cold listing, {label}", "entries/s", rates, AT_LEAST, wanted)
        yield Measure("nfs", f"cold listing, {label} / raw chained client's", "", floors,
                      note="READDIRPLUS also through the kernel" if floor else "")
        yield Measure("nfs", f"refill from anchors, {label}, times faster", "", again,
                      note="answers of 1 MiB: the server computes all the time either way")


def nfs(bench, progress):
    """A million names (--quick: 250,000) over NFS from nfs-ganesha behind a delay proxy of 10 ms"""
    count, few = bench.rounds(250_000, MILLION), bench.rounds(50_000, 200_000)
    with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir="/dev/shm") as directory:
        os.chmod(directory, 0o755)
        progress(f"making {count:,} files")
        peers.make_files(directory, count)
        with Ganesha(bench, directory) as server, DelayProxy(bench, server.port, 10) as proxy:
            yield from _nfs_cold(bench, server, proxy, count, progress)
    with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir="/dev/shm") as directory:
        os.chmod(directory, 0o755)
        peers.make_files(directory, few)
        with Ganesha(bench, directory, 1000) as server, DelayProxy(bench, server.port, 10) as proxy:
            again = []
            for i in range(bench.rounds(1, 5) + 1):
                progress(f"answers of 1,000 entries, mount {i}")
                cold, refilled = _nfs_listings(bench, server, proxy, NO_PLUS, few)
                if i > 0:
                    again.append(cold / refilled)
            yield Measure("nfs", "refill from anchors, 1,000 entries an answer, times faster", "",
                          again, AT_LEAST, 5, note=f"{few:,} names only")


# -------------------------------------------------------------------------------- walk ----------

WALKERS = 8
WALKS = {
    "find": lambda directories: ["find", *directories, "-type", "f"],
    "ls -lR": lambda directories: ["ls", "-lR", *directories],
}


def _walk(bench, command, directories, files):
    """Seconds of a walk by so many programs side by side as there are groups of directories."""
    def begin(group):
        words = map(str, WALKS[command](group))
        return subprocess.Popen(["sh", "-c", '"$@" | grep -c file-', "sh", *words],
                                stdout=subprocess.PIPE, text=True)

    start = time.monotonic()
    walkers = [begin(group) for group in directories]
    found = sum(int(walker.communicate()[0] or 0) for walker in walkers)
    if found != files:
        raise BenchError(f"{command} showed {found} files instead of {files}")
    return time.monotonic() - start


def _walks_of(bench, mount, names, each):
    """Cold walks of a tree, each at a new mount: seconds, and requests where they are counted."""
    result = {}
    for command in WALKS:
        for walkers in (1, WALKERS):
            with mount() as mounted:
                tops = [mounted.directory / name for name in names]
                groups = [[mounted.directory]] if walkers == 1 else [
                    tops[i::walkers] for i in range(walkers)]
                ours = hasattr(mounted, "figure")
                before = mounted.figure("remote.requests") if ours else 0
                one = {"seconds": _walk(bench, command, groups, len(names) * each)}
                if ours:
                    one["asked"] = mounted.figure("remote.requests") - before
                    ahead = mounted.figure("walk_ahead")
                    # What nobody has come to by now: the daemon itself counts it 10 s later.
                    one["fetched"] = ahead["fetched"]
                    one["wasted"] = 1 - ahead["used"] / max(1, ahead["fetched"])
                result[command, walkers] = one
    return result


# Seconds of a cold find by one program, over 1,000 directories.
FIND_SECONDS = {"cookiefs over sim": 0.6, "cookiefs over SFTP": 1, "cookiefs over NFS": 1}


def _judge_walks(name, results, count):
    if count == 1000:
        yield Measure("walk", f"{name}: find, 1,000 directories", "s",
                      [one["find", 1]["seconds"] for one in results], AT_MOST, FIND_SECONDS[name])
    walks = [walk for one in results for walk in one.values() if walk["fetched"] > 0]
    yield Measure("walk", f"{name}: fetched ahead in vain", "",
                  [walk["wasted"] for walk in walks], AT_MOST, 0.05, by_worst=True,
                  note=f"of {median([walk['fetched'] for walk in walks]):,.0f} listings a walk"
                  if walks else "", problem="" if walks else "nothing was fetched ahead")


def _walk_rounds(bench, clients, names, each, rtt, progress):
    rounds = {name: [] for name in clients}
    for i in range(bench.rounds(1, 3)):
        for name, mount in clients.items():
            progress(f"{name}, round {i + 1}")
            rounds[name].append(_walks_of(bench, mount, names, each))
    for (command, walkers) in rounds[next(iter(clients))][0]:
        for name, results in rounds.items():
            times = [one[command, walkers]["seconds"] for one in results]
            asked = results[0][command, walkers].get("asked")
            notes = []
            if asked is not None:
                notes.append(f"{asked / len(names):.1f} requests a directory")
            if walkers > 1:
                alone = [one[command, 1]["seconds"] for one in results]
                notes.append(f"{median(ratios(alone, times)):.1f} times as fast as one")
            yield Measure("walk", f"{name}: {command}, {walkers} side by side", "round trips",
                          [seconds / rtt / len(names) for seconds in times],
                          note=", ".join([told({"in": times})] + notes))
        seconds = {name: [one[command, walkers]["seconds"] for one in results]
                   for name, results in rounds.items()}
        ours, *theirs = seconds
        for name in theirs:
            peer = name.split(" over ")[0]
            yield Measure("walk", f"{ours}: {command}, {walkers} side by side / {peer}", "",
                          ratios(seconds[ours], seconds[name]), AT_MOST, 1)
        yield from each_contender("walk", f"{command}, {walkers} side by side", seconds,
                                  f"walk: {len(names):,} directories of {each} files, "
                                  f"{rtt * 1000:g} ms away")
    for name, results in rounds.items():
        if name in FIND_SECONDS:
            yield from _judge_walks(name, results, len(names))


def walk(bench, progress):
    """A tree of directories of 50 files walked at 10 ms, each time at a new mount"""
    count, each, rtt_ms = bench.rounds(60, 1000), 50, 10
    names = [f"d{i:04}" for i in range(count)]
    with tempfile.TemporaryDirectory(prefix="cookiefs-bench-", dir="/dev/shm") as directory:
        os.chmod(directory, 0o755)
        for name in names:
            os.mkdir(f"{directory}/{name}")
            for i in range(each):
                open(f"{directory}/{name}/file-{i:03}", "wb").close()
        with Sshd(bench) as sshd, DelayProxy(bench, sshd.port, rtt_ms) as proxy:
            clients = {f"{client.name} over SFTP": client.mount
                       for client in peers.sftp_clients(bench, sshd, proxy.port, directory)
                       if client.name != "rclone"}  # row `work` has it, on a smaller tree
            for peer, why in peers.missing(("sshfs",)):
                yield Measure("walk", peer, problem=why)
            yield from _walk_rounds(bench, clients, names, each, rtt_ms / 1000, progress)
        with Ganesha(bench, directory) as server, DelayProxy(bench, server.port, rtt_ms) as proxy:
            clients = {"cookiefs over NFS": lambda: Cookiefs(bench, server.url(proxy.port))}
            yield from _walk_rounds(bench, clients, names, each, rtt_ms / 1000, progress)
    sim = f"sim:tree={count}x{each},rtt={rtt_ms}ms"
    clients = {"cookiefs over sim": lambda: Cookiefs(bench, sim, directory="tree")}
    with clients["cookiefs over sim"]() as mounted:
        names = os.listdir(mounted.directory)
    yield from _walk_rounds(bench, clients, names, each, rtt_ms / 1000, progress)


# --------------------------------------------------------------------------- callgrind ----------

def _instructions(bench, entries, passes):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               bench.program("bench_warm_read"), str(entries), str(passes)]
    # Callgrind tells its sum on standard error.
    text = run(["sh", "-c", 'exec "$@" 2>&1', "sh"] + command)
    found = re.search(r"Collected : (\d+)", text)
    if not found:
        raise BenchError("callgrind did not say what it collected")
    return int(found.group(1))


def callgrind(bench, progress):
    """Instructions of a warm READDIR in the process: cached directory to encoded reply"""
    if not bench.callgrind:
        raise BenchError("only with --callgrind")
    if not installed("valgrind"):
        raise BenchError("not installed (package valgrind)")
    entries, passes = bench.rounds(200_000, MILLION), 4
    progress("one pass")
    once = _instructions(bench, entries, 1)
    progress(f"{1 + passes} passes")
    more = _instructions(bench, entries, 1 + passes)
    yield Measure("callgrind", "an entry, 32 KiB replies", "instructions",
                  [(more - once) / (passes * entries)])


ROWS = {function.__name__: function
        for function in (warm, kernel, memory, cold, refill, squeeze, seek, stalls, pressure,
                         scaling, unmount, compare, sftp, nfs, walk, work, write, remove, unpack,
                         million, local, callgrind)}
