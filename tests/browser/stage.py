"""What browser tests stand on: a real server process, static pages on another port, and tabs that must not complain."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page

ROOT = Path(__file__).parents[2]
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 30


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("HANDRAIL_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.fail("No Chromium: install the package chromium, or set HANDRAIL_CHROMIUM to the path of one.")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`handrail serve` as a process of its own, with its own data."""

    def __init__(self, data: Path, rules: Path, *flags: str) -> None:
        self.data, self.rules, self.flags = data, rules, flags
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "handrail", "serve", "--port", str(self.port), "--rules", str(self.rules)]
        command += self.flags
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}
        environ = {**inherited, "HANDRAIL_DATA_DIR": str(self.data), "PYTHONUNBUFFERED": "1"}
        with (self.data.parent / f"{self.data.name}.log").open("a+") as log:
            start = log.tell()
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, env=environ)
            self._await_greeting(Path(log.name), start)

    def _await_greeting(self, log: Path, start: int) -> None:
        assert self.process is not None
        for _ in range(START_S * 20):
            told = log.read_text()[start:]
            if "serves on" in told:
                return
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        pytest.fail(f"The server did not start:\n{log.read_text()[start:]}")

    def kill(self) -> None:
        """As a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


class Tabs:
    """Opens pages that must not complain; `allow` names what a test brings about on purpose."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.allow: tuple[str, ...] = ()
        self.complaints: list[str] = []

    def open(self, url: str) -> Page:
        page = self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def check(self) -> None:
        assert [text for text in self.complaints if not any(part in text for part in self.allow)] == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def serve_pages(folder: Path) -> Iterator[str]:
    """The files of a folder on a port of their own, as a page of another origin than the server's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{files.server_port}/"
        files.shutdown()
        thread.join()


Visit = Callable[[], Page]
