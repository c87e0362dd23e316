#!/usr/bin/python3 -IS
"""An SFTP server on stdin and stdout that lies, for tests of what believes nothing.

    lying_sftp_server.py MODE [--once FILE | --log FILE]

It has one directory, '/', with ENTRIES files named 'entry-NNNNN'. MODE says how it lies in its
answers to READDIR; the others are honest. Nothing can be changed in it, though it says so of WRITE,
unless MODE is one of:

    full, read-only     every change is a FAILURE, and the file system's figures say why
    limits-...          limits@openssh.com tells nonsense
    change-...          what it answers to changes and to OPEN is nonsense
    fsync               it offers fsync@openssh.com, and says that it has done it
    fsync-refused       the same, but each is a FAILURE

With --once it lies until FILE exists, which it makes
with its first lie: whoever starts it again meets an honest server.
With --log it adds a line to FILE for each WRITE ("write HANDLE") and for what is extended (its name,
and the handle or path), before it answers.
"""

import random
import struct
import sys

ENTRIES = 1000
BATCH = 100
OPEN, WRITE, FSTAT, EXTENDED, EXTENDED_REPLY = 3, 6, 8, 200, 201
CHANGES = (OPEN, 9, 10, 13, 14, 15, 18, 20)  # and most of what is extended
INIT, VERSION, CLOSE, LSTAT, OPENDIR, READDIR, REALPATH, STAT = 1, 2, 4, 7, 11, 12, 16, 17
STATUS, HANDLE, NAME, ATTRS = 101, 102, 104, 105
OK, EOF, NO_SUCH_FILE, FAILURE = 0, 1, 2, 4
DIRECTORY = struct.pack(">IQIII", 1 | 4 | 8, 4096, 0o040755, 1000000000, 1000000000)
FILE = struct.pack(">IQIII", 1 | 4 | 8, 7, 0o100644, 1000000000, 1000000000)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">I", len(data)) + data


class Server:
    def __init__(self, mode, once=None, log=None):
        self.mode, self.once, self.log = mode, once, log
        self.handles = {}
        self.held = []
        self.random = random.Random(7)
        self.out = sys.stdout.buffer

    # ---- Sending ----

    def packet(self, kind, ident, body):
        data = struct.pack(">BI", kind, ident) + body
        self.raw(struct.pack(">I", len(data)) + data)

    def raw(self, data):
        self.out.write(data)
        self.out.flush()

    def status(self, ident, code):
        self.packet(STATUS, ident, struct.pack(">I", code) + string("so it is") + string(""))

    # ---- Lying ----

    def lies(self):
        """Whether it lies now; with --once only as long as the file is not there."""
        if self.once is None:
            return True
        try:
            open(self.once, "x").close()
            self.mine = True
        except FileExistsError:
            return getattr(self, "mine", False)
        return True

    def names(self, handle):
        """The next names of a handle."""
        at = self.handles[handle]
        self.handles[handle] += BATCH
        listed = ([".", ".."] if at == 0 else []) + [
            f"entry-{i:05}" for i in range(at, min(at + BATCH, ENTRIES))]
        return [n.encode() for n in listed]

    @staticmethod
    def name_body(names, count=None):
        body = struct.pack(">I", len(names) if count is None else count)
        for name in names:
            body += string(name) + string(b"-rw-r--r-- " + name) + FILE
        return body

    def readdir(self, ident, handle):
        if self.handles[handle] >= ENTRIES:
            return self.status(ident, EOF)
        if self.mode == "endless" or self.mode == "empty":
            if self.lies():
                names = [] if self.mode == "empty" else [b"again", b"and again"]
                return self.packet(NAME, ident, self.name_body(names))
        names = self.names(handle)
        lie = getattr(self, "lie_" + self.mode.replace("-", "_"), None)
        if lie is not None and self.handles[handle] == 3 * BATCH and self.lies():
            return lie(ident, names)
        if self.mode == "out-of-order":
            return self.shuffle(ident, names)
        return self.packet(NAME, ident, self.name_body(names))

    def shuffle(self, ident, names):
        """Honest, but in pairs the other way round."""
        self.held.append((ident, names))
        if len(self.held) == 2:
            for held_ident, held_names in reversed(self.held):
                self.packet(NAME, held_ident, self.name_body(held_names))
            self.held = []

    def lie_repeated_id(self, ident, names):
        for _ in range(2):
            self.packet(NAME, ident, self.name_body(names))

    def lie_unknown_id(self, ident, names):
        self.packet(NAME, ident + 100000, self.name_body(names))

    def lie_huge_count(self, ident, names):
        self.packet(NAME, ident, self.name_body(names, count=0xffffffff))

    def lie_small_count(self, ident, names):
        self.packet(NAME, ident, self.name_body(names, count=len(names) + 1))

    def lie_huge_length(self, _ident, _names):
        self.raw(struct.pack(">I", 0x7fffffff) + b"x" * 1000)

    def lie_long_name(self, ident, names):
        self.packet(NAME, ident, struct.pack(">II", 1, 0xfffffff0) + b"x" * 100)

    def lie_truncated(self, ident, names):
        body = self.name_body(names)
        self.packet(NAME, ident, body[:len(body) // 2])

    def lie_random(self, _ident, _names):
        data = self.random.randbytes(500)
        self.raw(struct.pack(">I", len(data)) + data)

    def lie_wrong_type(self, ident, _names):
        self.packet(ATTRS, ident, FILE)

    def lie_ok_for_names(self, ident, _names):
        self.status(ident, OK)

    def lie_failure(self, ident, _names):
        self.status(ident, FAILURE)

    def lie_death(self, _ident, _names):
        sys.exit(1)

    def lie_bad_names(self, ident, names):
        bad = [b"", b"a/b", b"../../etc/passwd", b"nul\0nul", b"x" * 300]
        self.packet(NAME, ident, self.name_body(bad + names))

    # ---- Changes ----

    def note(self, what, text):
        if self.log is not None:
            with open(self.log, "ab") as log:
                log.write(what + b" " + text + b"\n")

    def change(self, kind, ident):
        if self.mode == "change-wrong-type":
            self.packet(EXTENDED_REPLY, ident, FILE)
        elif self.mode == "change-short":
            self.packet(HANDLE if kind == OPEN else STATUS, ident, b"\0\0")
        elif self.mode == "change-random-status":
            self.status(ident, 4711)
        elif kind == OPEN:
            self.packet(HANDLE, ident, string(b"file"))
        else:
            self.status(ident, FAILURE)

    def open(self, ident, text):
        made = not text.startswith(b"/entry-") and not self.mode.startswith("change-")
        return self.status(ident, FAILURE) if made else self.change(OPEN, ident)

    def extended(self, ident, name):
        lie = self.mode in ("full", "read-only")
        if name == b"fsync@openssh.com" and self.mode.startswith("fsync"):
            self.status(ident, OK if self.mode == "fsync" else FAILURE)
        elif name in (b"statvfs@openssh.com", b"fstatvfs@openssh.com"):
            free, flags = 0 if self.mode == "full" else 100, 1 if self.mode == "read-only" else 0
            self.packet(EXTENDED_REPLY, ident,
                        struct.pack(">11Q", 4096, 4096, 100, free, free, 9, 9, 9, 1, flags, 255))
        elif name == b"limits@openssh.com":
            told = {"limits-tiny": 1, "limits-huge": 1 << 63}.get(self.mode, 32768)
            body = struct.pack(">4Q", told, told, told, told)
            self.packet(EXTENDED_REPLY, ident, body[:9] if self.mode == "limits-short" else body)
        elif lie or self.mode.startswith("change-"):
            self.change(EXTENDED, ident)
        else:
            self.status(ident, 8)

    # ---- Serving ----

    def serve_one(self, kind, data):
        ident = struct.unpack(">I", data[:4])[0]
        length = struct.unpack(">I", data[4:8])[0]
        text = data[8:8 + length]
        if kind == REALPATH:
            self.packet(NAME, ident, struct.pack(">I", 1) + string("/") + string("/") + DIRECTORY)
        elif kind in (STAT, LSTAT):
            if text == b"/":
                self.packet(ATTRS, ident, DIRECTORY)
            elif text.startswith(b"/entry-"):
                self.packet(ATTRS, ident, FILE)
            else:
                self.status(ident, NO_SUCH_FILE)
        elif kind == OPENDIR:
            handle = b"h%d" % len(self.handles)
            self.handles[handle] = 0
            self.packet(HANDLE, ident, string(handle))
        elif kind == READDIR:
            self.readdir(ident, text)
        elif kind == OPEN:
            self.open(ident, text)
        elif kind == WRITE:
            self.note(b"write", text)
            self.status(ident, FAILURE if self.mode in ("full", "read-only") else OK)
        elif kind == FSTAT:
            self.packet(ATTRS, ident, FILE)
        elif kind in CHANGES:
            self.change(kind, ident)
        elif kind == EXTENDED:
            argument = data[8 + length:]
            self.note(text, argument[4:4 + int.from_bytes(argument[:4], "big")])
            self.extended(ident, text)
        elif kind == CLOSE:
            self.status(ident, OK)
        else:
            self.status(ident, 8)

    def serve(self):
        if self.mode == "chatter" and self.lies():
            self.raw(b"Welcome to this server. All is well.\n")
        source = sys.stdin.buffer
        while True:
            head = source.read(5)
            if len(head) < 5:
                return
            length, kind = struct.unpack(">IB", head)
            data = source.read(length - 1)
            if kind == INIT:
                extensions = [("limits@openssh.com", "1"), ("fstatvfs@openssh.com", "2")]
                if self.mode.startswith("fsync"):
                    extensions.append(("fsync@openssh.com", "1"))
                offered = b"".join(string(name) + string(version) for name, version in extensions)
                self.raw(struct.pack(">IBI", 5 + len(offered), VERSION, 3) + offered)
            else:
                self.serve_one(kind, data)


def main():
    more = {sys.argv[2].lstrip("-"): sys.argv[3]} if len(sys.argv) > 3 else {}
    Server(sys.argv[1], **more).serve()


if __name__ == "__main__":
    main()
