"""A receiver of webhooks: a real HTTP server on a free port that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from msgspec import Struct

Answer = Callable[["Received"], Awaitable[web.StreamResponse]]


class Received(Struct):
    path: str
    headers: dict[str, str]
    body: bytes
    request: web.Request


class Receiver:
    def __init__(self) -> None:
        self.url = ""
        self.got: list[Received] = []
        self.answers: dict[str, Answer] = {}  # path -> what to answer; anything else gets 204
        self._arrived = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(request.path, dict(request.headers), await request.read(), request)
        async with self._arrived:
            self.got.append(received)
            self._arrived.notify_all()
        answer = self.answers.get(request.path)
        return web.Response(status=204) if answer is None else await answer(received)

    def at(self, path: str) -> list[Received]:
        return [received for received in self.got if received.path == path]

    async def wait(self, path: str, count: int = 1) -> list[Received]:
        """What came to the path, once `count` calls have."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    def answer(self, path: str, *statuses: int, **headers: str) -> None:
        """Answer with each status in turn, the last one for ever."""
        left = list(statuses)

        async def reply(_: Received) -> web.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=left.pop(0) if len(left) > 1 else left[0], headers=named)

        self.answers[path] = reply

    def hang(self, path: str) -> asyncio.Event:
        """Answer nothing until the event is set."""
        release = asyncio.Event()

        async def wait(_: Received) -> web.Response:
            await release.wait()
            return web.Response(status=204)

        self.answers[path] = wait
        return release


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", found.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def until(check: Callable[[], bool]) -> None:
    """Let the loop run until the check holds."""
    async with asyncio.timeout(10):
        while True:
            if check():
                return
            await asyncio.sleep(0.001)
