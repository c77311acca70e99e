"""`serve` in processes of its own, under a supervisor that starts it again whenever it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

HERE = Path(__file__).parent
RULES = """
trigger: greet
when: {event: greeted}
then: [{set: {greeted: true}}]
---
trigger: later
when: {delay: {after: {event: begun}, for: 1s}}
then: [{set: {later: true}}]
"""
PATIENCE = 120.0  # seconds a test waits for a process


def tell(figures: dict[str, Any]) -> None:
    print(msgspec.json.encode(figures).decode())


class Fleet:
    """`serve` under a supervisor that starts it again whenever it ends, as systemd would."""

    def __init__(self, folder: Path, store_url: str, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        (folder / "rules").mkdir()
        (folder / "rules" / "all.yaml").write_text(RULES)
        own = {"REDIS_URL": store_url, "DATA_DIR": str(folder / "data"), "RULES": str(folder / "rules")}
        own |= {"PORT": str(self.port), "WORKERS": str(workers), "DEMO": "off"}
        path = os.pathsep.join([str(HERE), *sys.path])
        self._environ = {**os.environ, "PYTHONPATH": path, **{f"HANDRAIL_{name}": value for name, value in own.items()}}
        self.log = folder / "log"
        self._out = self.log.open("wb")
        self.ends = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.supervise()

    def supervise(self) -> None:
        """Start the server if it is not there."""
        if self._process is None or self._process.poll() is not None:
            self.ends += 1
            command = [sys.executable, str(HERE / "crashing.py")]
            self._process = subprocess.Popen(command, env=self._environ, stdout=self._out, stderr=self._out)

    def wait(self) -> None:
        """Return when every process of the server is there."""
        end = time.monotonic() + PATIENCE
        while b"serving" not in self.log.read_bytes():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._out.close()

    def post(self, user: str, event: str, identity: str) -> bool:
        """Send an event until it is taken, as SDKs do."""
        end = time.monotonic() + PATIENCE
        body = {"userId": user, "event": event, "messageId": identity}
        while time.monotonic() < end:
            self.supervise()
            try:
                answer = httpx2.post(f"http://127.0.0.1:{self.port}/v1/track", json=body, trust_env=False, timeout=20)
                return bool(answer.status_code == 200)
            except httpx2.TransportError:  # nobody is there, nobody yet, or it died of it
                time.sleep(0.05)
        return False

    @property
    def deaths(self) -> int:
        """How many processes were found to have died while they decided."""
        return self.log.read_bytes().count(b"a process died while it decided")

    def get(self, path: str) -> Any:
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=5).json()

    def quarantine(self) -> list[dict[str, Any]]:
        """What is there, however often the server has to be started for it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.supervise()
            try:
                if found := self.get("/api/quarantine")["entries"]:
                    return list(found)
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        return []


@contextmanager
def fleet(folder: Path, store_url: str, workers: int) -> Iterator[Fleet]:
    started = Fleet(folder, store_url, workers)
    try:
        started.wait()
        yield started
    finally:
        started.stop()
