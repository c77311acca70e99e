"""Stores that are killed, emptied, full, or succeeded by a replica that had not heard everything."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from handrail.store import RedisStore

from .figures import Figures
from .processes import Valkey
from .proxy import between
from .stage import Rig, rig, until

TAIL = 20_000  # bytes of the command log that a power cut takes along


async def f11(folder: Path, *, rounds: int = 2, rate: int = 150, pages: int = 40) -> Figures:
    """kill -9 of a store that syncs every second: by turns it comes back as it was, and without the end of its log."""
    figures = Figures("F11")
    async with rig(folder, servers=2, pages=pages, proxied=True, appendfsync="everysec") as made:
        raw = await _kill_store(made, rounds, rate, (0, TAIL))
        await made.settle(figures)
        figures.note(store_kills=rounds, acked_lost_raw_by_kill=sum(raw[::2]), acked_lost_raw_by_cut=sum(raw[1::2]))
        figures.note(epochs_changed=made.tally.counts["epochs changed"])
        figures.note(sent_again=made.tally.counts["sent again though acknowledged"])
        figures.expect(sum(raw[1::2]) > 0, "nothing was lost: this run shows nothing")
    return figures


async def f11_always(folder: Path, *, rounds: int = 2, rate: int = 150, pages: int = 40) -> Figures:
    """kill -9 of a store that syncs every commit: nothing is lost in the first place."""
    figures = Figures("F11-always")
    async with rig(folder, servers=2, pages=pages, proxied=True, appendfsync="always") as made:
        raw = sum(await _kill_store(made, rounds, rate, (0,)))
        await made.settle(figures)
        figures.note(store_kills=rounds, acked_lost_raw=raw, epochs_changed=made.tally.counts["epochs changed"])
        figures.expect(raw == 0, f"{raw} acknowledged events were lost")
    return figures


async def _kill_store(made: Rig, rounds: int, rate: int, tails: tuple[int, ...]) -> list[int]:
    """For each kill the acknowledged events that the store did not have when it was back."""
    raw = []
    async with made.load(rate):
        for number in range(rounds):
            await asyncio.sleep(2)
            _cut_off(made)
            made.store.process.kill()
            made.store.forget_tail(tails[number % len(tails)])
            made.store.restart()
            raw.append(await _missing(made))
            _let_through(made)
            await asyncio.sleep(1)
    return raw


def _cut_off(made: Rig) -> None:
    for proxy in made.proxies:
        proxy.refuses = True
        proxy.reset()


def _let_through(made: Rig) -> None:
    for proxy in made.proxies:
        proxy.refuses = False


async def _missing(made: Rig, at: str = "") -> int:
    """Acknowledged events that the store does not have."""
    store = await RedisStore.connect(at or made.store.url)
    try:
        return await _count_missing(made, store)
    finally:
        await store.close()


async def _count_missing(made: Rig, store: RedisStore) -> int:
    known = [page.acknowledged() for page in made.pages]
    states = await asyncio.gather(*(store.load(page.user) for page in made.pages))
    return sum(len(set(ids) - set(state.seen if state else ())) for ids, state in zip(known, states, strict=True))


async def f16(folder: Path, *, rate: int = 150, pages: int = 40, full: float = 3.0) -> Figures:
    """A store whose memory is full refuses whole commits."""
    figures = Figures("F16")
    async with rig(folder, servers=2, pages=pages) as made:
        store = await RedisStore.connect(made.store.url)
        async with made.load(rate):
            await asyncio.sleep(1)
            made.store.tell("CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(full)
            acked_away = await _count_missing(made, store)
            made.store.tell("CONFIG", "SET", "maxmemory", "0")
            await asyncio.sleep(1)
        await store.close()
        await made.settle(figures)
        figures.note(full_s=full, acked_but_not_stored=acked_away)
        figures.note(refused_for_now=made.tally.counts["refused for now"])
        figures.expect(acked_away == 0, "events were acknowledged that the full store did not take")
    return figures


async def f17(folder: Path, *, rounds: int = 1, rate: int = 150, pages: int = 40) -> Figures:
    """FLUSHALL: everything is gone, for users who go on working and for those who only look."""
    figures = Figures("F17")
    raw = 0
    async with rig(folder, servers=2, pages=pages) as made:
        async with made.load(rate):
            for _ in range(rounds):
                await asyncio.sleep(1.5)
                raw += sum(len(page.acknowledged()) for page in made.pages)
                made.store.tell("FLUSHALL")
                await asyncio.sleep(0.5)
        await made.settle(figures)
        figures.note(flushes=rounds, acked_lost_raw=raw, stuck_pages=int(figures.figures["not_converged"]))
        figures.note(epochs_changed=made.tally.counts["epochs changed"])
    return figures


async def f18(folder: Path, *, flushes: int = 20, rate: int = 150, pages: int = 40) -> Figures:
    """SCRIPT FLUSH again and again under load."""
    figures = Figures("F18")
    async with rig(folder, servers=2, pages=pages) as made:
        async with made.load(rate):
            for _ in range(flushes):
                await asyncio.sleep(0.1)
                assert made.store.tell("SCRIPT", "FLUSH") == b"+OK\r\n"
        await made.settle(figures)
        errors = made.tally.counts["refused for now"]
        figures.note(flushes=flushes, errors_to_clients=errors)
        figures.expect(errors == 0, f"{errors} errors reached clients")
    return figures


async def f24(folder: Path, *, rounds: int = 1, rate: int = 150, pages: int = 40) -> Figures:
    """The replica stops hearing, the primary dies, the replica takes over: offsets go back."""
    figures = Figures("F24")
    raw = 0
    async with rig(folder, servers=2, pages=pages, proxied=True, port=free_port()) as made, AsyncExitStack() as stack:
        for number in range(rounds):
            heir = Valkey(folder, name=f"heir-{number}", port=free_port())
            stack.callback(heir.process.kill)
            raw += await _succeed(made, heir, rate)
        await made.settle(figures)
        silent = int(figures.figures["not_converged"]) + int(figures.figures["wrong"])
        figures.note(failovers=rounds, users_set_back=rounds * pages, acked_lost_raw=raw, silent_gaps=silent)
        figures.note(epochs_changed=made.tally.counts["epochs changed"])
        figures.expect(raw > 0, "nothing was lost: this run shows nothing")
    return figures


async def _succeed(made: Rig, heir: Valkey, rate: int) -> int:
    """Have `heir` take over without the last second and a half; how many acknowledged events it does not have."""
    link = free_port()
    async with between(("127.0.0.1", made.store.port), link) as way, made.load(rate):
        heir.tell("REPLICAOF", "127.0.0.1", str(link))
        await until(lambda: b"master_link_status:up" in heir.tell("INFO", "replication"), 15)
        await asyncio.sleep(1)
        way.up = way.down = "drop"
        await asyncio.sleep(1.5)
        _cut_off(made)
        made.store.process.kill()
        heir.tell("REPLICAOF", "NO", "ONE")
        missing = await _missing(made, heir.url)
        made.store = heir
        for proxy in made.proxies:
            proxy.target = heir.path
        _let_through(made)
        await asyncio.sleep(1)
    await made.all_live()
    return missing


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
