"""The composition root: the only place that constructs things and starts and stops them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import structlog
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from handrail.core.durations import parse_duration
from handrail.core.events import Alarm
from handrail.core.program import Program
from handrail.core.webhooks import Webhook
from handrail.counts import Counts
from handrail.edge.counting import lend_counts
from handrail.figures import Figures, Sources
from handrail.guard import Guard
from handrail.identity import Identity
from handrail.limits import Limits, bounds_of
from handrail.line import Line
from handrail.live.live import Live
from handrail.live.presence import name_node
from handrail.outbound.webhooks import Courier
from handrail.rulebook import Rulebook
from handrail.runner import Runner
from handrail.settings import Settings
from handrail.signals import GOODBYE_WITHIN, Farewell
from handrail.store import CorruptState, RedisStore, Store
from handrail.supervise import supervise
from handrail.suspects import Suspects
from handrail.timekeeping import StoreTime, wall_clock
from handrail.turns import Committed
from handrail.web import admin, demo, explain, health, metrics, quarantine, static, tail, ticket
from handrail.web.cors import Cors
from handrail.web.ingest import Ingest
from handrail.web.offences import Offences
from handrail.web.problems import on_corrupt_state, on_crash, on_http_error

REFRESH_AT_ONCE = 50  # users who are decided afresh together after the rules changed
REFRESH_PAUSE = 0.02  # seconds between such groups, so that live traffic is not held up

log = structlog.get_logger(__name__)
Loop = Callable[[], Coroutine[Any, Any, None]]


def build(
    settings: Settings,
    *,
    store: Store | None = None,
    clock: Callable[[], int] | None = None,
    environ: Mapping[str, str] | None = None,
    at_work: Path | None = None,
    warned: bool = False,
    line: Line | None = None,
) -> Application:
    """A whole server as an ASGI application; it runs between lifespan startup and shutdown.

    `store` is used as given and left open; without one, `settings.redis_url` is connected to. `clock` gives
    milliseconds since the epoch, by default those of the store. `environ` is what `${NAME}` in webhooks is read from;
    `at_work` is the file in which the processes of this machine note what they are deciding, for the case that one dies
    of it. With `warned`, `preflight` has told what of the store is not as it should be; `line` leads to the parent of a
    process that is one of several. Raises ValueError for a key that is none.
    """
    clock = clock or StoreTime()
    gate = identify(settings, clock)
    return Application(
        settings,
        gate,
        store=store,
        clock=clock,
        environ=environ or {},
        at_work=at_work,
        warned=warned,
        line=line,
    )


async def preflight(settings: Settings, *, warn: bool = True) -> None:
    """See that a server with these settings could start; what of the store is not as it should be is warned of unless
    that was done. Raises ValueError, StoreDown or StoreUnusable."""
    identify(settings, wall_clock)
    assert settings.redis_url is not None
    store = await RedisStore.connect(settings.redis_url, ack=settings.ack, warn=warn)
    await store.close()


def identify(settings: Settings, clock: Callable[[], int]) -> Identity:
    return Identity(
        clock,
        secret=settings.client_secret,
        public_key=settings.client_public_key,
        max_age=parse_duration(settings.token_max_age) if settings.token_max_age else None,
        audience=settings.token_audience,
        write_key=settings.write_key,
        admin_key=settings.admin_key,
        origins=settings.origins,
    )


class Shelf(Struct, frozen=True):
    """The team's rules and, where the demo is on, the demo's own, which its visitors live by and nobody else."""

    team: Rulebook
    demo: Rulebook | None

    @property
    def books(self) -> list[Rulebook]:
        return [self.team, self.demo] if self.demo else [self.team]

    def program(self, user: str) -> Program:
        return (self.demo if self.demo and demo.is_visitor(user) else self.team).program

    def webhooks(self) -> Mapping[str, Webhook] | None:
        """Those of all rules by name; None while the team's rules were never read without a fault."""
        if not self.team.loaded:
            return None
        return {**(self.demo.program.webhooks if self.demo else {}), **self.team.program.webhooks}


class Parts(Struct, frozen=True):
    """What one running process consists of."""

    store: Store
    rules: Shelf
    runner: Runner
    live: Live
    changed: asyncio.Event
    courier: Courier | None

    def switched_off(self) -> list[str]:
        """The triggers that this process leaves out of all decisions."""
        return [name for book in self.rules.books for name in self.runner.guard.switched_off(book.program)]


class Application:
    """Live connections are served as bare ASGI, everything else by Starlette."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        *,
        store: Store | None,
        clock: Callable[[], int],
        environ: Mapping[str, str],
        at_work: Path | None = None,
        warned: bool = False,
        line: Line | None = None,
    ) -> None:
        self.settings = settings
        self.identity = identity
        self.clock = clock
        self.counts = Counts()
        self.limits = Limits(bounds_of(settings), time.monotonic, self.counts)
        self.draining = False
        self._parting = False
        self._given = store
        self._environ = environ
        self._at_work = at_work
        self._warned = warned
        self._line = line
        self._bare: dict[tuple[str, str], ASGIApp] = {}
        self._http: ASGIApp = Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            lend_counts(scope["state"], self.counts)
            return await self._lifespan(receive, send)
        application = self._bare.get((scope["type"], scope["path"]), self._http)
        await application(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Parts]:
        """The server at work: everything is started inside, and stopped in the reverse order."""
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack)
            if isinstance(self.clock, StoreTime):
                await self.clock.look(store)
            parts = self._make(store, self._open_suspects(stack))
            for book in parts.rules.books:
                book.read()
            sources = self._sources(parts)
            if self._line is not None:
                self._line.report = sources.read
                await self._line.open()
                stack.push_async_callback(self._line.close)
            self._bare, self._http = self._mount(parts, sources)
            stack.push_async_callback(parts.live.leave)
            loops = parts.live.tasks() | self._loops(parts)
            tasks = [asyncio.create_task(supervise(name, run), name=name) for name, run in loops.items()]
            stack.push_async_callback(_cancel, tasks)
            stack.push_async_callback(self._part_from, parts.live)
            with Farewell(lambda: self._part_from(parts.live), lambda: self._window(parts.live)):
                yield parts

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        if self._given is not None:
            return self._given
        assert self.settings.redis_url is not None, "a store or its URL is needed"
        store = await RedisStore.connect(self.settings.redis_url, ack=self.settings.ack, warn=not self._warned)
        stack.push_async_callback(store.close)
        return store

    def _open_suspects(self, stack: AsyncExitStack) -> Suspects | None:
        if self._at_work is None:
            return None
        try:
            suspects = Suspects(self._at_work, self.counts)
        except OSError as fault:
            log.warning("an event that kills the process would be tried for ever: no record is kept", why=str(fault))
            return None
        stack.callback(suspects.close)
        return suspects

    def _make(self, store: Store, suspects: Suspects | None) -> Parts:
        changed = asyncio.Event()
        rules = Shelf(
            Rulebook(self.settings.rules, self._environ, on_change=changed.set),
            Rulebook(demo.RULES, self._demo_environ(), on_change=changed.set) if self.settings.with_demo else None,
        )
        node = name_node(timers=self.settings.role != "web")
        guard = Guard(self.counts, suspects)
        runner = Runner(store, rules.program, self.clock, node, guard=guard, counts=self.counts)
        live = Live(runner, self.identity, country_header=self.settings.country_header, limits=self.limits)
        courier = self._courier(store, rules, runner) if self.settings.role != "web" else None
        return Parts(store, rules, runner, live, changed, courier)

    def _demo_environ(self) -> Mapping[str, str]:
        """The demo's e-mails come back to this very server, whose address only it knows."""
        host, port = _own_address(self.settings)
        inbox = f"http://{f'[{host}]' if ':' in host else host}:{port}/demo/inbox"
        return {"HANDRAIL_DEMO_INBOX": inbox, "HANDRAIL_DEMO_SECRET": token_hex(24), **self._environ}

    def _mount(self, parts: Parts, sources: Sources) -> tuple[dict[tuple[str, str], ASGIApp], ASGIApp]:
        routes: list[BaseRoute] = [
            *health.routes(
                parts.store,
                parts.rules.team,
                lambda: self.draining,
                switched_off=parts.switched_off,
                lag=parts.live.lag,
            ),
            *metrics.routes(self._gather(sources), self.identity, guarded=not self.settings.loopback),
        ]
        bare: dict[tuple[str, str], ASGIApp] = {}
        if self.settings.role != "worker":
            bare = {("websocket", "/updates"): parts.live.websocket, ("http", "/updates/sse"): parts.live.sse}
            routes += Ingest(parts.runner, self.identity, self.clock, self.limits).routes()
            routes += ticket.routes(parts.runner, self.identity) + admin.routes(parts.runner, self.identity)
            routes += explain.routes(
                parts.store, parts.rules.program, parts.runner.guard, identity=self.identity, clock=self.clock
            )
            routes += quarantine.routes(parts.store, parts.switched_off, self.identity)
            routes += tail.routes(
                parts.store, parts.rules.program, self.identity, clock=self.clock, draining=lambda: self.draining
            )
            routes += self._pages(parts)
        http = Starlette(
            routes=routes,
            exception_handlers={HTTPException: on_http_error, CorruptState: on_corrupt_state, Exception: on_crash},
            middleware=[Middleware(Cors, identity=self.identity), Middleware(Offences, limits=self.limits)],
        )
        return bare, http

    def _sources(self, parts: Parts) -> Sources:
        timers, lag, courier, clock = parts.live.timers, parts.live.lag, parts.courier, self.clock
        worst: dict[str, Callable[[], float]] = {
            "rules_off": lambda: len(parts.switched_off()),
            "timer_overdue_seconds": lambda: timers.overdue / 1_000,
            "loop_lag_worst_seconds": lambda: lag.worst / 1_000,
        }
        if courier is not None:
            worst["webhook_oldest_seconds"] = lambda: max(0, clock() - (courier.oldest or clock())) / 1_000
        return Sources(
            counts=(self.counts, parts.store.counts),
            sums={"draining": lambda: float(self.draining)},
            worst=worst,
            histograms={"loop_lag_seconds": lag.seen, "timer_lateness_seconds": timers.lateness},
            transports=parts.live.transports,
        )

    def _gather(self, sources: Sources) -> Callable[[], Awaitable[Figures]]:
        async def own() -> Figures:
            return sources.read()

        return own if self._line is None else self._line.gather

    def _pages(self, parts: Parts) -> list[BaseRoute]:
        pages: list[BaseRoute] = [*static.serve_folder("/client", static.client_folder(), any_origin=True)]
        if self.settings.with_demo:
            pages += [Route("/", _to_demo), *self._demo(parts)]
        return pages

    def _demo(self, parts: Parts) -> list[Route]:
        return demo.routes(parts.store, parts.rules.program, clock=self.clock, draining=lambda: self.draining)

    def _loops(self, parts: Parts) -> dict[str, Loop]:
        """What runs beside the live side, by name."""
        loops: dict[str, Loop] = {f"rules-{number}": book.watch for number, book in enumerate(parts.rules.books)}
        loops["refresh"] = lambda: _refresh(parts)
        if self._line is not None:
            loops["parent"] = self._line.run
        if isinstance(self.clock, StoreTime):
            loops["clock"] = partial(self.clock.follow, parts.store)
        if parts.courier is not None:
            loops["webhooks"] = parts.courier.run
        return loops

    def _courier(self, store: Store, rules: Shelf, runner: Runner) -> Courier:
        courier = Courier(
            store,
            rules.webhooks,
            clock=self.clock,
            allow_private=self.settings.webhook_allow_private,
            own=_own_address(self.settings) if self.settings.with_demo else None,
            counts=self.counts,
        )
        runner.on_commit(lambda committed: _poke(courier, committed))
        return courier

    async def _part_from(self, live: Live) -> None:
        """Tell whoever is connected to go elsewhere; once."""
        if not self._parting:
            self._parting = True
            if self._line is not None:
                await self._line.leave()
            self.draining = True
            await live.drain(window_ms=self.settings.drain_ms, within=GOODBYE_WITHIN)

    def _window(self, live: Live) -> float:
        return live.drain_window(self.settings.drain_ms) / 1_000


def _own_address(settings: Settings) -> tuple[str, int]:
    return "127.0.0.1" if settings.host.lower() == "localhost" else settings.host.strip("[]"), settings.port


def _poke(courier: Courier, committed: Committed) -> None:
    if committed.jobs:
        courier.poke()


async def _refresh(parts: Parts) -> None:
    """After the rules changed, have everybody who is connected here decided afresh, a few at a time."""
    while True:
        await parts.changed.wait()
        parts.changed.clear()
        users = parts.live.users()
        for start in range(0, len(users), REFRESH_AT_ONCE):
            turns = []
            for user in users[start : start + REFRESH_AT_ONCE]:
                turns.append(parts.runner.submit(user, Alarm(at=parts.runner.clock())))
                await asyncio.sleep(0)  # each judges all segments afresh: others get their turn in between
            await asyncio.gather(*turns, return_exceptions=True)
            await asyncio.sleep(REFRESH_PAUSE)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _to_demo(_request: object) -> RedirectResponse:
    return RedirectResponse("/demo")
