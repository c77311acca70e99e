"""Which server holds which bucket, and how a command gets there.

One server holds them all, or the masters of a Redis Cluster share them by hash slot. A command that reaches the wrong
master was not run: the answer says where it belongs (MOVED, ASK) and it is sent there. One that cannot be run for now
(TRYAGAIN, CLUSTERDOWN) was not run either and is sent again until the deadline. A command whose answer was lost is
never sent again here: whether it ran is for the caller to find out.

The map of the cluster is read when connecting, and again whenever something contradicts it: a command that was sent on,
a connection lost, a channel moved away. While a master is away it is read several times a second, from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import hiredis
import structlog
from redis.crc import key_slot

from handrail.store.address import Address, locate
from handrail.store.keys import ALIVE, BUCKET_KEYS, BUCKETS
from handrail.store.pipeline import Ask, NotNow, Pipeline, pack
from handrail.store.protocol import StoreDown, StoreUnusable
from handrail.store.sentinel import Master

PART = 128  # places of a sweep that are read without letting others have a turn
RELEARN = 0.15  # seconds between two readings of the map while a master is away
ANSWER = 0.3  # seconds a node has to say what it knows of the others
AGAIN = 0.02  # seconds before a command that could not be run for now is sent again

ELSEWHERE = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")
COMMON = BUCKETS  # the place of what belongs to no bucket
SLOTS = tuple(key_slot(key) for key in (*(keys.timers for keys in BUCKET_KEYS), ALIVE))

Send = Callable[..., Awaitable[Any]]  # of a pipeline and a command
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


class Nodes:
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
        self._lost: set[str] = set()
        self._learning: asyncio.Task[None] | None = None
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
    def masters(self) -> list[Pipeline]:
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

    # --- commands -------------------------------------------------------------------------------------------------

    async def send(self, key: bytes, *command: Any, send: Send = Pipeline.send) -> Any:
        """One command on keys of the bucket of `key`, by this way of sending. Raises StoreDown, or
        hiredis.ReplyError."""
        place = place_of(key)
        try:
            return await send(self._owners[place], *command)
        except (hiredis.ReplyError, NotNow) as answer:
            if not self.is_cluster or not is_elsewhere(answer):
                raise
            refusal: Exception = answer
        return await self._pursue(place, command, refusal, send)

    async def read(self, key: bytes, *commands: tuple[Any, ...]) -> list[Any]:
        """Reads of keys of one bucket, in one write and in this order; error replies stand in the list. Raises
        StoreDown."""
        replies: list[Any] = []
        with suppress(NotNow):
            replies = await self._owners[place_of(key)].send_many(b"".join(map(pack, commands)), len(commands))
        if replies and not any(is_elsewhere(reply) for reply in replies):
            return replies
        return [await self._reply(key, command) for command in commands]

    async def _reply(self, key: bytes, command: tuple[Any, ...]) -> Any:
        try:
            return await self.send(key, *command)
        except hiredis.ReplyError as error:
            return error

    async def _pursue(self, place: int, command: tuple[Any, ...], refusal: Exception, send: Send) -> Any:
        """Send a command that was not run to where it belongs, as long as there is time."""
        until = self._loop.time() + self._deadline
        while self._loop.time() < until:
            asking = self._follow(place, refusal)
            if send is not Pipeline.send:
                asking = None  # another way of sending has to wait until the move is over
            if asking is None and not str(refusal).startswith("MOVED"):
                await asyncio.sleep(AGAIN)
            try:
                if asking is None:
                    return await send(self._owners[place], *command)
                [_, reply] = await asking.send_many(pack(("ASKING",)) + pack(command), 2)
                if not isinstance(reply, hiredis.ReplyError):
                    return reply
                refusal = reply
            except (hiredis.ReplyError, NotNow) as answer:
                refusal = answer
            if not is_elsewhere(refusal):
                raise refusal
        raise StoreDown(f"the store keeps sending a command elsewhere: {refusal}")

    def _follow(self, place: int, refusal: Exception) -> Pipeline | None:
        """Note where a place has gone; a server that is to be asked this once only is returned."""
        word, *rest = _text(refusal).split()
        if word == "ASK":
            return self._named(rest[1], self._owners[place])
        self.doubt()
        if word == "MOVED":
            self._assign({int(rest[0]): self._named(rest[1], self._owners[place])})
        return None

    async def sweep(
        self, places: Sequence[int], packed: Callable[[Sequence[int]], bytes], *, whole: bool = False
    ) -> AsyncIterator[tuple[int, Any]]:
        """(place, reply) of one command for each place, where the reply is not empty; `packed` packs those of many.

        What lies on a server that is away is left out, unless all is: StoreDown. With `whole`, nothing may be missing.
        """
        for _ in range(2):  # what has moved is asked for where it is now
            moved: list[int] = []
            async for part, replies in self._ask_all(places, packed, whole=whole):
                for place, reply in zip(part, replies, strict=True):
                    if not reply:
                        continue
                    if isinstance(reply, hiredis.ReplyError) and is_elsewhere(reply):
                        self._follow(place, reply)
                        moved.append(place)
                    else:
                        yield place, reply
            if not moved:
                return
            places = moved
        if whole:
            raise StoreDown("a part of the store is being moved")

    async def _ask_all(
        self, places: Sequence[int], packed: Callable[[Sequence[int]], bytes], *, whole: bool
    ) -> AsyncIterator[tuple[list[int], list[Any]]]:
        groups = self.reachable(places)
        if whole and sum(map(len, groups.values())) < len(places):
            raise StoreDown("a part of the store is away")
        parts = [
            (pipeline, held[start : start + PART])
            for pipeline, held in groups.items()
            for start in range(0, len(held), PART)
        ]
        asked = [pipeline.send_many(packed(part), len(part)) for pipeline, part in parts]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        if faults and (whole or len(faults) == len(answers)):
            raise faults[0]
        for (_, part), answer in zip(parts, answers, strict=True):
            if not isinstance(answer, BaseException):
                yield part, answer
                await asyncio.sleep(0)  # a hundred thousand at once must not hold up everybody else

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
            while doubts != self._doubts or not all(pipeline.is_open for pipeline in self.masters):
                doubts = self._doubts
                with suppress(StoreDown):  # whoever needs the store is told so; this goes on
                    await self._ask_around()
                await asyncio.sleep(RELEARN)
        finally:
            self._learning = None

    async def _ask_around(self) -> None:
        """Read the map from whoever answers first: those we are connected to, then everybody we have heard of."""
        known = [self._pipeline(address) for address in (*self._seeds, *self._others)]
        everybody = sorted(dict.fromkeys([*self.masters, *known]), key=lambda pipeline: not pipeline.is_open)
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
        self._owners = owners
        for pipeline in self.masters:
            pipeline.knock()
        self._watcher.remapped()

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
        self._lost.discard(name)
        pipeline.shut()

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
        if name in self._lost:
            self._lost.remove(name)
            log.info("the store is back", store=name)
        self._watcher.opened(self._pipelines[name])

    def _lapsed(self, name: str, channel: bytes) -> None:
        self._watcher.lapsed(self._pipelines[name], channel)
        self.doubt()

    def _closed(self, name: str) -> None:
        self._lost.add(name)
        log.warning("the connection to the store was lost", store=name, reason=self._pipelines[name].reason)
        self._watcher.closed(self._pipelines[name])
        self.doubt()


def place_of(key: bytes) -> int:
    """The bucket of `hr:{b0417}:…`, or COMMON."""
    return int(key[5:9]) if key[4:5] == b"b" else COMMON


def is_elsewhere(answer: object) -> bool:
    """Whether an answer says that the command was not run because its keys are, or may be, on another server."""
    return isinstance(answer, NotNow | hiredis.ReplyError) and _text(answer).startswith(ELSEWHERE)


def _text(answer: Exception) -> str:
    return answer.answer if isinstance(answer, NotNow) else str(answer)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.error("the map of the cluster could not be read", exc_info=fault)
