"""The real Valkey: started for a run, spoken to in whole exchanges, so that the same commands give the same answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis

from handrail.store.binary import find_server
from handrail.store.embedded import LEASH

SENTINEL = b"*2\r\n$4\r\nPING\r\n$8\r\nsentinel\r\n"
ANSWERED = b"$8\r\nsentinel\r\n"
STARTED_WITHIN = 30.0
# A copy of everything, and everything back from the copy.
KEEP = "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', k, k, 'DB', 1, 'REPLACE') end"
SETTINGS = {
    "port": "0",
    "appendonly": "no",
    "save": "",
    "stream-node-max-entries": "4",  # so that `MAXLEN ~` trims a short outbox, too
}


@contextmanager
def running() -> Iterator[Server]:
    """A Valkey with nothing in it that keeps nothing; it ends with this process."""
    with tempfile.TemporaryDirectory(prefix="sim-") as folder:
        path = Path(folder) / "s"
        settings = SETTINGS | {"unixsocket": str(path), "dir": folder}
        command = [str(find_server()), *(word for name, value in settings.items() for word in (f"--{name}", value))]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + STARTED_WITHIN
            while not listens(path) and time.monotonic() < until:
                time.sleep(0.005)
            yield Server(path)
        finally:
            process.terminate()
            process.wait()


def listens(path: Path) -> bool:
    """Whether somebody does: the socket is there a moment before."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(os.fsencode(path)) == 0


class Server:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = self.open()
        self.ask(("HELLO", 3))

    def open(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.fsencode(self._path))
        return connection

    def ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The answers to commands of the simulation's own."""
        reader = hiredis.Reader()
        reader.feed(exchange(self._own, b"".join(map(hiredis.pack_command, commands))))
        replies = [reader.gets() for _ in commands]
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        return replies

    def clear(self) -> None:
        self.ask(("FLUSHALL",), ("SCRIPT", "FLUSH"))

    def keep(self) -> None:
        """Make the copy that `lose` goes back to."""
        self.ask(("SELECT", 1), ("FLUSHDB",), ("SELECT", 0), ("EVAL", KEEP, 0))

    def lose(self, *, everything: bool) -> None:
        """What was written since the copy was made is lost, or all there is, as by a restart from older files."""
        back = () if everything else (("SELECT", 1), ("EVAL", KEEP.replace("'DB', 1", "'DB', 0"), 0))
        self.ask(("SELECT", 0), ("FLUSHDB",), *back, ("SELECT", 0), ("SCRIPT", "FLUSH"))


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """All that the server says up to having carried out `data`; messages published before are among it."""
    connection.sendall(data + SENTINEL)
    said = b""
    while not said.endswith(ANSWERED):
        part = connection.recv(1 << 20)
        if not part:
            raise ConnectionResetError("the store hung up")
        said += part
    return said[: -len(ANSWERED)]


def pending(connection: socket.socket) -> bytes:
    """What the server has said unasked."""
    try:
        return connection.recv(1 << 20, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
