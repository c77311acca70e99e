"""F7: a server that is told to stop ends in time, whatever is stuck in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from handrail.signals import AGAIN, GOODBYE_WITHIN, NOW_WITHIN, REQUESTS_WITHIN

GRACE = GOODBYE_WITHIN + REQUESTS_WITHIN
SPARE = 1.0  # a process that has ended has still to be noticed, by a machine that is busy

# A server as it is, but for one address whose requests never end.
PROGRAM = """
import asyncio, os, sys, time
from pathlib import Path
from handrail import serving
from handrail.settings import Settings

compose = serving.build

def build(*given, **named):
    application = compose(*given, **named)

    async def stuck(scope, receive, send):
        if scope["type"] == "lifespan" or scope["path"] != "/stuck":
            return await application(scope, receive, send)
        print("stuck", flush=True)
        {how}

    return stuck

serving.build = build
settings = Settings(port=0, rules=Path("rules"))
serving.serve(settings, os.environ, child=(), announce=lambda url: print(url, flush=True))
"""
NEVER = "await asyncio.Event().wait()"
DEAF = """
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
"""
BLOCKED = "time.sleep(3600)"


@contextmanager
def stuck_server(folder: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "rules").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{how}", how.strip())],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        Thread(target=_ask, args=(f"{url}/stuck",), daemon=True).start()
        assert process.stdout.readline() == "stuck\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _ask(url: str) -> None:
    with suppress(OSError), urllib.request.urlopen(url, timeout=30):
        pass


@pytest.mark.parametrize(("name", "how"), [("never", NEVER), ("deaf", DEAF), ("blocked", BLOCKED)])
def test_it_stops_in_time_with_a_request_that_never_ends(tmp_path: Path, name: str, how: str) -> None:
    with stuck_server(tmp_path, how) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(GRACE + 10)
        taken = time.monotonic() - began
        assert process.stderr is not None
        told = process.stderr.read()
    print(json.dumps({"fault": "F7", "stuck": name, "exit_s": round(taken, 2), "grace_s": GRACE}))
    assert taken <= GRACE + 1 + SPARE
    assert process.returncode == (0 if name == "never" else 1)
    assert name != "blocked" or "in stuck" in told  # the log says where a process was that had to be ended


def test_a_second_signal_means_now(tmp_path: Path) -> None:
    with stuck_server(tmp_path, DEAF) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(AGAIN + 0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(GRACE + 10)
        assert time.monotonic() - began <= NOW_WITHIN + SPARE
