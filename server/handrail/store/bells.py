"""Bells: who committed what, told at once to every process that listens, on one sharded channel a bucket.

A bucket's channel lies in the bucket's hash slot, so it is subscribed to where commits of the bucket are made, on the
same connection: a subscription sent before a commit is in force when the commit is made. Where the slot moves, or the
connection is made anew, the channel is subscribed to again and whoever listens is told that bells may have been missed.

Channels are never unsubscribed from: a server with many users listens to all of them anyway, and so an "unsubscribed"
always is the server's own word for a slot that has moved.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

import hiredis
import msgspec
import structlog

from handrail.counts import Counts
from handrail.store.keys import BUCKET_KEYS, bucket_of
from handrail.store.masters import Masters, is_elsewhere
from handrail.store.nodes import place_of
from handrail.store.packing import read_bell
from handrail.store.pipeline import Pipeline
from handrail.store.protocol import Bell

log = structlog.get_logger(__name__)


class Bells:
    """A `Watcher` of connections; `masters` is set before anybody listens."""

    masters: Masters

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._listened: Counter[int] = Counter()
        self._heard_at: dict[int, Pipeline] = {}  # where a bucket's channel is subscribed to, or about to be
        self._closed: WeakSet[Pipeline] = WeakSet()
        self._hearers: list[Callable[[Bell], None]] = []
        self._reopened: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listened)

    def listen(self, user: str) -> None:
        bucket = bucket_of(user)
        self._listened[bucket] += 1
        if self._is_lost(bucket):
            self._subscribe(bucket)

    def unlisten(self, user: str) -> None:
        bucket = bucket_of(user)
        self._listened[bucket] -= 1
        if self._listened[bucket] <= 0:
            del self._listened[bucket]

    def on_bell(self, hear: Callable[[Bell], None]) -> None:
        self._hearers.append(hear)

    def on_reconnect(self, hear: Callable[[], None]) -> None:
        self._reopened.append(hear)

    def settle(self, *, doubtful: bool = False) -> None:
        """See that every bucket listened to is subscribed to where it lies now, as far as that can be reached. Whoever
        listens is told where that was not so, or is `doubtful`."""
        lost = [bucket for bucket in self._listened if self._is_lost(bucket)]
        for bucket in lost:
            self._subscribe(bucket)
        if lost or doubtful:
            for hear in self._reopened:
                self._loop.call_soon(hear)

    # --- what becomes of the connections --------------------------------------------------------------------------

    def heard(self, channel: bytes, payload: bytes) -> None:
        try:
            bell = read_bell(payload)
        except (ValueError, msgspec.MsgspecError):
            self._counts.add("unreadable.bell")
            log.warning("a bell cannot be read", channel=channel)
            return
        if self._listened[place_of(channel)] > 0:
            for hear in self._hearers:
                self._loop.call_soon(hear, bell)  # not here: what a hearer does wrong must not end the connection

    def opened(self, pipeline: Pipeline) -> None:
        self._forget(pipeline)
        self.settle(doubtful=pipeline in self._closed)
        self._closed.discard(pipeline)

    def closed(self, pipeline: Pipeline) -> None:
        self._forget(pipeline)
        self._closed.add(pipeline)

    def remapped(self) -> None:
        self.settle()

    def lapsed(self, pipeline: Pipeline, channel: bytes) -> None:
        bucket = place_of(channel)
        if self._heard_at.get(bucket) is pipeline:
            del self._heard_at[bucket]

    def _is_lost(self, bucket: int) -> bool:
        """Whether the channel is not subscribed to where it lies, and could be."""
        owner = self.masters.owner(bucket)
        return self._heard_at.get(bucket) is not owner and owner.is_open

    def _forget(self, pipeline: Pipeline) -> None:
        self._heard_at = {bucket: at for bucket, at in self._heard_at.items() if at is not pipeline}

    def _subscribe(self, bucket: int) -> None:
        pipeline = self._heard_at[bucket] = self.masters.owner(bucket)
        asked = pipeline.send("SSUBSCRIBE", BUCKET_KEYS[bucket].bell)
        asked.add_done_callback(partial(self._subscribed, bucket, pipeline))

    def _subscribed(self, bucket: int, pipeline: Pipeline, asked: asyncio.Future[object]) -> None:
        fault = asked.exception()
        if fault is None:
            return
        if self._heard_at.get(bucket) is pipeline:
            del self._heard_at[bucket]  # the next `settle` tries again
        if is_elsewhere(fault):
            self.masters.doubt()
        elif isinstance(fault, hiredis.ReplyError):
            log.error("the store refuses to ring", bucket=bucket, error=str(fault))
