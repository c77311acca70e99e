"""`serve --workers 2` as one service: one of its processes stops or is killed, and callers do not notice."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from nodes import RULES, greet

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
PAGES = 100
WITHIN = 120.0  # seconds, on a machine that is busy


class Service:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def children(self) -> list[int]:
        """The processes that serve."""
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(each) for found in lists for each in found.read_text().split()]
        return [pid for pid in pids if b"\0child\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def files(self, pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    async def get(self, path: str) -> httpx2.Response:
        """Over a connection of its own."""
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as client:
            return await client.get(path)

    async def track(self, user: str) -> None:
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as client:
            answer = await client.post("/v1/track", json={"userId": user, "event": "puzzled"})
        assert answer.status_code == 200

    async def figures(self) -> dict[str, float]:
        families = text_string_to_metric_families((await self.get("/metrics")).text)
        return {
            "".join([sample.name, *sample.labels.values()]): sample.value
            for family in families
            for sample in family.samples
        }

    async def complete(self, *, without: int = 0) -> dict[str, float]:
        """The figures when two processes serve, this one not among them."""
        async with asyncio.timeout(WITHIN):
            while (  # noqa: ASYNC110 - what is waited for is in other processes
                figures := await self.figures()
            )["handrail_processes"] != 2 or without in self.children:
                await asyncio.sleep(0.05)
        return figures

    def dial(self) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/updates", compression=None, proxy=None, open_timeout=30)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "rules").mkdir()
    (folder / "rules" / "rules.yaml").write_text(RULES)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "handrail", "serve", "--workers", "2", "--port", "0"],
        cwd=folder,
        env=environ | {"HANDRAIL_DEMO": "off", "HANDRAIL_LOG_LEVEL": "error"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found, "the server did not start"
        yield Service(process, int(found[1]))
    finally:
        process.terminate()
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()


async def test_figures_are_those_of_all_processes_and_outlive_them(service: Service) -> None:
    for number in range(20):
        await service.track(f"u{number}")
    seen = [await service.figures() for _ in range(8)]
    assert {each["handrail_prompts_shown_total"] for each in seen} == {20}
    assert {each["handrail_processes"] for each in seen} == {2}
    before = service.children
    os.kill(before[0], signal.SIGKILL)
    after = await service.complete(without=before[0])
    assert after["handrail_prompts_shown_total"] == 20


async def test_one_that_stops_takes_nobody_in_and_nobody_is_refused(service: Service) -> None:
    await service.complete()
    leaver, stayer = service.children
    idle = service.files(leaver), service.files(stayer)
    pages = await asyncio.gather(*(come(service, f"p{number}") for number in range(PAGES)))
    split = [service.files(pid) - before for pid, before in zip((leaver, stayer), idle, strict=True)]
    os.kill(leaver, signal.SIGTERM)
    answers, codes = Counter[str](), [asyncio.ensure_future(code_of(page)) for page in pages]
    while leaver in service.children:
        answers[await try_once(service)] += 1
        ready = await service.get("/readyz")
        answers[f"readyz {ready.status_code}"] += 1
    await asyncio.wait(codes, timeout=0.5)
    gone = sum(page.close_code == 4001 for page in pages)
    print(
        json.dumps(
            {"fault": "F6", "what": "one of 2 processes stopped", "split": split, "sent_away": gone, "tried": answers}
        )
    )
    assert set(answers) == {"welcome", "readyz 200"}
    assert 0 < gone == split[0]
    await asyncio.gather(*(page.close() for page in pages))
    await asyncio.gather(*codes)


async def come(service: Service, user: str) -> ClientConnection:
    page = await service.dial()
    await greet(page, user)
    return page


async def code_of(page: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await page.recv()
    return page.close_code


async def try_once(service: Service) -> str:
    try:
        async with service.dial() as page:
            return str((await greet(page, "visitor"))["type"])
    except (InvalidHandshake, OSError) as fault:
        return str(fault)
