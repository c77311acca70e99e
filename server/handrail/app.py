"""The composition root: the only place that constructs things and starts and stops them."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from handrail.core.events import Alarm
from handrail.identity import Identity
from handrail.live.hub import Hub
from handrail.outbound.webhooks import Courier
from handrail.rulebook import Rulebook
from handrail.runner import Runner
from handrail.settings import Settings
from handrail.store import RedisStore, Store
from handrail.supervise import supervise
from handrail.web import demo, health, static
from handrail.web.cors import Cors
from handrail.web.ingest import Ingest
from handrail.web.problems import on_crash, on_http_error

REFRESH_AT_ONCE = 50  # users who are told of changed rules together
REFRESH_PAUSE = 0.02  # seconds between such groups, so that live traffic is not held up


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


def build(
    settings: Settings,
    *,
    store: Store | None = None,
    clock: Callable[[], int] = wall_clock,
    environ: Mapping[str, str] | None = None,
) -> Application:
    """A whole server as an ASGI application; it runs between lifespan startup and shutdown.

    `store` is used as given and left open; without one, `settings.redis_url` is connected to. `environ` is what
    `${NAME}` in webhooks is read from. Raises ValueError for keys that are none.
    """
    return Application(settings, _identity(settings, clock), store, clock, environ or {})


async def preflight(settings: Settings) -> None:
    """See that a server with these settings could start. Raises ValueError, StoreDown or StoreUnusable."""
    _identity(settings, wall_clock)
    assert settings.redis_url is not None
    store = await RedisStore.connect(settings.redis_url)
    await store.close()


class Application:
    """Dispatches what the server hands over: live connections as bare ASGI, the rest to Starlette."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        store: Store | None,
        clock: Callable[[], int],
        environ: Mapping[str, str],
    ) -> None:
        self.settings = settings
        self.identity = identity
        self.clock = clock
        self.closing = asyncio.Event()
        self._given = store
        self._environ = environ
        self._paths: dict[tuple[str, str], ASGIApp] = {}
        self._http: ASGIApp = Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live_and_die(receive, send)
        application = self._paths.get((scope["type"], scope["path"]), self._http)
        await application(scope, receive, send)

    def begin_closing(self) -> None:
        """Say goodbye to whoever is connected; `/readyz` answers 503 from now on."""
        self.closing.set()

    async def _live_and_die(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._running())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.begin_closing()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            store = self._given or await self._open_store(stack)
            changed = asyncio.Event()
            rulebook = Rulebook(self._rule_folders(), self._environ, on_change=changed.set)
            rulebook.read()
            runner = Runner(store, lambda: rulebook.program, self.clock, f"node-{token_hex(6)}")
            stack.push_async_callback(runner.drain)
            tasks = self._assemble(store, rulebook, runner, changed)
            running = [asyncio.create_task(supervise(name, run), name=name) for name, run in tasks.items()]
            stack.push_async_callback(_cancel, running)
            with _heeding_signals(self.begin_closing):
                yield

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        assert self.settings.redis_url is not None, "a store or its URL is needed"
        store = await RedisStore.connect(self.settings.redis_url)
        stack.push_async_callback(store.close)
        return store

    def _rule_folders(self) -> tuple[Path, ...]:
        return (self.settings.rules, demo.RULES) if self.settings.with_demo else (self.settings.rules,)

    def _assemble(
        self, store: Store, rulebook: Rulebook, runner: Runner, changed: asyncio.Event
    ) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Make the parts this role needs; the tasks that are to run, by name."""
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {"rules": rulebook.watch}
        routes: list[BaseRoute] = [*health.routes(store, rulebook, self.closing.is_set)]
        if self.settings.role != "worker":
            hub = Hub(runner)
            routes += self._pages(store)
            routes += Ingest(runner, self.identity, self.clock).routes()
            tasks["hub"] = hub.run
            tasks["refresh"] = lambda: _refresh(changed, hub, runner)
        if self.settings.role != "web":
            courier = Courier(
                store,
                lambda: rulebook.program.webhooks if rulebook.loaded else None,
                clock=self.clock,
                allow_private=self.settings.webhook_allow_private,
            )
            tasks["webhooks"] = courier.run
        self._http = Starlette(
            routes=routes,
            exception_handlers={HTTPException: on_http_error, Exception: on_crash},
            middleware=[Middleware(Cors, identity=self.identity)],
        )
        return tasks

    def _pages(self, store: Store) -> list[BaseRoute]:
        pages: list[BaseRoute] = [*static.serve_folder("/client", static.client_folder(), any_origin=True)]
        if self.settings.with_demo:
            pages += [Route("/", lambda _request: RedirectResponse("/demo")), *demo.routes(store, self.clock, self.closing.is_set)]
        return pages


async def _refresh(changed: asyncio.Event, hub: Hub, runner: Runner) -> None:
    """After the rules changed, have everybody who is connected decided afresh, a few at a time."""
    while True:
        await changed.wait()
        changed.clear()
        users = hub.users()
        for start in range(0, len(users), REFRESH_AT_ONCE):
            group = users[start : start + REFRESH_AT_ONCE]
            turns = [runner.submit(user, Alarm(at=runner.clock())) for user in group]
            await asyncio.gather(*turns, return_exceptions=True)
            await asyncio.sleep(REFRESH_PAUSE)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _heeding_signals:  # noqa: N801  # reads as what it does
    """While open, SIGTERM and SIGINT also call `hear`, before whoever handled them until then."""

    def __init__(self, hear: Callable[[], None]) -> None:
        self._hear = hear
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._handler(loop, before))

    def _handler(self, loop: asyncio.AbstractEventLoop, before: Callable[..., Any]) -> Callable[[int, Any], None]:
        def handle(number: int, frame: Any) -> None:
            loop.call_soon_threadsafe(self._hear)
            before(number, frame)

        return handle

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


def _identity(settings: Settings, clock: Callable[[], int]) -> Identity:
    return Identity(
        clock,
        secret=settings.client_secret,
        public_key=settings.client_public_key,
        write_key=settings.write_key,
        admin_key=settings.admin_key,
        origins=settings.origins,
    )
