"""The row about what the kernel itself keeps of a mount, both ways: kept, and asked for each time.

Simulated and without a delay: what is left is the way through FUSE, which is what keeping saves.
"""

import contextlib
import os
import time

from contenders import BenchError, Cookiefs, alternate, median, ratios
from report import AT_LEAST, AT_MOST, Measure, each_contender, told

NAMES = 1000


def _asked(mount, *kinds):
    """Requests of those kinds that the kernel has made."""
    latency = mount.stats()["request_latency"]
    return sum(latency[kind]["count"] for kind in kinds)


# ------------------------------------------------------------------------------ listings --------

def _list(bench, mount, entries):
    one = bench.once(mount.directory)
    if one["entries"] != entries:
        raise BenchError(f"{mount.name} gave {one['entries']} entries instead of {entries}")
    return one["seconds"]


def _listings(bench, progress):
    entries = bench.rounds(100_000, 1_000_000)
    options = "readdirplus=no,ttl=1h"
    source = f"sim:big={entries},name_len=24"
    with bench.reference(entries, "--keep") as reference, \
            Cookiefs(bench, source, options, "cookiefs", "big") as usual, \
            Cookiefs(bench, source, options + ",kernel_listings=yes", "kernel_listings=yes",
                     "big") as kept:
        mounts = (reference, usual, kept)
        progress("first listings")
        first = {mount.name: [_list(bench, mount, entries)] for mount in mounts}
        rounds = bench.rounds(7, 15)
        asked = {mount: _asked(mount, "readdir", "readdirplus") for mount in (usual, kept)}
        results = alternate(mounts, rounds, lambda mount: _list(bench, mount, entries), progress)
        asked = {mount: (_asked(mount, "readdir", "readdirplus") - before) / rounds
                 for mount, before in asked.items()}
    label = f"warm listing of {entries:,} names"
    yield Measure("kernel", "kept listing: speed / reference server's, kept too", "",
                  ratios(results[reference], results[kept]), AT_LEAST, 0.9,
                  note=f"{entries:,} names")
    yield Measure("kernel", "kept listing: times as fast as from cookiefs' cache", "",
                  ratios(results[usual], results[kept]),
                  note=told({mount.name: results[mount] for mount in mounts}))
    yield Measure("kernel", "the first listing, to be kept / not to be kept", "",
                  ratios(first[kept.name], first[usual.name]), note=told(first))
    yield Measure("kernel", "READDIRs a listing from cookiefs' cache", "", [asked[usual]])
    yield Measure("kernel", "READDIRs a kept listing", "", [asked[kept]], AT_MOST, 0)
    yield from each_contender("kernel", label, {mount.name: results[mount] for mount in mounts},
                              f"kernel: {label}")
    yield from each_contender("kernel", "first listing", first, f"kernel: first listing of "
                              f"{entries:,} names")


# ------------------------------------------------------------------------ names, attributes -----

def _stat_all(directory, names, there):
    """Seconds a name."""
    found = 0
    start = time.monotonic()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            found += 1
    took = time.monotonic() - start
    if found != (len(names) if there else 0):
        raise BenchError(f"WRONG: {found} of {len(names)} names were found")
    return took / len(names)


class _Stats:
    """A mount of that ttl, and what repeated stats of names take there: how long, and requests."""

    def __init__(self, mount, ttl):
        self.mount, self.name = mount, f"ttl={ttl}"
        self._directory = os.open(mount.directory, os.O_RDONLY | os.O_DIRECTORY)
        self._names = {True: sorted(os.listdir(mount.directory)),
                       False: [f"missing-{i:04}" for i in range(NAMES)]}

    def close(self):
        os.close(self._directory)

    def once(self, there):
        before = _asked(self.mount, "lookup", "getattr")
        remote = self.mount.figure("remote.requests")
        seconds = _stat_all(self._directory, self._names[there], there)
        return {"us": seconds * 1e6,
                "remote": (self.mount.figure("remote.requests") - remote) / NAMES,
                "fuse": (_asked(self.mount, "lookup", "getattr") - before) / NAMES}


def _stats(bench, progress):
    with contextlib.ExitStack() as stack:
        ways = []
        for ttl in ("0", "1h"):
            mount = stack.enter_context(Cookiefs(bench, f"sim:big={NAMES}", f"ttl={ttl}",
                                                 directory="big"))
            ways.append(_Stats(mount, ttl))
            stack.callback(ways[-1].close)
        never, kept = ways
        for there, label in ((True, "names"), (False, "missing names")):
            for way in ways:
                way.once(there)  # the kernel knows what it may then
            results = alternate(ways, bench.rounds(5, 15), lambda way: way.once(there), progress)
            times = {way.name: [one["us"] for one in results[way]] for way in ways}
            yield Measure("kernel", f"stat of {label} again: time with ttl=1h / ttl=0", "",
                          ratios(times[kept.name], times[never.name]),
                          note=told(times, "us"))
            for way in ways:
                target = (AT_MOST, 0) if way is kept else ()
                remote = median([one["remote"] for one in results[way]])
                yield Measure("kernel", f"requests a stat of {label} again, {way.name}", "",
                              [one["fuse"] for one in results[way]], *target,
                              by_worst=bool(target), note=f"{remote:g} to the remote")
            yield from each_contender("kernel", f"stat of {label}", times,
                                      f"kernel: stat of {NAMES:,} {label} again", "us")


def kernel(bench, progress):
    """What the kernel keeps itself: listings of 1 M (--quick: 100,000), names, attributes"""
    yield from _listings(bench, progress)
    yield from _stats(bench, progress)
