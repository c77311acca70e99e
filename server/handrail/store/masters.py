"""Which server holds which bucket: one of them all, or the masters of a Redis Cluster, by hash slot.

The map of a cluster is read when connecting, and again whenever something contradicts it: a command that was sent
elsewhere, a connection lost, a channel moved away. While a master is away it is read several times a second, from the
others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import hiredis
import structlog
from redis.crc import key_slot

from handrail.store.address import Address, locate
from handrail.store.keys import ALIVE, BUCKET_KEYS, BUCKETS
from handrail.store.outages import Outages
from handrail.store.pipeline import Ask, NotNow, Pipeline
from handrail.store.protocol import StoreDown, StoreUnusable
from handrail.store.sentinel import Master

RELEARN = 0.15  # seconds between two readings of the map while a master is away
ANSWER = 0.3  # seconds a node has to say what it knows of the others

COMMON = BUCKETS  # the place of what belongs to no bucket
SLOTS = tuple(key_slot(key) for key in (*(keys.timers for keys in BUCKET_KEYS), ALIVE))
ELSEWHERE = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")

Greet = Callable[[Pipeline, Ask], Awaitable[bool]]

log = structlog.get_logger(__name__)


class Watcher(Protocol):
    """Who wants to know what becomes of the connections."""

    def heard(self, channel: bytes, payload: bytes) -> None: ...

    def lapsed(self, pipeline: Pipeline, channel: bytes) -> None:
        """The channel has moved to another server."""

    def opened(self, pipeline: Pipeline) -> None:
        """Called before anything else leaves on the connection."""

    def closed(self, pipeline: Pipeline) -> None: ...

    def remapped(self) -> None:
        """Places may have other owners now."""


class Masters:
    """Use it after `connect`. A place is the number of a bucket, or COMMON."""

    def __init__(self, url: str, watcher: Watcher, *, deadline: float, greet: Greet) -> None:
        site = locate(url)
        self.is_cluster = site.kind == "cluster"
        self._seeds = (Master(site),) if site.kind == "sentinel" else site.addresses
        self._watcher = watcher
        self._greet = greet
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._pipelines: dict[str, Pipeline] = {}  # by what their addresses show
        self._owners: list[Pipeline] = []  # by place
        self._others: tuple[Address, ...] = ()  # replicas
        self.outages = Outages(self._loop.time)
        self._learning: asyncio.Task[None] | None = None
        self._drawn = False  # whether the map was ever read
        self._doubts = 0
        self._shut = False

    async def connect(self) -> None:
        """Find the server, or all masters of the cluster. Raises StoreDown, StoreUnusable."""
        first = await self._first()
        mode, shown = first.server.get(b"mode", b"standalone"), first.address.shown
        if mode == b"sentinel":
            raise StoreUnusable(f"{shown} is a Sentinel: write redis+sentinel://host:port/SERVICE")
        if self.is_cluster and mode != b"cluster":
            raise StoreUnusable(f"{shown} is not part of a cluster: write redis:// in place of redis+cluster://")
        self.is_cluster = mode == b"cluster"
        self._owners = [first] * len(SLOTS)
        if self.is_cluster:
            await self._ask_around()

    async def _first(self) -> Pipeline:
        fault: StoreDown | None = None
        for seed in self._seeds:
            pipeline = self._pipeline(seed)
            try:
                await pipeline.send("PING")
                return pipeline
            except StoreDown as error:
                fault = error
        assert fault is not None
        raise fault

    def shut(self) -> None:
        self._shut = True
        if self._learning is not None:
            self._learning.cancel()
        for pipeline in self._pipelines.values():
            pipeline.shut()

    # --- who holds what -------------------------------------------------------------------------------------------

    def owner(self, place: int) -> Pipeline:
        return self._owners[place]

    @property
    def servers(self) -> list[Pipeline]:
        return list(dict.fromkeys(self._owners))

    def reachable(self, places: Iterable[int]) -> dict[Pipeline, list[int]]:
        """These places by owner. Servers that are away are left out, unless all are, and are connected to."""
        if not self.is_cluster:
            return {self._owners[COMMON]: list(places)}
        found: dict[Pipeline, list[int]] = {}
        for place in places:
            found.setdefault(self._owners[place], []).append(place)
        if any(pipeline.is_open for pipeline in found):
            for pipeline in [each for each in found if not each.is_open]:
                pipeline.knock()
                del found[pipeline]
        return found

    # --- the map --------------------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """The map may be out of date: read it, and go on until every master answers."""
        self._doubts += 1
        if self.is_cluster and self._learning is None and not self._shut and self._owners:
            self._learning = self._loop.create_task(self._learn())
            self._learning.add_done_callback(_report)

    async def _learn(self) -> None:
        doubts = -1
        try:
            while doubts != self._doubts or not all(pipeline.is_open for pipeline in self.servers):
                doubts = self._doubts
                with suppress(StoreDown):  # whoever needs the store is told so; this goes on
                    await self._ask_around()
                await asyncio.sleep(RELEARN)
        finally:
            self._learning = None

    async def _ask_around(self) -> None:
        """Read the map from whoever answers first: those we are connected to, then everybody we have heard of."""
        known = [self._pipeline(address) for address in (*self._seeds, *self._others)]
        everybody = sorted(dict.fromkeys([*self.servers, *known]), key=lambda pipeline: not pipeline.is_open)
        ready = [pipeline for pipeline in everybody if pipeline.is_open]
        start = self._doubts % (len(ready) or 1)  # not the same one every time: it may be the one that is cut off
        for pipeline in [*ready[start:], *ready[:start], *everybody[len(ready) :]]:
            try:
                async with asyncio.timeout(ANSWER if pipeline.is_open else self._deadline):
                    rows = await pipeline.send("CLUSTER", "SLOTS")
            except (StoreDown, hiredis.ReplyError, TimeoutError):
                continue
            return self._draw(rows, pipeline)
        raise StoreDown("no node of the cluster answers")

    def _draw(self, rows: list[Any], source: Pipeline) -> None:
        """`rows`: first slot, last slot, master, replicas…; a node begins with host and port."""
        ranges = [(first, last, self._at(master, source)) for first, last, master, *_ in rows]
        self._others = tuple(self._place(node, source) for _, _, _, *replicas in rows for node in replicas)
        holders = {slot: holder for first, last, holder in ranges for slot in range(first, last + 1)}
        self._assign(holders)
        self._part_from_strangers()

    def _assign(self, holders: dict[int, Pipeline]) -> None:
        owners = [holders.get(slot, old) for slot, old in zip(SLOTS, self._owners, strict=True)]
        if owners == self._owners:
            return
        before, self._owners = self._owners, owners
        if self._drawn:
            self._tell_moves(before)
        self._drawn = True
        for pipeline in self.servers:
            pipeline.knock()
        self._watcher.remapped()

    def _tell_moves(self, before: list[Pipeline]) -> None:
        """`before` is who held what until now."""
        moves = Counter((old, new) for old, new in zip(before, self._owners, strict=True) if old is not new)
        for (old, new), places in moves.items():
            gone = not old.is_open and old not in self._owners
            (self.outages.replaced if gone else self.outages.moved)(old, new, places)

    def _place(self, node: Sequence[Any], source: Pipeline) -> Address:
        """Where a node is; one that does not know its own name is where we found it."""
        host = (node[0] or b"").decode()
        return source.address.at(host if host not in ("", "?") else source.address.host, int(node[1]))

    def _at(self, node: Sequence[Any], source: Pipeline) -> Pipeline:
        return self._pipeline(self._place(node, source))

    def _named(self, place: str, source: Pipeline) -> Pipeline:
        host, _, port = place.rpartition(":")
        return self._at((host.encode(), port), source)

    def _part_from_strangers(self) -> None:
        """Let go of connections that hold nothing now, once whoever waits on them has an answer."""
        needed = {pipeline.address.shown for pipeline in self._owners}
        for name in self._pipelines.keys() - needed:
            self._loop.call_later(self._deadline, self._part, name)

    def _part(self, name: str) -> None:
        pipeline = self._pipelines.get(name)
        if pipeline is None or pipeline in self._owners:
            return
        if not pipeline.is_idle:
            self._loop.call_later(self._deadline, self._part, name)
            return
        del self._pipelines[name]
        pipeline.shut()

    def follow(self, place: int, refusal: Exception) -> Pipeline | None:
        """Note where a place has gone; a server that is to be asked this once only is returned."""
        word, *rest = _text(refusal).split()
        if word == "ASK":
            return self._named(rest[1], self._owners[place])
        self.doubt()
        if word == "MOVED":
            self._assign({int(rest[0]): self._named(rest[1], self._owners[place])})
        return None

    # --- connections ----------------------------------------------------------------------------------------------

    def _pipeline(self, address: Address) -> Pipeline:
        pipeline = self._pipelines.get(address.shown)
        if pipeline is None:
            name = address.shown
            pipeline = self._pipelines[name] = Pipeline(
                address,
                deadline=self._deadline,
                hear=self._watcher.heard,
                lapse=partial(self._lapsed, name),
                opened=partial(self._open, name),
                closed=partial(self._closed, name),
                greet=lambda ask: self._greet(self._pipelines[name], ask),
            )
        return pipeline

    def _open(self, name: str) -> None:
        self.outages.back(self._pipelines[name])
        self._watcher.opened(self._pipelines[name])

    def _lapsed(self, name: str, channel: bytes) -> None:
        self._watcher.lapsed(self._pipelines[name], channel)
        self.doubt()

    def _closed(self, name: str) -> None:
        self.outages.lost(self._pipelines[name])
        self._watcher.closed(self._pipelines[name])
        self.doubt()


def is_elsewhere(answer: object) -> bool:
    """Whether an answer says that the command was not run because its keys are, or may be, on another server."""
    return isinstance(answer, NotNow | hiredis.ReplyError) and _text(answer).startswith(ELSEWHERE)


def _text(answer: Exception) -> str:
    return answer.answer if isinstance(answer, NotNow) else str(answer)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.error("the map of the cluster could not be read", exc_info=fault)
