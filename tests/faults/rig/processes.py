"""The processes that faults are done to: Valkey as an operator would run it, and `handrail serve` beside it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hiredis

from handrail.store.binary import find_server
from handrail.store.embedded import ask

STARTS_WITHIN = 30.0  # seconds
STOPS_WITHIN = 10.0
GREETING = re.compile(rb"http://127\.0\.0\.1:(\d+)")
# Has the kernel kill us when whoever started us is gone, however that ended.
LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process:
    """One process of ours. `kill` is SIGKILL, `halt` SIGSTOP: nothing of it runs until `resume`."""

    def __init__(self, command: list[str], folder: Path, log: str, environ: dict[str, str]) -> None:
        self.log = folder / log
        with self.log.open("ab") as lines:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=lines,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def first_line(self, wanted: re.Pattern[bytes]) -> re.Match[bytes]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := wanted.search(line):
                return found
        raise AssertionError(f"the process did not start; its log ends: {self.log.read_text()[-2_000:]}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def halt(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)


class Valkey:
    """A store that Handrail did not start, with its data in `folder`; `settings` are those of valkey.conf."""

    def __init__(self, folder: Path, *, name: str = "store", port: int = 0, **settings: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.path = self.folder / "s.sock"
        self.port = port
        fixed = {"port": str(port), "bind": "127.0.0.1", "unixsocket": str(self.path), "dir": str(self.folder)}
        kept = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "aof-use-rdb-preamble": "no"}
        kept |= {"maxmemory-policy": "noeviction", "enable-debug-command": "local", "repl-diskless-sync-delay": "0"}
        self._settings = fixed | kept | {key.replace("_", "-"): value for key, value in settings.items()}
        self.process = self._begin()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def _begin(self) -> Process:
        self.path.unlink(missing_ok=True)
        words = [word for key, value in self._settings.items() for word in (f"--{key}", value)]
        log = ["--logfile", str(self.folder / "valkey.log")]
        process = Process([str(find_server()), *words, *log], self.folder, "valkey.err", {"LC_ALL": "C"})
        deadline = time.monotonic() + STARTS_WITHIN
        while not ask(self.path, b"PING\r\n").startswith(b"+PONG"):
            assert process.is_alive, "the store did not start"
            assert time.monotonic() < deadline, "the store does not answer"
            time.sleep(0.01)
        return process

    def restart(self) -> None:
        """Start again from the files, after `process.kill()`."""
        self.process = self._begin()

    def tell(self, *command: Any) -> bytes:
        """One command, by a connection of its own; its reply's first bytes as they come."""
        return ask(self.path, hiredis.pack_command(command))

    def forget_tail(self, size: int) -> None:
        """Take the last bytes off the command log of a store that is not running: they never reached the disk."""
        [log] = (self.folder / "appendonlydir").glob("*.incr.aof")
        os.truncate(log, max(log.stat().st_size - size, 0))


class Server:
    """One `handrail serve` process; `await start()` before use, and again after `process.kill()`."""

    def __init__(self, folder: Path, name: str, url: str, *, rules: Path, **environ: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.port = 0
        self._command = [sys.executable, "-m", "handrail", "serve", "--role", "all", "--port", "0"]
        self._command += ["--redis", url, "--rules", str(rules)]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HANDRAIL_")}
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling everything at every start takes seconds
        self._environ = inherited | {"HANDRAIL_DEMO": "off", "HANDRAIL_LOG_LEVEL": "warning"} | environ
        self.process: Process | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.process = process = Process(self._command, self.folder, "server.log", self._environ)
        async with asyncio.timeout(STARTS_WITHIN):
            self.port = int((await asyncio.to_thread(process.first_line, GREETING))[1])

    def kill(self) -> None:
        """kill -9; nobody is sent here until it was started again."""
        self.port = 0
        if self.process is not None:
            self.process.kill()

    def halt(self) -> None:
        assert self.process is not None
        self.process.halt()

    def resume(self) -> None:
        assert self.process is not None
        self.process.resume()
