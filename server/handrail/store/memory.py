"""The store's twin in memory: the same contract in plain dicts, for tests of what lies above.

Everything goes in and out by value, as it does through Redis. Nothing here ages by itself: ids are trimmed by the
commit's `now`, the outbox by its length.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from time import time_ns
from typing import Any

import msgspec

from handrail.core.state import SEEN_FOR, SEEN_MAX, State, dump_state, load_state
from handrail.counts import Counts
from handrail.store.heads import Head, mark_of
from handrail.store.keys import BUCKETS, bucket_of
from handrail.store.protocol import Bell, Commit, Job, Quarantined, Shortfall
from handrail.store.scripts import LOG_MAX, OUTBOX_MAX, QUARANTINE_MAX


class Shelf:
    """What several stores of one test share, as several processes share one Redis."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[Head, bytes]] = {}
        self.seen: dict[str, dict[str, int]] = {}
        self.outboxes: dict[str, list[tuple[int, bytes]]] = {}
        self.alarms: dict[str, int] = {}
        self.jobs: dict[str, Job] = {}
        self.hidden: dict[str, int] = {}  # job id -> when it can be claimed
        self.logs: list[list[tuple[int, str, int, bytes]]] = [[] for _ in range(BUCKETS)]  # number, user, time, line
        self.lines = 0
        self.lineage = "memory"
        self.alive: dict[str, int] = {}
        self.enlisted: dict[str, set[str]] = {}
        self.tickets: dict[str, bytes] = {}
        self.announced: list[str] = []
        self.quarantine: list[Quarantined] = []
        self.stores: list[MemoryStore] = []
        self.logged = asyncio.Event()


class MemoryStore:
    """See `Store`. Stores given the same shelf are processes on one store."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.shelf = shelf or Shelf()
        self.shelf.stores.append(self)
        self.counts = Counts()
        self._listened: Counter[int] = Counter()
        self._hearers: list[Callable[[Bell], None]] = []

    async def load(self, user: str) -> State | None:
        if user not in self.shelf.states:
            return None
        head, blob = self.shelf.states[user]
        state = load_state(blob, dict(self.shelf.seen.get(user, {})))
        state.op = head.op
        return state

    async def load_bare(self, users: Sequence[str]) -> list[State]:
        loaded = [await self.load(user) for user in users]
        return [msgspec.structs.replace(state, seen={}) for state in loaded if state is not None]

    async def commit(self, commit: Commit) -> bool:
        state, user, shelf = commit.state, commit.state.user, self.shelf
        assert state.version > commit.expected, "a commit makes a newer version"
        stored, _ = shelf.states.get(user, (Head(0, 0, "", ""), b""))
        head, offset = Head(state.version, state.offset, commit.op, mark_of(state.epoch)), stored.offset
        if head.op and head == stored:
            return True  # this very commit had been written
        if (stored.version, stored.op) != (commit.expected, commit.base):
            return False
        offsets = [at for at, _ in commit.frames]
        assert [*offsets, state.offset][-1] == state.offset == offset + len(offsets), "REFUSED: offsets"
        assert offsets == list(range(offset + 1, state.offset + 1)), "REFUSED: messages do not continue"
        shelf.states[user] = (head, dump_state(state))
        shelf.outboxes[user] = [*shelf.outboxes.get(user, []), *commit.frames][-OUTBOX_MAX:]
        self._remember(user, commit)
        shelf.alarms.pop(user, None)
        if commit.alarm is not None:
            shelf.alarms[user] = commit.alarm
        for job in commit.jobs:
            if job.id not in shelf.jobs:
                shelf.jobs[job.id] = job
                shelf.hidden[job.id] = job.due
        self._write_log(user, commit)
        if commit.frames:
            self._ring(Bell(user, state.offset, commit.node, state.epoch))
        return True

    def _remember(self, user: str, commit: Commit) -> None:
        if commit.seen:
            seen = {**self.shelf.seen.get(user, {}), **dict(commit.seen)}
            kept = [(at, event) for event, at in seen.items() if at >= commit.now - SEEN_FOR]
            self.shelf.seen[user] = {event: at for at, event in sorted(kept)[-SEEN_MAX:]}

    def _write_log(self, user: str, commit: Commit) -> None:
        shelf, bucket = self.shelf, bucket_of(user)
        for line in commit.log:
            shelf.lines += 1
            shelf.logs[bucket].append((shelf.lines, user, commit.now, line))
        del shelf.logs[bucket][:-LOG_MAX]
        if commit.log:
            shelf.logged.set()
            shelf.logged = asyncio.Event()

    def _ring(self, bell: Bell) -> None:
        loop = asyncio.get_running_loop()
        for store in self.shelf.stores:
            if store._listened[bucket_of(bell.user)] > 0:
                for hear in store._hearers:
                    loop.call_soon(hear, bell)

    def write(self, commit: Commit, told: Callable[[bool], None]) -> None:
        told(False)

    async def position(self, user: str) -> tuple[str, int] | None:
        if user not in self.shelf.states:
            return None
        head, _ = self.shelf.states[user]
        return head.mark, head.offset

    async def outbox(self, user: str, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        return [entry for entry in self.shelf.outboxes.get(user, []) if entry[0] > after][:limit]

    async def due(self, before: int, buckets: list[int] | None = None, limit: int = 200) -> list[tuple[int, str]]:
        by_bucket: dict[int, list[tuple[int, str]]] = {}
        for user, at in self.shelf.alarms.items():
            bucket = bucket_of(user)
            if at <= before and (buckets is None or bucket in buckets):
                by_bucket.setdefault(bucket, []).append((at, user))
        return [alarm for bucket in sorted(by_bucket) for alarm in sorted(by_bucket[bucket])[:limit]]

    async def claim_jobs(self, now: int, lease: int, limit: int = 50) -> list[Job]:
        hidden = self.shelf.hidden
        ready = sorted((at, job) for job, at in hidden.items() if at <= now)[:limit]
        for _, job in ready:
            hidden[job] = now + lease
        return sorted((self.shelf.jobs[job] for _, job in ready), key=lambda job: job.due)

    async def finish_job(self, job: Job) -> None:
        self.shelf.jobs.pop(job.id, None)
        self.shelf.hidden.pop(job.id, None)

    async def retry_job(self, job: Job, due: int) -> None:
        stored = self.shelf.jobs.get(job.id)
        if stored is not None and stored.attempt == job.attempt:
            self.shelf.jobs[job.id] = msgspec.structs.replace(job, attempt=job.attempt + 1, due=due)
            self.shelf.hidden[job.id] = due

    async def heartbeat(self, node: str, now: int) -> bool:
        added = node not in self.shelf.alive
        self.shelf.alive[node] = now
        return added

    async def nodes(self) -> dict[str, int]:
        return dict(self.shelf.alive)

    async def enlist(self, node: str, user: str) -> None:
        self.shelf.alive.setdefault(node, 0)
        self.shelf.enlisted.setdefault(node, set()).add(user)

    async def delist(self, node: str, user: str) -> None:
        self.shelf.enlisted.get(node, set()).discard(user)

    async def enlisted(self, node: str) -> list[str]:
        return sorted(self.shelf.enlisted.get(node, ()))

    async def forget_node(self, node: str) -> None:
        self.shelf.enlisted.pop(node, None)
        self.shelf.alive.pop(node, None)

    @property
    def confirms(self) -> bool:
        return False

    def lineage(self, user: str) -> str:
        return self.shelf.lineage

    async def keep_ticket(self, ticket: str, content: bytes, ttl: int) -> None:
        self.shelf.tickets[ticket] = content

    async def take_ticket(self, ticket: str) -> bytes | None:
        return self.shelf.tickets.pop(ticket, None)

    async def announce(self, user: str) -> None:
        self.shelf.announced.append(user)

    async def announced(self, after: str = "") -> list[tuple[str, str]]:
        return [(str(mark), user) for mark, user in enumerate(self.shelf.announced, 1) if mark > int(after or 0)]

    def listen(self, user: str) -> None:
        self._listened[bucket_of(user)] += 1

    def unlisten(self, user: str) -> None:
        self._listened[bucket_of(user)] -= 1
        self._listened = +self._listened

    def on_bell(self, hear: Callable[[Bell], None]) -> None:
        self._hearers.append(hear)

    def on_reconnect(self, hear: Callable[[], None]) -> None:
        """There is no connection to lose."""

    async def follow(self, user: str | None, start_ms: int, *, live: bool = True) -> AsyncIterator[dict[str, Any]]:
        last = 0
        while True:
            logged = self.shelf.logged
            logs = self.shelf.logs if user is None else [self.shelf.logs[bucket_of(user)]]
            for number, owner, at, line in sorted(entry for log in logs for entry in log):
                if number > last and user in (None, owner) and at >= start_ms:
                    last = number
                    yield msgspec.json.decode(line)
            if not live:
                return
            await logged.wait()

    async def set_aside(self, entry: Quarantined) -> None:
        self.shelf.quarantine = [entry, *self.shelf.quarantine][:QUARANTINE_MAX]

    async def quarantine(self) -> list[Quarantined]:
        return list(self.shelf.quarantine)

    async def time(self) -> int:
        return time_ns() // 1_000_000

    async def ping(self) -> float:
        return 0.0

    async def shortfall(self) -> Shortfall | None:
        return None

    async def close(self) -> None:
        if self in self.shelf.stores:
            self.shelf.stores.remove(self)
