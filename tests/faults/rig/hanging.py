"""Stores that hang, answers that do not arrive, bells that nobody hears."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from .figures import Figures, percentile
from .pages import Page
from .stage import Rig, rig, until

CALL_MS = 1_500  # within which whoever asks gets an answer while the store hangs
RECOVERY = 2.0  # seconds
CALL: dict[str, object] = {"type": "track", "userId": "caller", "event": "called"}
FOUND_MS = 5_000  # within which a missed bell is made up for


async def f15(folder: Path, *, hung: float = 4.0, rate: int = 100, pages: int = 40) -> Figures:
    """SIGSTOP of the store: callers are told soon, sockets stay, and it goes on when the store does."""
    figures = Figures("F15")
    async with rig(folder, servers=2, pages=pages) as made:
        calls: list[tuple[float, int]] = []
        async with made.load(rate):
            await asyncio.sleep(1)
            lost = made.tally.counts["connections lost"]
            made.store.process.halt()
            await _call_for(hung, made, calls)
            made.store.process.resume()
            began = perf_counter()
            await until(lambda: all(page.live for page in made.pages), 20)
            await _until_taken(made)
            recovered = perf_counter() - began
            dropped = made.tally.counts["connections lost"] - lost
        await made.settle(figures)
    slowest = percentile([ms for ms, _ in calls], 0.99)
    figures.note(hung_s=hung, calls=len(calls), call_p99_ms=slowest, sockets_dropped=dropped)
    figures.note(recovery_s=round(recovered, 1), answered_wrongly=sum(status == 200 for _, status in calls))
    figures.bound("a call took", slowest, CALL_MS, "ms")
    figures.expect(dropped == 0, f"{dropped} connections were lost")
    figures.bound("recovery took", round(recovered, 1), RECOVERY, "s")
    return figures


async def _call_for(seconds: float, made: Rig, calls: list[tuple[float, int]]) -> None:
    until_then = perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        while perf_counter() < until_then:
            group.create_task(_call(made, len(calls), calls))
            await asyncio.sleep(0.1)


async def _call(made: Rig, number: int, calls: list[tuple[float, int]]) -> None:
    began = perf_counter()
    status = await made.post([CALL | {"userId": f"caller-{number % 7}"}], made.dial())
    calls.append(((perf_counter() - began) * 1000, status))


async def _until_taken(made: Rig) -> None:
    """Until every server takes an event again."""
    for server in made.servers:
        async with asyncio.timeout(20):
            while await made.post([CALL], server.base) != 200:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.05)


async def f25(folder: Path, *, pages: int = 40) -> Figures:
    """A server that hears no bells any more: positions are compared all the same. Then bells cut off for a moment."""
    figures = Figures("F25")
    async with rig(folder, servers=2, pages=pages, proxied=True) as made:
        made.proxies[0].deaf = True
        made.proxies[0].reset()
        await made.gather_at(made.servers[0])
        await asyncio.sleep(2)  # until it has compared all positions because its connection was new
        missed = await _tell_elsewhere(made)
        made.proxies[0].deaf = False
        made.proxies[0].reset()
        await asyncio.sleep(1)
        made.store.tell("CLIENT", "KILL", "TYPE", "pubsub")
        cut = await _tell_elsewhere(made)
        await made.settle(figures)
    figures.note(bells_lost=pages, found_p50_ms=percentile(missed, 0.5), found_max_ms=percentile(missed, 1))
    figures.note(cut=pages, cut_p50_ms=percentile(cut, 0.5), cut_max_ms=percentile(cut, 1))
    figures.bound("a message whose bell was lost was found after", percentile(missed, 1), FOUND_MS, "ms")
    figures.bound("a message was found after the channel was cut, after", percentile(cut, 1), FOUND_MS, "ms")
    return figures


async def _tell_elsewhere(made: Rig) -> list[float]:
    """For each page, how many ms after the other server stored something for its user the page was told."""

    async def tell(page: Page) -> float:
        before = page.offset
        status = await made.post([page.elsewhere()], made.servers[1].base)
        assert status == 200
        stored = perf_counter()
        await until(lambda: page.offset > before, 15)
        return (perf_counter() - stored) * 1000

    return list(await asyncio.gather(*map(tell, made.pages)))


async def f26(folder: Path, *, cuts: int = 12, rate: int = 200, pages: int = 40, hold: float = 0.1) -> Figures:
    """Commits whose answers are lost, and then the connection: nothing is done twice."""
    figures = Figures("F26")
    async with rig(folder, servers=2, pages=pages, proxied=True) as made:
        async with made.load(rate):
            for number in range(cuts):
                proxy = made.proxies[number % 2]
                proxy.mute()
                with suppress(TimeoutError):
                    await asyncio.wait_for(proxy.asked.wait(), 1)
                await asyncio.sleep(hold)
                proxy.reset()
                await asyncio.sleep(0.3)
        await made.settle(figures)
        lost = sum(proxy.unanswered for proxy in made.proxies)
        figures.note(cuts=cuts, answers_lost=lost, double_effects=int(figures.figures["doubled"]))
        figures.expect(lost >= cuts, "too few answers were lost to show anything")
    return figures
