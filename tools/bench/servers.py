"""Servers on this machine for the benchmark: OpenSSH's and nfs-ganesha, behind the delay proxy.

Each has a configuration of its own in a directory of the benchmark's, listens on free ports of the
loopback, and is ended by its process id.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from contenders import BenchError, run

SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_that(condition, process, what, log):
    """Waits until `condition()`, at most 20 s, while the process lives."""
    end = time.monotonic() + 20
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            text = log.read_text(encoding="utf-8", errors="replace")[-300:]
            raise BenchError(f"{what} does not start: {text.strip()}")
        time.sleep(0.02)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process that is ended with the block."""

    def __init__(self, name):
        self.name = name
        self._process = None

    def _start(self, command, log, **options):
        with open(log, "wb") as output:
            self._process = subprocess.Popen([str(word) for word in command], stdout=output,
                                             stderr=subprocess.STDOUT, **options)

    def __exit__(self, *_):
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class DelayProxy(Server):
    """Adds a round trip of `rtt_ms` on the way to a port."""

    def __init__(self, bench, target, rtt_ms):
        super().__init__("delay proxy")
        self._command = [bench.program("delay_proxy"), target, rtt_ms]
        self.port = 0

    def __enter__(self):
        self._process = subprocess.Popen([str(word) for word in self._command],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline().split()[-1])
        return self


class Sshd(Server):
    """OpenSSH's server; `options()` are what its clients need, as of ssh_config(5)."""

    def __init__(self, bench):
        super().__init__("sshd")
        self._work = bench.new_point("sshd")
        self.port = 0

    def __enter__(self):
        if not os.access("/usr/sbin/sshd", os.X_OK):
            raise BenchError("not installed (package openssh-server)")
        self._work.mkdir()
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._work / name)])
        (self._work / "known").write_text("bench " + (self._work / "host.pub").read_text())
        if os.geteuid() == 0:
            pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        self.port = free_port()
        (self._work / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self._work}/host\n"
            f"AuthorizedKeysFile {self._work}/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 1000\nUseDNS no\n"
            f"Subsystem sftp {SFTP_SERVER}\n")
        log = self._work / "log"
        self._start(["/usr/sbin/sshd", "-D", "-e", "-f", self._work / "config"], log)
        await_that(lambda: answers(self.port), self._process, "sshd", log)
        return self

    def options(self):
        return {"IdentityFile": self._work / "user", "IdentitiesOnly": "yes",
                "UserKnownHostsFile": self._work / "known", "HostKeyAlias": "bench",
                "StrictHostKeyChecking": "yes", "BatchMode": "yes"}

    def host_key(self):
        """Type and key, as in a file of known hosts."""
        return " ".join((self._work / "host.pub").read_text(encoding="utf-8").split()[:2])

    def ssh(self, port):
        """The command that a raw client speaks SFTP with."""
        words = ["ssh", "-F", "none", "-p", port]
        for key, value in self.options().items():
            words += ["-o", f"{key}={value}"]
        return words + ["-s", "127.0.0.1", "sftp"]


class Ganesha(Server):
    """nfs-ganesha with one export, the directory; at most `most_entries` in an answer."""

    def __init__(self, bench, directory, most_entries=1 << 20):
        super().__init__("nfs-ganesha")
        self._most_entries = most_entries
        self._bench, self._directory = bench, directory
        self._work = bench.new_point("ganesha")
        self.port = self.mount_port = 0

    def __enter__(self):
        if os.geteuid() != 0:
            raise BenchError("only with root's rights (nfs-ganesha)")
        if shutil.which("ganesha.nfsd") is None:
            raise BenchError("not installed (packages nfs-ganesha, nfs-ganesha-vfs)")
        (self._work / "recovery").mkdir(parents=True)
        self.port, self.mount_port = free_port(), free_port()
        (self._work / "config").write_text(
            f"NFS_CORE_PARAM {{ Bind_addr=127.0.0.1; NFS_Port={self.port};"
            f" MNT_Port={self.mount_port}; Protocols=3,4; Enable_NLM=false; Enable_RQUOTA=false;"
            " Enable_UDP=false; mount_path_pseudo=true; Clustered=false;"
            f" Readdir_Max_Count={self._most_entries}; }}\n"
            "NFSv4 { Graceless=true; RecoveryBackend=fs;"
            f' RecoveryRoot="{self._work}/recovery"; Only_Numeric_Owners=true; }}\n'
            "MDCACHE { Entries_HWMark=3000000; }\n"
            "EXPORT_DEFAULTS { Attr_Expiration_Time=600; Access_Type=RW; Squash=no_root_squash;"
            " SecType=sys; Protocols=3,4; Transports=TCP; }\n"
            f"EXPORT {{ Export_Id=1; Path={self._directory}; Pseudo=/bench; Filesystem_Id=1.1;"
            " FSAL { Name=VFS; } }\n")
        log = self._work / "log"
        shim = pathlib.Path(self._bench.program("librpcbind_shim.so"))
        self._start(["ganesha.nfsd", "-F", "-f", self._work / "config", "-p", self._work / "pid",
                     "-L", log, "-N", "NIV_EVENT"], self._work / "err",
                    env={**os.environ, "LD_PRELOAD": str(shim)})
        await_that(lambda: log.exists() and "NFS SERVER INITIALIZED" in
                   log.read_text(encoding="utf-8", errors="replace"),
                   self._process, "nfs-ganesha", self._work / "err")
        return self

    def floor(self, port, *options):
        """What bench_nfs_floor says, through that port."""
        return json.loads(run([self._bench.program("bench_nfs_floor"), *options, "127.0.0.1",
                               str(port), str(self.mount_port), "/bench"]))

    def url(self, port, version=3):
        return (f"nfs://127.0.0.1/bench?version={version}&nfsport={port}"
                f"&mountport={self.mount_port}")
