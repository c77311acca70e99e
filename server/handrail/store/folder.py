"""The data folder of the embedded store: who holds it, and where its socket is.

`handrail.lock` is locked by the process that launched, so that a second server on the folder is refused. `valkey.pid`
is locked through a descriptor that Valkey inherits and keeps for its whole life: if its launcher is gone and it is
still locked, the process named in it is an orphan of ours for certain, and is stopped.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import structlog

from handrail.store.protocol import StoreUnusable

PATIENCE = 5.0  # seconds a server may take to stop before it is killed
LONGEST_PATH = 107 if sys.platform == "linux" else 103  # of a unix socket, in bytes

log = structlog.get_logger(__name__)


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
