"""Pages as browsers have them, many at once, over WebSocket or server-sent events.

They come back by themselves, resume, send again what was not acknowledged, and remember what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import aiohttp
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

FIRST, LONGEST = 0.3, 5.0  # seconds: the browser client's own
PATIENCE = 10.0


class Tally:
    """What all pages met."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()  # how connections ended
        self.refused: Counter[int] = Counter()  # handshakes, by status
        self.untimed = 0  # of these, 503 without a moment to come back at
        self.errors = 0  # dials that met nobody
        self.goodbyes: list[tuple[str, float]] = []  # from where, and when
        self.handshakes: list[float] = []  # seconds from dialling to welcome
        self.repeats = 0  # messages told again by a resume

    def p99(self, values: list[float]) -> float:
        return sorted(values)[int(len(values) * 0.99)] if values else 0.0


class Page:
    """`where` names the server to dial; None while there is none."""

    def __init__(self, user: str, where: Callable[[], str | None], tally: Tally, *, stream: bool = False) -> None:
        self.user, self.stream, self.live = user, stream, False
        self.epoch, self.offset, self.failures, self.snapshots = "", 0, 0, 0
        self.waiting: dict[str, str] = {}  # id -> event that is not acknowledged
        self.shown: Counter[str] = Counter()  # prompts by id
        self.top: str | None = None  # what the slot says
        self.at = ""
        self.acks: list[float] = []
        self._made: dict[str, float] = {}
        self._where, self._tally = where, tally
        self._say: Callable[[str], Awaitable[None]] | None = None
        self._wait: float | None = None
        self._dialled = 0.0

    async def run(self) -> None:
        while True:
            self.at, self._dialled, self._wait = self._where() or "", perf_counter(), None
            with suppress(OSError, TimeoutError, aiohttp.ClientError, ConnectionClosed):
                if self.at:
                    await (self._listen() if self.stream else self._converse())
            self.live, self._say = False, None
            self.failures += 1
            backoff = random.random() * min(LONGEST, FIRST * 2 ** (self.failures - 1))
            await asyncio.sleep(backoff if self._wait is None else self._wait)

    async def track(self, name: str, number: int) -> None:
        event = f"{self.user}-{number}"
        self.waiting[event] = msgspec.json.encode(
            {"type": "track", "id": event, "name": name, "properties": {"n": number}}
        ).decode()
        self._made[event] = perf_counter()
        if self._say is not None:
            with suppress(ConnectionClosed):
                await self._say(self.waiting[event])

    async def _converse(self) -> None:
        url = self.at.replace("http", "ws") + "/updates" + ("?resume=1" if self.epoch else "")
        try:
            socket = await connect(url, compression=None, proxy=None, open_timeout=PATIENCE, max_queue=None)
        except InvalidStatus as refused:
            self._refused(refused.response.status_code, refused.response.headers.get("Retry-After"), seen=False)
            return
        except OSError:
            self._tally.errors += 1
            raise
        try:
            await self._hear(socket)
        except ConnectionClosed:
            self._tally.codes[socket.close_code or 1006] += 1
        finally:
            await socket.close()

    async def _hear(self, socket: ClientConnection) -> None:
        hello: dict[str, Any] = {"type": "hello", "user_id": self.user}
        if self.epoch:
            hello |= {"epoch": self.epoch, "offset": self.offset}
        await socket.send(msgspec.json.encode(hello).decode())
        while True:
            message = msgspec.json.decode(await socket.recv())
            self.take(message)
            if message["type"] == "welcome":
                self._say = socket.send
                for event in list(self.waiting.values()):
                    await socket.send(event)

    async def _listen(self) -> None:
        place = f"&epoch={self.epoch}&offset={self.offset}" if self.epoch else ""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.at}/updates/sse?user_id={self.user}{place}") as answer,
        ):
            if answer.status != 200:
                self._refused(answer.status, answer.headers.get("Retry-After"), seen=True)
                return
            async for line in answer.content:
                if line.startswith(b"data: "):
                    self.take(msgspec.json.decode(line[6:]))

    def _refused(self, status: int, wait: str | None, *, seen: bool) -> None:
        self._tally.refused[status] += 1
        self._tally.untimed += wait is None
        if seen and wait:
            self._wait = float(wait)

    def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "welcome":
                self._tally.handshakes.append(perf_counter() - self._dialled)
                self.live, self.failures = True, 0
                if not message["recovered"]:
                    self._restart(message)
            case "prompt" | "content":
                self._follow(message)
            case "ack":
                self._acknowledged(message["up_to"])
            case "bye":
                self._tally.goodbyes.append((self.at, perf_counter()))
                self._wait = message["reconnect_ms"] / 1_000

    def _restart(self, message: dict[str, Any]) -> None:
        self.snapshots += 1
        self.epoch, self.offset = message["epoch"], message["offset"]
        self.top = title(message["slots"].get("top"))
        self.shown.update({prompt["id"]: 1 for prompt in message["prompts"] if prompt["id"] not in self.shown})

    def _follow(self, message: dict[str, Any]) -> None:
        if message["offset"] <= self.offset:
            self._tally.repeats += 1
            return
        assert message["offset"] == self.offset + 1, "a message was passed over"
        self.offset = message["offset"]
        if message["type"] == "prompt":
            self.shown[message["id"]] += 1
        else:
            self.top = title(message["block"])

    def _acknowledged(self, up_to: str) -> None:
        if up_to not in self.waiting:
            return
        for event in list(self.waiting):
            del self.waiting[event]
            self.acks.append(perf_counter() - self._made.pop(event))
            if event == up_to:
                return


def title(block: dict[str, Any] | None) -> str | None:
    return block["title"] if block else None


async def until(holds: Callable[[], bool], within: float) -> float:
    """Seconds until something holds. Raises TimeoutError."""
    began = perf_counter()
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)
    return perf_counter() - began
