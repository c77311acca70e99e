"""A Valkey of our own beside the server: started by `launch`, restarted if it dies, gone when we are gone.

The server runs on a unix socket, writes every change to disk before it answers, and is stopped after us: on Ctrl-C by
`stop`, and when we are killed by the kernel (on Linux) or by the next launch on the same folder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from handrail.store.binary import find_server
from handrail.store.damage import advise
from handrail.store.folder import PATIENCE, lock_folder, remove_socket, socket_path, take_over
from handrail.store.keys import LINEAGE
from handrail.store.protocol import StoreUnusable
from handrail.store.seal import Seal

SILENCE = 5.0  # seconds a server may take to answer at all; while it says that it is loading, it may take longer
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "aof-use-rdb-preamble": "no",  # so that any Redis from 7.0 on can read the folder
    "aof-load-truncated": "yes",
    "save": "",
    "maxmemory-policy": "noeviction",
    "stream-node-max-bytes": "1024",  # of 4096 that a stream sets aside at once: most users have a message or two
    "daemonize": "no",
}
# Asks the kernel to end us when the thread that started us ends, then becomes the server. A process of its own, because
# code between fork and exec is not safe in a process with threads.
LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

log = structlog.get_logger(__name__)


def launch(data_dir: Path) -> Embedded:
    """Start the embedded store on a folder, which is made if need be; blocks until it answers.

    Use it as a context manager, or call `stop`. Raises StoreUnusable with what the operator can do.
    """
    return Embedded(data_dir)


class Embedded:
    """A running Valkey. `url` is for `RedisStore.connect` and stays the same when the server is restarted."""

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir.resolve()
        self._binary = find_server()
        self._log = self._dir / "valkey.log"
        self._seal = Seal(self._dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._broken: OSError | None = None
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._turn = threading.Lock()  # between starting again and stopping
        self._cleanup = ExitStack()
        try:
            self._hold_folder()
            whole = self._seal.holds()
            self._start()
            if not whole:  # users get a new epoch: what lies behind an offset may be something else
                ask(self._socket, b"DEL %b\r\n" % LINEAGE)
            self._seal.put()
            self._cleanup.callback(self._seal_up)
        except OSError as error:
            self._cleanup.close()
            why = error.strerror or error
            raise StoreUnusable(
                f"the data folder {self._dir} cannot be used: {why}; name another with HANDRAIL_DATA_DIR"
            ) from None
        except BaseException:
            self._cleanup.close()
            raise

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int:
        """Of the server as it runs now; another after it had to be restarted."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server, its data safe, and let go of the folder. May be called again."""
        self._cleanup.close()

    def _hold_folder(self) -> None:
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cleanup.enter_context(lock_folder(self._dir))
        self._held = self._cleanup.enter_context(take_over(self._dir / "valkey.pid"))
        self._socket = socket_path(self._dir)
        self._cleanup.callback(remove_socket, self._socket, self._dir)

    def _seal_up(self) -> None:
        """Before the server stops: what comes after makes its files no shorter."""
        with suppress(OSError):
            self._seal.put()

    def _start(self) -> None:
        self._skip = self._log.stat().st_size if self._log.exists() else 0
        # The thread outlives every server it starts: when it ends, and it ends with us, the kernel ends the server.
        watcher = threading.Thread(target=self._watch, name="embedded-store", daemon=True)
        watcher.start()
        self._cleanup.callback(watcher.join)
        self._cleanup.callback(self._terminate)
        silent_since = time.monotonic()
        while not self._answered.is_set():
            reply = ask(self._socket, b"PING\r\n")
            if reply.startswith(b"+PONG"):
                self._answered.set()
            elif reply.startswith(b"-LOADING"):
                silent_since = time.monotonic()
            elif not watcher.is_alive() or time.monotonic() - silent_since > SILENCE:
                raise StoreUnusable(self._complaint(died=not watcher.is_alive()))
            self._answered.wait(0.005)

    def _complaint(self, *, died: bool) -> str:
        if self._broken is not None:
            return f"{self._binary} could not be started: {self._broken}"
        with self._log.open("rb") as lines:
            lines.seek(self._skip)
            said = lines.read().decode("utf-8", "replace").splitlines()
        what = "stopped at once" if died else f"did not answer within {SILENCE:g} s"
        self._seal.tear()  # whatever mends it may lose something
        advice = advise(said, self._dir, self._binary)
        return f"the embedded store ({self._binary}) {what}; its log is {self._log}:\n{advice}"

    def _watch(self) -> None:
        """Run the server, and again whenever it dies, until told to stop; the first start has to succeed."""
        pause = 0.0
        while not self._stopping.wait(pause):
            started = time.monotonic()
            try:
                with self._turn:
                    if self._stopping.is_set():
                        return
                    self._process = process = self._spawn()
            except OSError as error:
                self._broken = error
            else:
                code = process.wait()
                if self._answered.is_set() and not self._stopping.is_set():
                    log.error("the embedded store died and is started again", code=code, data=str(self._dir))
            if not self._answered.is_set():
                return
            pause = 0.0 if time.monotonic() - started > 5 else min(2.0, max(0.05, pause * 2))

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = SETTINGS | {"unixsocket": str(self._socket), "dir": str(self._dir)}
        command = [str(self._binary), *(word for name, value in settings.items() for word in (f"--{name}", value))]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command]
        with self._log.open("ab") as lines:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
                env={"LC_ALL": "C"},  # a locale this machine does not have would stop the server
                pass_fds=(self._held.fileno(),),
                start_new_session=True,  # Ctrl-C is for us: the store goes last
            )
        self._held.seek(0)
        self._held.truncate()
        self._held.write(b"%d\n" % process.pid)
        return process

    def _terminate(self) -> None:
        with self._turn:
            self._stopping.set()
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(path: Path, command: bytes) -> bytes:
    """One line from the server at a socket; nothing when it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(os.fsencode(path))
            connection.sendall(command)
            return connection.recv(65_536)
        except OSError:
            return b""
