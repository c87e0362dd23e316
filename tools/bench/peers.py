"""What a user would take instead of cookiefs, mounted the same way as cookiefs itself.

Each peer has the settings of its manual's own examples, and names and attributes trusted for as
long as cookiefs trusts them or longer.
"""

import os

from contenders import Cookiefs, Mount, installed


class Native:
    """A directory as the kernel itself serves it."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory


class Client:
    """A way to mount one directory; `mount()` makes a new Mount each time."""

    def __init__(self, name, mount):
        self.name, self.mount = name, mount


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


# --------------------------------------------------------------------------------- sftp ---------

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


def sftp_clients(bench, sshd, port, directory, writable=False):
    """cookiefs, sshfs and rclone on that directory over SFTP, as far as installed."""
    options = sshd.options()
    yield Client("cookiefs", lambda: cookiefs_over_sftp(bench, sshd, port, directory))
    if installed("sshfs"):
        command = ["sshfs", f"127.0.0.1:{directory}", "{}", "-f", "-p", port, "-F", "none"]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        yield Client("sshfs", lambda: Mount("sshfs", command, bench.new_point("sshfs")))
    if installed("rclone"):
        yield Client("rclone", lambda: _rclone_mount(bench, sshd, port, directory, writable))
