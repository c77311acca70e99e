"""Servers that are killed, or stopped for a while and go on as if nothing had been."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

from handrail.store import RedisStore

from .figures import Figures, percentile
from .stage import Rig, rig, until

DELAY_MS = 3_000  # of the rule `remind`
PARKED = 20.0  # seconds, of the rule `wake`
NOTICED = 3.0  # seconds after which a balancer sends nobody to a server that does not answer
COMMITS_WITHIN = 0.5  # seconds for what pages just sent to reach the store
ORPHANED_MS = 2_000  # within which another server does what a killed one left


async def f1(folder: Path, *, kills: int = 2, rate: int = 150, pages: int = 40, every: float = 1.5) -> Figures:
    """kill -9 of one server after another under load; each is started again at once."""
    figures = Figures("F1")
    async with rig(folder, servers=3, pages=pages) as made:
        async with made.load(rate):
            for number in range(kills):
                await asyncio.sleep(every)
                victim = made.servers[number % len(made.servers)]
                victim.kill()
                await victim.start()
        await made.settle(figures)
        figures.note(kills=kills, withheld=made.withheld)
    return figures


async def f2(folder: Path, *, rounds: int = 2, pages: int = 60) -> Figures:
    """kill -9 after the commit and before its answer: what was sent again gets the first result."""
    figures = Figures("F2")
    written = 0
    async with rig(folder, servers=2, pages=pages, proxied=True) as made:
        for number in range(rounds):
            await made.gather_at(made.servers[number % 2])
            await _warm(made)
            written += await _kill_before_answer(made, number % 2)
            await made.servers[number % 2].start()
        await made.settle(figures)
        figures.note(rounds=rounds, committed_not_acked=written)
        figures.expect(written >= rounds * pages // 2, f"only {written} commits were left without an answer")
    return figures


async def _warm(made: Rig) -> None:
    """Have the server know every user's newest state, so that the next event of each is a commit at once."""
    for page in made.pages:
        page.work()
    await until(lambda: not any(page.busy for page in made.pages), 10)


async def _kill_before_answer(made: Rig, number: int) -> int:
    """How many events the store had whose senders were never told."""
    victim, proxy = made.servers[number], made.proxies[number]
    proxy.mute()
    for page in made.pages:
        page.work()
    async with asyncio.timeout(5):
        await proxy.asked.wait()
    await asyncio.sleep(COMMITS_WITHIN)
    victim.kill()
    proxy.reset()
    made.here = [made.servers[1 - number]]
    store = await RedisStore.connect(made.store.url)
    try:
        states = await asyncio.gather(*(store.load(page.user) for page in made.pages))
    finally:
        await store.close()
    return sum(
        state is not None and page.waiting > 0 and page.ids[-1] in state.seen
        for page, state in zip(made.pages, states, strict=True)
    )


async def f3(folder: Path, *, rounds: int = 1, pages: int = 40) -> Figures:
    """kill -9 of a server that has taken up due timers and not yet committed what comes of them."""
    figures = Figures("F3")
    async with rig(folder, servers=3, pages=pages, proxied=True) as made:
        for number in range(rounds):
            armed = perf_counter()
            for page in made.pages:
                page.track("armed")
            await until(lambda: not any(page.busy for page in made.pages), 2.5)
            victim = made.servers[number % 3]
            await asyncio.sleep(armed + DELAY_MS / 1000 - 0.05 - perf_counter())
            made.proxies[number % 3].up = "drop"  # it decides, and its commits come to nothing
            await asyncio.sleep(0.3)
            victim.kill()
            made.proxies[number % 3].reset()
            await victim.start()
        await made.settle(figures)
        late = await _lateness(made)
        figures.note(timers=rounds * pages, late_p50_ms=percentile(late, 0.5), late_p99_ms=percentile(late, 0.99))
        figures.expect(len(late) == rounds * pages, f"{len(late)} of {rounds * pages} timers fired")
        figures.bound("timers were late by", percentile(late, 0.99), ORPHANED_MS, "ms")
        figures.expect(not late or min(late) >= 0, "a timer fired early")
    return figures


async def _lateness(made: Rig) -> list[float]:
    """How late each reminder came, in ms, as the event log has it."""
    store = await RedisStore.connect(made.store.url)
    try:
        return [float(now - due) async for now, due in _fired(store, "remind")]
    finally:
        await store.close()


async def _fired(store: RedisStore, trigger: str) -> AsyncIterator[tuple[int, int]]:
    """When it fired and when it was due, each time."""
    async for line in store.follow(None, 0, live=False):
        if any(each["trigger"] == trigger and each["outcome"] == "fired" for each in line["trace"]):
            yield line["now"], line["at"]


async def f4(folder: Path, *, timers: int = 1_000, away: float = 5.0) -> Figures:
    """kill -9 of all servers, and a start after many timers fell due."""
    figures = Figures("F4")
    async with rig(folder, servers=3, pages=0) as made:
        began = perf_counter()
        users = [f"parked-{number}" for number in range(timers)]
        for start in range(0, timers, 1_000):
            events: list[dict[str, object]] = [
                {"type": "track", "userId": user, "event": "parked", "messageId": f"{user}-0"}
                for user in users[start : start + 1_000]
            ]
            assert await made.post(events, made.dial()) == 200
        took = perf_counter() - began
        assert took < PARKED - 1, "arming the timers took longer than they were to wait"
        for server in made.servers:
            server.kill()
        await asyncio.sleep(PARKED + away)
        began = perf_counter()
        await asyncio.gather(*(server.start() for server in made.servers))
        figures.note(started_s=round(perf_counter() - began, 1))
        await _note_catching_up(figures, made, users, began)
        figures.note(timers=timers, armed_s=round(took, 1))
    return figures


async def _note_catching_up(figures: Figures, made: Rig, users: list[str], began: float) -> None:
    store = await RedisStore.connect(made.store.url)
    try:
        rang = await _count_rung(store, users)
        while sum(rang) < len(users) and perf_counter() - began < 60:
            await asyncio.sleep(0.25)
            rang = await _count_rung(store, users)
        figures.note(catch_up_s=round(perf_counter() - began, 1))
        await asyncio.sleep(1)  # whoever would fire one twice
        rang = await _count_rung(store, users)
        fired = sorted([(now, due) async for now, due in _fired(store, "wake")])
    finally:
        await store.close()
    behind = max((max(due for _, due in fired[:place]) - at for place, (_, at) in enumerate(fired) if place), default=0)
    figures.note(lost=rang.count(0), doubled=sum(each > 1 for each in rang), out_of_order_ms=behind)
    figures.note(burst_per_user=max(rang))
    figures.expect(rang.count(0) == 0, f"{rang.count(0)} timers never fired")
    figures.expect(max(rang) <= 1, "a timer fired twice")


async def _count_rung(store: RedisStore, users: list[str]) -> list[int]:
    rung = []
    for start in range(0, len(users), 500):
        states = await asyncio.gather(*(store.load(user) for user in users[start : start + 500]))
        rung += [int(state.traits.get("rang", 0)) if state else 0 for state in states]
    return rung


async def f5(folder: Path, *, stopped: float = 4.0, rate: int = 150, pages: int = 40, rounds: int = 1) -> Figures:
    """SIGSTOP of a server with commits under way, then SIGCONT: it goes on with states others have written since."""
    figures = Figures("F5")
    async with rig(folder, servers=2, pages=pages) as made:
        async with made.load(rate):
            for number in range(rounds):
                await asyncio.sleep(1)
                made.servers[number % 2].halt()
                await asyncio.sleep(min(stopped, NOTICED))
                made.here = [made.servers[1 - number % 2]]
                await asyncio.sleep(max(stopped - NOTICED, 0))
                made.servers[number % 2].resume()
                await asyncio.sleep(1)
                made.here = []
                await asyncio.sleep(1)
        await made.settle(figures)
        figures.note(stopped_s=stopped, rounds=rounds, stale_commits_applied=int(figures.figures["doubled"]))
    return figures
