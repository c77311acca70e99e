"""Whole servers for tests: the application as it is composed, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import httpx2
import uvicorn

from handrail import edge
from handrail.app import Application, build
from handrail.serving import address, bind
from handrail.settings import Settings
from handrail.store import Store

GREET = """\
trigger: greet
when: {event: greeted}
then: [{set: {greeted: true}}]
"""


class Serve(Protocol):
    """Starts a server with the settings given, its rules in `folder`, and hands out a client of it."""

    folder: Path

    async def __call__(self, *, store: Store = ..., **settings: Any) -> httpx2.AsyncClient: ...


@asynccontextmanager
async def served(store: Store, rules: Path, **given: Any) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings.from_environ({}, rules=rules, **{"demo": False, **given})
    with bind("127.0.0.1", 0) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        async with (
            listening(build(settings, store=store), listener) as url,
            httpx2.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            yield client


@asynccontextmanager
async def listening(application: Application, listener: socket.socket) -> AsyncIterator[str]:
    config = uvicorn.Config(application, log_config=None, lifespan="on", **edge.options())
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # signals are pytest's
    task = asyncio.create_task(_serve(server, listener))
    while not server.started:
        await asyncio.wait([task], timeout=0.01)
        assert not task.done(), "the server ended before it began; the log says why"
    yield address(listener)
    server.should_exit = True
    await task


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    with suppress(SystemExit):  # how uvicorn says that it could not start
        await server.serve(sockets=[listening])
