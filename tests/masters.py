"""Servers of the operator's own, as no embedded one is: with other settings, replicas, and files to be put back."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from handrail.store.binary import find_server
from handrail.store.embedded import ask
from handrail.store.pipeline import pack

UP_WITHIN = 10.0  # seconds
EVERYSEC = {"appendonly": "yes", "appendfsync": "everysec"}
ALWAYS = {"appendonly": "yes", "appendfsync": "always"}


class Master:
    """A server on a folder. `url` is for `RedisStore.connect`; use it as a context manager."""

    def __init__(self, folder: Path, **options: str) -> None:
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port: int = taken.getsockname()[1]
        self.folder = folder
        self._options = {"save": "", "bind": "127.0.0.1", "repl-diskless-sync-delay": "0", **options}
        self._socket = folder / "s"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Master:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        given = self._options | {"port": str(self.port), "unixsocket": str(self._socket), "dir": str(self.folder)}
        command = [str(find_server()), *(word for name, value in given.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + UP_WITHIN
        while not self.tell("PING").startswith(b"+PONG"):
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.01)

    def kill(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """It answers nobody, until it is killed."""
        self._process.send_signal(signal.SIGSTOP)

    def restart(self) -> None:
        self.kill()
        self.start()

    def keep_copy(self, at: Path) -> None:
        shutil.copytree(self.folder / "appendonlydir", at)

    def put_back(self, copy: Path) -> None:
        """The files as they were when the copy was kept; only while it is stopped."""
        shutil.rmtree(self.folder / "appendonlydir")
        shutil.copytree(copy, self.folder / "appendonlydir")

    def follow(self, master: Master) -> None:
        """Become a replica, and wait until it keeps up."""
        self.tell("REPLICAOF", "127.0.0.1", master.port)
        master.tell("INCR", "followers")
        deadline = time.monotonic() + UP_WITHIN
        while not (at := re.search(rb"offset=([1-9]\d*),", said := master.tell("INFO", "replication"))) or (
            int(at[1]) < int(said.partition(b"master_repl_offset:")[2].split()[0])
        ):
            assert time.monotonic() < deadline, "the replica did not connect"
            time.sleep(0.01)

    def tell(self, *command: Any) -> bytes:
        return ask(self._socket, pack(command))
