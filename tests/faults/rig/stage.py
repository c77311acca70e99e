"""The rig: some servers on one store, pages with work to do, and a reckoning at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

import aiohttp

from handrail.store import RedisStore

from .comparing import RULES, compare, program
from .figures import Figures, percentile
from .pages import Page, Tally
from .processes import Server, Valkey
from .proxy import Proxy, between
from .transports import by_socket, by_stream, open_session

STREAMS = 4  # every fourth page uses server-sent events
PUZZLED = 0.1  # share of events that ask for a prompt
TICK = 0.02  # seconds
BUSY = 100  # events of one page under way; beyond it nothing is added
SETTLES_WITHIN = 30.0  # seconds
CONVERGED_S = 5.0  # the goal, on a machine that is not busy otherwise


class Rig:
    """Servers, pages and a store, all started. `here` are the servers that pages may go to, all that run when empty."""

    def __init__(self, folder: Path, store: Valkey, servers: list[Server], session: aiohttp.ClientSession) -> None:
        self.folder, self.store, self.servers, self.session = folder, store, servers, session
        self.tally = Tally()
        self.pages: list[Page] = []
        self.here: list[Server] = []
        self.proxies: list[Proxy] = []
        self.withheld = 0
        self._rules = program()
        self._odd = ""  # the first page that was not as it should be
        self._began = perf_counter()

    def dial(self) -> str:
        """The address of some server that runs. Raises OSError where none does."""
        running = [server for server in self.here or self.servers if server.port]
        if not running:
            raise ConnectionRefusedError("no server runs")
        return random.choice(running).base

    async def post(self, events: list[dict[str, object]], base: str) -> int:
        """What a server-side SDK would send; the status of the answer."""
        limits = aiohttp.ClientTimeout(total=30)
        async with self.session.post(base + "/v1/batch", json={"batch": events}, timeout=limits) as answer:
            await answer.read()
            return answer.status

    @asynccontextmanager
    async def load(self, rate: int) -> AsyncIterator[None]:
        """Have the pages do something, `rate` times a second in all."""
        working = asyncio.create_task(self._work(rate))
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def _work(self, rate: int) -> None:
        began, done = perf_counter(), 0
        while True:
            await asyncio.sleep(TICK)
            due = int((perf_counter() - began) * rate)
            for page in random.choices(self.pages, k=due - done):
                if page.waiting >= BUSY:
                    self.withheld += 1
                elif random.random() < PUZZLED:
                    page.track("puzzled")
                else:
                    page.work()
            done = due

    async def all_live(self, within: float = SETTLES_WITHIN) -> None:
        await until(lambda: all(page.live for page in self.pages), within)

    async def gather_at(self, server: Server) -> None:
        """All pages at one server, with nothing left to say."""
        self.here = [server]
        for page in self.pages:
            page.leave_unless(server.base)
        await until(lambda: all(page.live and page.at == server.base for page in self.pages), SETTLES_WITHIN)
        await until(lambda: not any(page.busy for page in self.pages), SETTLES_WITHIN)

    async def settle(self, figures: Figures, within: float = SETTLES_WITHIN) -> None:
        """The faults are over: within this time every page has to show what the store has. Notes what was found."""
        ended = perf_counter()
        with suppress(TimeoutError):
            await until(lambda: all(page.live and not page.busy for page in self.pages), within)
        store = await RedisStore.connect(self.store.url)
        try:
            found = await self._compare(store)
            while found and perf_counter() - ended < within:
                await asyncio.sleep(0.2)
                found = await self._compare(store)
        finally:
            await store.close()
        self._note(figures, found, perf_counter() - ended)

    async def _compare(self, store: RedisStore) -> Counter[str]:
        now = time.time_ns() // 1_000_000
        total: Counter[str] = Counter()
        self._odd = ""
        for page in self.pages:
            found = await compare(store, self._rules, page, now)
            if found and not self._odd:
                self._odd = f"{page!r}: {dict(found)}"
            total += found
            total["pages not connected"] += not page.live
            total["events never acknowledged"] += page.waiting
        return +total

    def _note(self, figures: Figures, found: Counter[str], seconds: float) -> None:
        tally = self.tally
        figures.note(
            pages=len(self.pages),
            events=sum(len(page.ids) for page in self.pages),
            ran_s=round(perf_counter() - self._began, 1),
            lost_acked=found["lost"],
            doubled=found["doubled"] + found["timers doubled"],
            prompts_shown=tally.counts["prompts shown"],
            prompts_lost=found["prompts lost"],
            torn=found["torn"],
            not_converged=found["pages that differ"] + found["pages not connected"],
            told_twice_raw=tally.counts["messages told twice"],
            wrong=len(tally.wrong),
            connections_lost=tally.counts["connections lost"],
            by_suffix=tally.counts["resumed by suffix"],
            by_snapshot=tally.counts["resumed by snapshot"],
            resume_p99_ms=percentile(tally.resumes, 0.99),
            welcome_p99_ms=percentile(tally.welcomes, 0.99),
            ack_p99_ms=percentile(tally.acks, 0.99),
            converged_s=round(seconds, 1),
        )
        figures.aim("pages showed what the store has after", round(seconds, 1), CONVERGED_S, "s")
        for what, often in found.items():
            figures.expect(not often, f"{what}: {often}")
        figures.broken.extend([self._odd, *tally.wrong[:5]] if self._odd else tally.wrong[:5])


async def until(holds: Callable[[], bool], within: float) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)


@asynccontextmanager
async def rig(
    folder: Path, *, servers: int = 2, pages: int = 40, proxied: bool = False, port: int = 0, **settings: str
) -> AsyncIterator[Rig]:
    """`proxied` puts a proxy between each server and the store; `settings` are the store's, `port` its TCP port."""
    async with AsyncExitStack() as stack:
        store = Valkey(folder, port=port, **settings)
        stack.callback(lambda: store.process.kill())
        session = await stack.enter_async_context(open_session())
        made = Rig(folder, store, [], session)
        for number in range(servers):
            url = store.url
            if proxied:
                at = folder / f"p{number}.sock"
                made.proxies.append(await stack.enter_async_context(between(store.path, at)))
                url = f"unix://{at}"
            made.servers.append(Server(folder, f"server-{number}", url, rules=RULES))
            stack.callback(made.servers[-1].kill)
        await asyncio.gather(*(server.start() for server in made.servers))
        for number in range(pages):
            stream = number % STREAMS == STREAMS - 1
            talk = by_stream(session) if stream else by_socket(session)
            page = Page(f"u{number}", made.dial, talk, made.tally, stream=stream)
            made.pages.append(page)
            running = asyncio.create_task(page.run())
            stack.push_async_callback(_end, running)
        await made.all_live()
        yield made


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
