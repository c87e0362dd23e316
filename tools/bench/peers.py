"""What a user would take instead of cookiefs, mounted the same way as cookiefs itself.

Each peer has the settings of its manual's own examples, and names and attributes trusted for as
long as cookiefs trusts them or longer.
"""

import os

from contenders import Cookiefs, Mount, installed


class Native:
    """A directory as the kernel itself serves it; takes the place of a mount, too."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @staticmethod
    def cpu_seconds():
        """No process of its own."""
        return 0.0


class Client:
    """A way to mount one directory; `mount()` makes a new Mount each time.

    `limit`: no peer, but what nobody can be faster than.
    """

    def __init__(self, name, mount, limit=False):
        self.name, self.mount, self.limit = name, mount, limit


def missing(programs):
    """[(program, why it is not measured)] of those that are not installed."""
    return [(program, f"not installed (package {program})")
            for program in programs if not installed(program)]


def make_files(directory, count):
    for i in range(count):
        os.close(os.open(f"{directory}/file-{i:019}", os.O_CREAT | os.O_WRONLY, 0o644))


# -------------------------------------------------------------------------------- local ---------

def local_clients(bench, source):
    """cookiefs and the peers that pass a local directory through, as far as installed."""
    yield Client("cookiefs", lambda: Cookiefs(bench, str(source)))
    if installed("bindfs"):
        yield Client("bindfs", lambda: Mount("bindfs", ["bindfs", "-f", source, "{}"],
                                             bench.new_point("bindfs")))
    if installed("mergerfs"):
        yield Client("mergerfs", lambda: Mount("mergerfs", ["mergerfs", "-f", source, "{}"],
                                               bench.new_point("mergerfs")))


def local_limit(source):
    """The directory itself, as a client."""
    return Client("the kernel itself", lambda: Native("the kernel itself", source), limit=True)


# --------------------------------------------------------------------------------- sftp ---------

# Everything held, and for as long as it takes: sshfs(1), and libfuse's options of `sshfs -h`. By
# default it holds 10,000 entries for 20 s, and the kernel its answers for 1 s.
TUNED = "sshfs, tuned"
SSHFS_TUNED = ("dcache_max_size=4000000", "dcache_timeout=86400", "dcache_clean_interval=86400",
               "dcache_min_clean_interval=86400", "entry_timeout=86400", "attr_timeout=86400",
               "negative_timeout=86400", "kernel_cache")


def _rclone_mount(bench, sshd, port, directory, writable):
    """rclone makes its own SSH connections; it takes a known_hosts file with host and port."""
    work = bench.new_point("rclone-config")
    work.mkdir()
    key = sshd.host_key()
    (work / "known").write_text(f"[127.0.0.1]:{port} {key}\n", encoding="utf-8")
    (work / "config").write_text(
        f"[bench]\ntype = sftp\nhost = 127.0.0.1\nport = {port}\nuser = root\n"
        f"key_file = {sshd.options()['IdentityFile']}\nknown_hosts_file = {work}/known\n"
        "shell_type = none\ndisable_hashcheck = true\n", encoding="utf-8")
    # What is written is put there when it is closed, not 5 s later.
    how = (["--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--cache-dir", work / "cache"]
           if writable else ["--read-only"])
    words = ["rclone", "mount", "--config", work / "config", *how, "--attr-timeout", "3s",
             f"bench:{directory}", "{}"]
    return Mount("rclone", words, bench.new_point("rclone"))


def cookiefs_over_sftp(bench, sshd, port, directory, more=""):
    """A mount of it, with `more` options of cookiefs."""
    words = ",".join(f"{key}={value}" for key, value in sshd.options().items())
    return Cookiefs(bench, f"sftp://127.0.0.1:{port}{directory}",
                    f"ssh_config=none,{words}{',' if more else ''}{more}")


def _sshfs_mount(bench, sshd, port, directory, name="sshfs", more=()):
    command = ["sshfs", f"127.0.0.1:{directory}", "{}", "-f", "-p", port, "-F", "none"]
    options = [f"{key}={value}" for key, value in sshd.options().items()]
    for option in (*options, *more):
        command += ["-o", option]
    return Mount(name, command, bench.new_point("sshfs"))


def sftp_clients(bench, sshd, port, directory, writable=False, tuned=False):
    """cookiefs, sshfs and rclone on that directory over SFTP, as far as installed.

    `tuned`: sshfs with its caches tuned, too.
    """
    yield Client("cookiefs", lambda: cookiefs_over_sftp(bench, sshd, port, directory))
    if installed("sshfs"):
        yield Client("sshfs", lambda: _sshfs_mount(bench, sshd, port, directory))
        if tuned:
            yield Client(TUNED, lambda: _sshfs_mount(bench, sshd, port, directory, TUNED,
                                                     SSHFS_TUNED))
    if installed("rclone"):
        yield Client("rclone", lambda: _rclone_mount(bench, sshd, port, directory, writable))
