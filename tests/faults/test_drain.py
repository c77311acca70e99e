"""F6, F40, F41, F52: servers that stop under load, pages that return in storms, a user in many tabs, a flood."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from crowd import Page, Tally, until

from handrail.core.state import State
from handrail.signals import AGAIN, GOODBYE_WITHIN, REQUESTS_WITHIN
from handrail.store import Embedded, RedisStore, Store
from nodes import RULES

STARTS_WITHIN = 60.0  # seconds, on a machine that is busy
GRACE = GOODBYE_WITHIN + REQUESTS_WITHIN


class Server:
    """One `handrail serve` on a store of its own choosing; its port stays when it is started again."""

    def __init__(self, folder: Path, redis: str, **environ: str) -> None:
        (folder / "rules").mkdir(exist_ok=True)
        (folder / "rules" / "rules.yaml").write_text(RULES)
        self._folder, self._port = folder, "0"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}
        settings = {"HANDRAIL_DEMO": "off", "HANDRAIL_LOG_LEVEL": "error", "HANDRAIL_REDIS_URL": redis}
        self._environ = inherited | settings | environ
        self.url = ""
        self.accepts = False  # what a load balancer goes by

    async def start(self) -> None:
        command = [sys.executable, "-m", "handrail", "serve", "--port", self._port]
        self.process = await asyncio.to_thread(self._begin, command)
        assert self.process.stdout is not None
        async with asyncio.timeout(STARTS_WITHIN):
            line = await asyncio.to_thread(self.process.stdout.readline)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, "the server did not start"
        self.url, self._port, self.accepts = found[0], found[1], True

    def _begin(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self._folder, env=self._environ, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    async def stop(self) -> float:
        """SIGTERM; seconds until it has ended."""
        began, self.accepts = perf_counter(), False
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 60) == 0
        self.end()
        return perf_counter() - began

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@asynccontextmanager
async def running(folder: Path, redis: str, many: int, **environ: str) -> AsyncIterator[list[Server]]:
    servers = [Server(folder, redis, **environ) for _ in range(many)]
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield servers
    finally:
        for server in servers:
            server.end()


@asynccontextmanager
async def browsing(pages: list[Page]) -> AsyncIterator[None]:
    """The pages, connecting and coming back; each starts at a moment of its own."""
    tasks = [asyncio.get_running_loop().create_task(page.run()) for page in pages]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        faults = await asyncio.gather(*tasks, return_exceptions=True)
        for fault in faults:
            assert isinstance(fault, asyncio.CancelledError), fault


def balance(servers: list[Server]) -> Callable[[], str | None]:
    def choose() -> str | None:
        able = [server.url for server in servers if server.accepts]
        return random.choice(able) if able else None

    return choose


async def work(pages: list[Page], pause: float) -> None:
    """Each page has something happen now and then."""
    for number in count():
        page = pages[number % len(pages)]
        await page.track("greeted", number)
        await asyncio.sleep(pause)


async def read(store: Store, user: str) -> State:
    state = await store.load(user)
    assert state is not None
    return state


def tell(**figures: Any) -> None:
    print(json.dumps({name: round(each, 3) if isinstance(each, float) else each for name, each in figures.items()}))


def crowding(moments: list[float]) -> float:
    """How many times the mean the fullest tenth of the time between first and last has."""
    first, last = min(moments), max(moments)
    bins = Counter(min(int((moment - first) / (last - first + 1e-9) * 10), 9) for moment in moments)
    return max(bins.values()) / (len(moments) / 10)


async def roll(store: Store, valkey: Embedded, folder: Path, *, many: int, pause: float) -> None:
    """Stop and start three servers in turn while pages are at work."""
    tally, taken, crowded = Tally(), [], []
    async with running(folder, valkey.url, 3) as servers:
        pages = [Page(f"u{number}", balance(servers), tally) for number in range(many)]
        async with browsing(pages):
            await until(lambda: all(page.live for page in pages), STARTS_WITHIN)
            working = asyncio.create_task(work(pages, pause))
            for server in servers:
                before = len(tally.goodbyes)
                taken.append(await server.stop())
                crowded.append(crowding([at for _, at in tally.goodbyes[before:]]))
                await server.start()
                await until(lambda: all(page.live for page in pages), STARTS_WITHIN)
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            await until(lambda: not any(page.waiting for page in pages), STARTS_WITHIN)
            states = {page.user: await read(store, page.user) for page in pages}
            with suppress(TimeoutError):
                await until(lambda: all(page.offset == states[page.user].offset for page in pages), 20)
        lost = sum(len(page.acks) - states[page.user].offset for page in pages)
        tell(
            fault="F6",
            pages=many,
            events=sum(len(page.acks) for page in pages),
            lost=max(lost, 0),
            doubled=max(-lost, 0),
            behind=sum(states[page.user].offset - page.offset for page in pages),
            told_twice=tally.repeats,
            codes=dict(tally.codes),
            refused=dict(tally.refused),
            snapshots=sum(page.snapshots for page in pages) - many,
            fullest_bin=max(crowded),
            exit_s=max(taken),
        )
    assert lost == 0
    assert all(page.offset == states[page.user].offset for page in pages)
    assert set(tally.codes) <= {4001}
    assert not tally.refused
    assert sum(page.snapshots for page in pages) == many  # the first welcome of each, and no other
    assert max(taken) <= many / 3 * 2 / 50 + GRACE + 1


async def test_a_rolling_restart_loses_and_doubles_nothing(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    await roll(store, valkey, tmp_path, many=120, pause=0.01)


async def test_ctrl_c_lets_every_process_say_goodbye(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    """A terminal tells the whole group, and the parent tells its children once more: that is one signal, not two."""
    tally = Tally()
    async with running(tmp_path, valkey.url, 1, HANDRAIL_WORKERS="2") as (server,):
        pages = [Page(f"u{number}", balance([server]), tally) for number in range(80)]
        async with browsing(pages):
            await until(lambda: all(page.live for page in pages), STARTS_WITHIN)
            server.accepts = False
            os.killpg(server.process.pid, signal.SIGINT)
            assert await asyncio.to_thread(server.process.wait, STARTS_WITHIN) == 0
    assert tally.codes == {4001: 80}


async def test_a_second_ctrl_c_still_leaves_the_process_clean(
    store: RedisStore, valkey: Embedded, tmp_path: Path
) -> None:
    tally = Tally()
    async with running(tmp_path, valkey.url, 1, HANDRAIL_DRAIN="10s") as (server,):
        pages = [Page(f"u{number}", balance([server]), tally) for number in range(150)]
        async with browsing(pages):
            await until(lambda: all(page.live for page in pages), STARTS_WITHIN)
            server.accepts = False
            server.process.send_signal(signal.SIGINT)
            await asyncio.sleep(AGAIN + 0.2)
            server.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(server.process.wait, STARTS_WITHIN) == 0
        assert not await store.nodes()  # it gave up its name, and did not leave that to others


@pytest.mark.long
async def test_a_rolling_restart_with_many(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    await roll(store, valkey, tmp_path, many=1_000, pause=0.01)


async def storm(store: Store, valkey: Embedded, folder: Path, *, many: int, servers: int, rate: int) -> None:
    """Everybody loses their connection at once, and some who were never there come, too."""
    tally = Tally()
    async with running(folder, valkey.url, servers, HANDRAIL_HANDSHAKE_RATE=str(rate)) as started:
        pages = [Page(f"u{n}", balance(started), tally, stream=n % 10 == 0) for n in range(many)]
        newcomers = [Page(f"n{n}", balance(started), tally) for n in range(many // 10)]
        async with browsing(pages):
            await until(lambda: all(page.live for page in pages), 4 * STARTS_WITHIN)
            tally.handshakes.clear()
            tally.refused.clear()
        for page in pages:
            page.live, page.failures = False, 0
        async with browsing(pages + newcomers):
            back = await until(lambda: all(page.live for page in pages), 4 * STARTS_WITHIN)
            in_by_now = sum(page.live for page in newcomers)
            everybody = back + await until(lambda: all(page.live for page in newcomers), 4 * STARTS_WITHIN)
        alive = sum(server.process.poll() is None for server in started)
    tell(
        fault="F40",
        pages=many,
        newcomers=len(newcomers),
        servers=servers,
        rate=rate,
        back_s=back,
        everybody_s=everybody,
        newcomers_in_by_then=in_by_now,
        handshake_p99_s=tally.p99(tally.handshakes),
        refused=dict(tally.refused),
        untimed=tally.untimed,
        errors=tally.errors,
        alive=alive,
    )
    assert alive == servers
    assert set(tally.refused) <= {503}
    assert not tally.untimed
    assert not tally.errors
    assert all(page.snapshots == 1 for page in pages)


async def test_a_storm_becomes_a_queue(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    await storm(store, valkey, tmp_path, many=500, servers=1, rate=150)


@pytest.mark.long
async def test_a_storm_of_thousands(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    await storm(store, valkey, tmp_path, many=8_000, servers=2, rate=500)


async def test_fifty_tabs_of_one_user_all_show_the_same(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    tally = Tally()
    async with running(tmp_path, valkey.url, 2) as servers:
        tabs = [Page("ada", balance(servers), tally, stream=number % 2 == 1) for number in range(50)]
        sender = next(tab for tab in tabs if not tab.stream)
        async with browsing(tabs):
            await until(lambda: all(tab.live for tab in tabs), STARTS_WITHIN)
            await sender.track("puzzled", 0)
            for number in range(1, 21):
                await sender.track("greeted", number)
            await until(lambda: not sender.waiting, STARTS_WITHIN)
            await servers[1].stop()  # about half of them go on elsewhere, in the middle of it
            for number in range(21, 41):
                await sender.track("greeted", number)
            await until(lambda: all(tab.live for tab in tabs) and not sender.waiting, STARTS_WITHIN)
            state = await read(store, "ada")
            converged = await until(lambda: all(tab.offset == state.offset for tab in tabs), 20)
    tell(
        fault="F41",
        tabs=len(tabs),
        streams=sum(tab.stream for tab in tabs),
        prompts=len({prompt for tab in tabs for prompt in tab.shown}),
        shown_twice=sum(shown > 1 for tab in tabs for shown in tab.shown.values()),
        differ=len({(tab.top, tab.offset, tuple(tab.shown)) for tab in tabs}) - 1,
        converged_s=converged,
        told_twice=tally.repeats,
        codes=dict(tally.codes),
    )
    assert {tab.top for tab in tabs} == {"Hello 40"}
    assert state.prompt is not None
    assert {tuple(tab.shown.items()) for tab in tabs} == {((state.prompt.prompt.id, 1),)}


# Frames as they are on the wire, masked with nought, a hundred at once: flooding costs next to nothing.
FLOOD = """
import socket, sys, time

def frame(text):
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text.encode()

def upgrade(port):
    opened = socket.create_connection(("127.0.0.1", port))
    opened.sendall(b"GET /updates HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n")
    opened.recv(4096)
    opened.sendall(frame('{"type": "hello", "user_id": "flood"}'))
    return opened

number, until = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    try:
        with upgrade(int(sys.argv[1])) as flood:
            while time.monotonic() < until:
                flood.sendall(b"".join(frame('{"type": "track", "id": "f%d", "name": "puzzled"}' % n)
                    for n in range(number, number + 100)))
                number += 100
                time.sleep(0.01)
    except OSError:
        time.sleep(0.1)
print(number)
"""
SAMPLE = 5.0  # seconds
FLOODED_WITHIN = 2.0  # seconds: whatever else a machine does; the figures say how it was


async def test_a_flood_of_one_user_is_held_back(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    tally = Tally()
    async with running(tmp_path, valkey.url, 1, HANDRAIL_MESSAGE_RATE="100") as servers:
        pages = [Page(f"u{number}", balance(servers), tally) for number in range(20)]
        async with browsing(pages):
            await until(lambda: all(page.live for page in pages), STARTS_WITHIN)
            working = asyncio.create_task(work(pages, 0.01))
            quiet = await sample(pages, tally)
            port = servers[0].url.rpartition(":")[2]
            flood = await asyncio.create_subprocess_exec(
                sys.executable, "-c", FLOOD, port, str(2 * SAMPLE + 2), stdout=asyncio.subprocess.PIPE
            )
            burst = await sample(pages, tally)
            flooded = await sample(pages, tally)
            sent, _ = await flood.communicate()
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            flooder = await read(store, "flood")
    tell(
        fault="F52",
        sent=int(sent),
        taken=len(flooder.seen),
        quiet_p99_ms=quiet * 1_000,
        burst_p99_ms=burst * 1_000,  # while it still has what it may send at once
        flooded_p99_ms=flooded * 1_000,
        times=flooded / quiet,
    )
    assert len(flooder.seen) <= 1_200 + 100 * (2 * SAMPLE + 4)
    assert int(sent) > 4 * len(flooder.seen)
    assert max(burst, flooded) <= FLOODED_WITHIN
    assert not tally.codes


async def sample(pages: list[Page], tally: Tally) -> float:
    for page in pages:
        page.acks.clear()
    await asyncio.sleep(SAMPLE)
    return tally.p99([each for page in pages for each in page.acks])
