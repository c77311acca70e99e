"""Whole servers for tests: the application as it is composed, on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import httpx2
import uvicorn

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
    async with (
        listening(build(settings, store=store)) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


@asynccontextmanager
async def listening(application: Application) -> AsyncIterator[str]:
    with bind("127.0.0.1", 0) as socket:
        config = uvicorn.Config(application, http="httptools", ws="websockets-sansio", log_config=None, lifespan="on")
        server = uvicorn.Server(config)
        server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # signals are pytest's
        task = asyncio.create_task(server.serve(sockets=[socket]))
        while not server.started:
            await asyncio.wait([task], timeout=0.01)
            if task.done():
                task.result()
                raise AssertionError("the server ended before it began")
        yield address(socket)
        server.should_exit = True
        await task
