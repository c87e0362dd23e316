#!/usr/bin/env python3
"""Checks that includes run in the directions that the design allows.

    base <- mm <- {dir, data} <- fusefs <- main

dir and data don't know each other. Back ends know their interface, never FUSE, never one another.
FUSE's headers are included only where the session, the operations, replies, notifications and the
mount are. The cache knows no logging library and no protocol. Tools reach the daemon only through
the mount and fusefs/control.h.

Usage: tests/check_includes.py [ROOT] | --self-test
Prints one line for each wrong arrow. Exit status: 0 none, 1 some, 2 usage.
"""

import pathlib
import re
import sys
import tempfile

FOLDERS = ("cache", "fusefs", "tools")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# The first rule whose pattern fits a file says which files of the project it may include.
BASE = r"cache/base/"
STATS = r"cache/stats\.h"
RULES = [
    (r"cache/base/", [BASE]),
    (r"cache/stats\.", [BASE, STATS]),
    (r"cache/mm/", [BASE, STATS, r"cache/mm/"]),
    (r"cache/dir/", [BASE, STATS, r"cache/mm/", r"cache/dir/"]),
    (r"cache/data/", [BASE, STATS, r"cache/mm/", r"cache/data/"]),
    (r"cache/[^/]*$", [r"cache/"]),
    # The registry alone knows all back ends.
    (r"fusefs/backends/[^/]*$", [BASE, r"cache/(dir|data)/", r"fusefs/backends/", r"fusefs/units\.h"]),
    # {0}: the back end's own folder.
    (r"fusefs/backends/([^/]+)/",
     [BASE, r"cache/(dir|data)/(attr|source|file_source)\.h", r"fusefs/backends/[^/]*$",
      r"fusefs/backends/{0}/", r"fusefs/units\.h"]),
    (r"fusefs/main\.", [r"cache/", r"fusefs/"]),
    (r"fusefs/", [r"cache/", r"fusefs/(?!main\.|backends/)", r"fusefs/backends/[^/]*$"]),
    # Micro-benchmarks measure the parts themselves.
    (r"tools/bench/", [r"cache/", r"fusefs/(?!main\.)", r"tools/"]),
    (r"tools/", [r"tools/", r"fusefs/control\.h"]),
]

# Which files may include which system headers; what no row names is free.
SYSTEM_RULES = [
    # Messages as the kernel reads them.
    (r"linux/fuse\.h", r"fusefs/(dirent_encoder|device_io)[^/]*$|tools/bench/"),
    (r"fuse\w*\.h|fuse\d*/.*",
     r"fusefs/(session|ops|fuse_request|request|notify|mount|main)[^/]*$|tools/bench/"),
    (r"spdlog/.*|fmt/.*", r"fusefs/|tools/"),
    (r"nfsc/.*|libssh2?\b.*", r"fusefs/backends/"),
    (r"CLI/.*", r"tools/"),
]


def wrong_arrow(root, path, style, target):
    """What is wrong with the file `path` including `target`; None when nothing is."""
    if style == "<":
        for header, allowed in SYSTEM_RULES:
            if re.fullmatch(header, target) and not re.match(allowed, path):
                return f"<{target}> is not for this folder"
        return None
    if not (root / target).is_file():
        return f'"{target}" is no file of the project (paths begin at the top)'
    for pattern, allowed in RULES:
        match = re.match(pattern, path)
        if not match:
            continue
        for row in allowed:
            if re.match(row.format(*match.groups()) if match.groups() else row, target):
                return None
        return f'"{target}" is an arrow in the wrong direction'
    return None


def check(root):
    """All wrong arrows below `root`, and how many includes were looked at."""
    problems, seen = [], 0
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".h", ".cc"):
                continue
            path = file.relative_to(root).as_posix()
            for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                seen += 1
                problem = wrong_arrow(root, path, *match.groups())
                if problem:
                    problems.append(f"{path}:{number}: {problem}")
    return problems, seen


# (file, what it includes, whether that is right)
EXAMPLES = [
    ("cache/base/a.h", '"cache/base/b.h"', True),
    ("cache/base/a.h", '"cache/mm/page.h"', False),
    ("cache/base/a.h", '"cache/stats.h"', False),
    ("cache/mm/a.cc", '"cache/stats.h"', True),
    ("cache/mm/a.cc", '"cache/dir/source.h"', False),
    ("cache/mm/a.cc", "<boost/intrusive/list.hpp>", True),
    ("cache/mm/a.cc", "<spdlog/spdlog.h>", False),
    ("cache/mm/a.cc", "<fuse_lowlevel.h>", False),
    ("cache/dir/a.cc", '"cache/mm/page.h"', True),
    ("cache/dir/a.cc", '"cache/data/file.h"', False),
    ("cache/dir/a.cc", '"fusefs/options.h"', False),
    ("cache/dir/a.cc", "<nfsc/libnfs.h>", False),
    ("cache/data/a.cc", '"cache/dir/source.h"', False),
    ("fusefs/backends/sim/a.cc", '"fusefs/backends/backend.h"', True),
    ("fusefs/backends/sim/a.cc", '"fusefs/backends/sim/sim.h"', True),
    ("fusefs/backends/sim/a.cc", '"fusefs/backends/local/local.h"', False),
    ("fusefs/backends/sim/a.cc", '"cache/dir/source.h"', True),
    ("fusefs/backends/sim/a.cc", '"cache/mm/page.h"', False),
    ("fusefs/backends/sim/a.cc", '"fusefs/session.h"', False),
    ("fusefs/backends/sim/a.cc", "<fuse3/fuse_lowlevel.h>", False),
    ("fusefs/backends/registry.cc", '"fusefs/backends/sim/sim.h"', True),
    ("fusefs/ops_dir.cc", "<fuse_lowlevel.h>", True),
    ("fusefs/ops_dir.cc", '"cache/dir/source.h"', True),
    ("fusefs/ops_dir.cc", '"fusefs/backends/sim/sim.h"', False),
    ("fusefs/inode.cc", "<fuse_lowlevel.h>", False),
    ("fusefs/inode.cc", "<linux/fuse.h>", False),
    ("fusefs/main.cc", '"fusefs/session.h"', True),
    ("tools/a.cc", '"fusefs/control.h"', True),
    ("tools/a.cc", '"fusefs/options.h"', False),
    ("tools/a.cc", '"cache/mm/page.h"', False),
    ("tools/a.cc", '"no/such/file.h"', False),
]


def self_test():
    """A check that can't fail proves nothing: every wrong example must be found, no right one."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        targets = [t.strip('"') for _, t, _ in EXAMPLES if t[0] == '"' and not t.startswith('"no/')]
        for target in targets:
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            (root / target).write_text("")
        for path, target, right in EXAMPLES:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"#include {target}\n")
            problems, seen = check(root)
            if seen != 1 or bool(problems) == right:
                failures.append(f"{path} includes {target}: {problems or 'no complaint'}")
            if path in targets:
                (root / path).write_text("")
            else:
                (root / path).unlink()
    for failure in failures:
        print(f"self-test: {failure}")
    print(f"self-test: {len(EXAMPLES)} examples, {len(failures)} failures")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        print(__doc__)
        return 2
    root = pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else pathlib.Path(__file__).parent.parent)
    problems, seen = check(root)
    for problem in problems:
        print(problem)
    print(f"{seen} includes, {len(problems)} in a wrong direction")
    return 1 if problems or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
