"""A process of the server without its HTTP pages: real sockets, real store, real rules; only the clock can be moved."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from handrail import edge
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.edge.sockets import harden
from handrail.identity import Identity
from handrail.limits import Limits
from handrail.live.hub import STALL
from handrail.live.live import Live
from handrail.runner import Runner
from handrail.store import Store

RULES = """
trigger: greet
when: {event: greeted}
then:
  - content: {slot: top, message: hello}
---
trigger: offer
when: {event: puzzled}
then:
  - prompt: help
---
trigger: brief
when: {event: hurried}
then:
  - prompt: flash
---
trigger: stuck
when: {idle: 3m}
then:
  - prompt: help
---
message: hello
kind: inline
title: "Hello {{ event.properties.n | default('') }}"
---
message: help
kind: modal
title: Need a hand?
---
message: flash
kind: toast
title: Now or never
expires: 10s
"""


def program_of(text: str) -> Program:
    loaded = load({"rules.yaml": text}, {})
    assert loaded.program is not None, loaded.problems
    return loaded.program


PROGRAM = program_of(RULES)


class Clock:
    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


Start = Callable[..., Awaitable["Node"]]


class Node:
    """One process: `live` and `runner` inside, `url` and `port` outside."""

    def __init__(self, runner: Runner, live: Live, port: int) -> None:
        self.runner = runner
        self.live = live
        self.store = runner.store
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/updates"

    def dial(self, **options: Any) -> connect:
        return connect(self.url, subprotocols=["handrail.v1"], compression=None, proxy=None, **options)  # type: ignore[list-item]


@asynccontextmanager
async def run_node(
    store: Store,
    clock: Callable[[], int],
    name: str,
    *,
    gate: Identity | None = None,
    stall: float = STALL,
    limits: Limits | None = None,
) -> AsyncIterator[Node]:
    runner = Runner(store, lambda _user: PROGRAM, clock, name)
    live = Live(runner, gate or Identity(clock), stall=stall, limits=limits)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (live.websocket if scope["type"] == "websocket" else live.sse)(scope, receive, send)

    listening = harden(socket.create_server(("127.0.0.1", 0)))
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="error",
        timeout_graceful_shutdown=3,
        **edge.options(),
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.001)
    try:
        yield Node(runner, live, listening.getsockname()[1])
    finally:
        await live.drain(window_ms=0, within=2)
        server.should_exit = True
        await serving
        await live.leave()


async def say(client: ClientConnection, kind: str, **fields: Any) -> None:
    await client.send(msgspec.json.encode({"type": kind, **fields}).decode())


async def hear(client: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next message, or the next of these types."""
    async with asyncio.timeout(5):
        while True:
            message: dict[str, Any] = msgspec.json.decode(await client.recv())
            if not kinds or message["type"] in kinds:
                return message


async def greet(client: ClientConnection, user: str, **fields: Any) -> dict[str, Any]:
    await say(client, "hello", user_id=user, **fields)
    return await hear(client, "welcome")


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the server, which has no event for it
            await asyncio.sleep(0.002)


async def eventually(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Ask until the answer is the expected one."""
    async with asyncio.timeout(5):
        while await ask() != expected:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
