"""The store in Redis or Valkey."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Self

import hiredis
import msgspec
import structlog

from handrail.core.state import State
from handrail.store.address import Address
from handrail.store.journal import Journal
from handrail.store.keys import ALIVE, BUCKET_COUNT, BUCKET_KEYS, BUCKETS, LINEAGE, bucket_of, enlisted_key, user_keys
from handrail.store.lineage import Lineage, trace_lineage
from handrail.store.packing import pack_commit, pack_job, read_bell, read_job, read_state
from handrail.store.pipeline import Ask, Pipeline, pack
from handrail.store.protocol import Ack, Bell, Commit, CorruptState, Job, StoreDown, StoreUnusable
from handrail.store.scripts import CLAIM, COMMIT, FINISH, HOOKS, RETRY, SCRIPTS, TIMERS, Script, Sweep

OLDEST = 7  # major version of Redis; Valkey began at 7
PART = 128  # buckets of a sweep that are read without letting others have a turn
PULSE = 1.0  # seconds between signs of life
WAIT_MS = 200  # how long a replica may take to have a write, where acknowledgements wait for one

Send = Callable[..., Awaitable[Any]]

log = structlog.get_logger(__name__)


class RedisStore:
    """See `Store`. Made by `connect`; one connection for all but `follow`, which has its own.

    Raises StoreDown when Redis cannot be reached, CorruptState when a key holds what Handrail does not write.
    """

    def __init__(self, url: str, *, deadline: float = 1.0, ack: Ack = "accepted") -> None:
        self._loop = asyncio.get_running_loop()
        self._ack = ack
        self._lineage = Lineage("", 0, None)
        self._pipeline = Pipeline(
            Address(url),
            deadline=deadline,
            hear=self._ring,
            opened=self._opened,
            closed=self._lost,
            greet=self._trace,
        )
        self._listened: Counter[int] = Counter()
        self._hearers: list[Callable[[Bell], None]] = []
        self._reopened: list[Callable[[], None]] = []
        self._was_open = False
        self._pulse: asyncio.TimerHandle | None = None
        self._journal = Journal(url)

    @classmethod
    async def connect(cls, url: str, *, deadline: float = 1.0, ack: Ack = "accepted") -> Self:
        """Open a store and see that it is one we can use.

        `deadline` is in seconds, for every single command; `ack` what an answered commit is worth. Raises StoreDown
        when nothing answers, StoreUnusable when what answers is too old, laid out for another number of buckets, or set
        up so that it cannot give such an answer.
        """
        store = cls(url, deadline=deadline, ack=ack)
        try:
            await store._examine()
        except BaseException:
            await store.close()
            raise
        store._beat()
        return store

    # --- the user's turn ------------------------------------------------------------------------------------------

    async def load(self, user: str) -> State | None:
        keys = user_keys(user)
        # The state before its ids: a commit between the two then shows as an id too many, which is a true one.
        both = self._pipeline.send_many(pack(("GET", keys.state)) + pack(("ZRANGE", keys.seen, 0, -1, "WITHSCORES")), 2)
        blob, seen = await both
        if blob is None:
            return None
        for reply in (blob, seen):
            if isinstance(reply, hiredis.ReplyError):
                raise fault(reply, keys.state)
        return read_state(user, blob, seen)

    async def commit(self, commit: Commit) -> bool:
        keys, arguments = pack_commit(commit)
        return bool(await self._run(COMMIT, keys, arguments, self._send_confirmed if self.confirms else None))

    @property
    def confirms(self) -> bool:
        return self._ack == "replicated"

    async def _send_confirmed(self, *command: Any) -> Any:
        """A write, answered when a replica has it, too; those that leave together wait together."""
        both = self._pipeline.send(*command), self._pipeline.confirm("WAIT", 1, WAIT_MS)
        await asyncio.wait(both)
        written = both[0].result()
        if written and not both[1].result():
            raise StoreDown(f"no replica had the write within {WAIT_MS} ms")
        return written

    async def outbox(self, user: str, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        key = user_keys(user).outbox
        entries = await self._ask(key, "XRANGE", key, f"({after}-0", "+", "COUNT", limit)
        return [(int(entry.partition(b"-")[0]), fields[1]) for entry, fields in entries]

    # --- time -----------------------------------------------------------------------------------------------------

    async def due(self, before: int, buckets: list[int] | None = None, limit: int = 200) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        async for _, members in self._sweep(TIMERS, before, limit, buckets):
            found += [(int(at), user.decode("utf-8", "replace")) for user, at in members]
        return found

    async def _sweep(
        self, sweep: Sweep, before: int, limit: int, buckets: Sequence[int] | None = None
    ) -> AsyncIterator[tuple[int, list[tuple[bytes, float]]]]:
        """(bucket, its members due by then) in one write; a bucket that cannot be read is passed over."""
        asked = range(BUCKETS) if buckets is None else buckets
        parts = [asked[start : start + PART] for start in range(0, len(asked), PART)]
        answers = [self._pipeline.send_many(sweep.packed(part, before, limit), len(part)) for part in parts]
        for part, replies in zip(parts, await asyncio.gather(*answers), strict=True):
            for bucket, reply in zip(part, replies, strict=True):
                if isinstance(reply, hiredis.ReplyError):
                    log.warning("a bucket cannot be read", bucket=bucket, error=str(reply))
                elif reply:
                    yield bucket, reply
            await asyncio.sleep(0)  # a hundred thousand at once must not hold up everybody else

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def claim_jobs(self, now: int, lease: int, limit: int = 50) -> list[Job]:
        ready = [(at, bucket, job) async for bucket, jobs in self._sweep(HOOKS, now, limit) for job, at in jobs]
        wanted: dict[int, list[bytes]] = {}
        for _, bucket, job in sorted(ready)[:limit]:
            wanted.setdefault(bucket, []).append(job)
        claims = [self._claim(bucket, ids, now, lease) for bucket, ids in wanted.items()]
        jobs = [job for claimed in await asyncio.gather(*claims) for job in claimed]
        return sorted(jobs, key=lambda job: job.due)

    async def _claim(self, bucket: int, ids: list[bytes], now: int, lease: int) -> list[Job]:
        keys = BUCKET_KEYS[bucket]
        jobs = []
        for payload in await self._run(CLAIM, (keys.hooks, keys.hookdata), (now, lease, *ids)):
            try:
                jobs.append(read_job(payload))
            except (ValueError, msgspec.MsgspecError) as error:
                log.error("a webhook call in the store cannot be read", key=keys.hookdata, error=str(error))
        return jobs

    async def finish_job(self, job: Job) -> None:
        keys = BUCKET_KEYS[bucket_of(job.user)]
        await self._run(FINISH, (keys.hooks, keys.hookdata), (job.id,))

    async def retry_job(self, job: Job, due: int) -> None:
        keys = BUCKET_KEYS[bucket_of(job.user)]
        again = msgspec.structs.replace(job, attempt=job.attempt + 1, due=due)
        arguments = (job.id, pack_job(job)[:4], due, pack_job(again))
        await self._run(RETRY, (keys.hooks, keys.hookdata), arguments)

    # --- processes ------------------------------------------------------------------------------------------------

    async def heartbeat(self, node: str, now: int) -> bool:
        return bool(await self._ask(ALIVE, "ZADD", ALIVE, now, node))

    async def nodes(self) -> dict[str, int]:
        return {node.decode(): int(at) for node, at in await self._ask(ALIVE, "ZRANGE", ALIVE, 0, -1, "WITHSCORES")}

    async def enlist(self, node: str, user: str) -> None:
        key = enlisted_key(node)
        await self._ask(ALIVE, "ZADD", ALIVE, "NX", 0, node)  # first: who holds somebody is looked at when silent
        await self._ask(key, "SADD", key, user)

    async def delist(self, node: str, user: str) -> None:
        key = enlisted_key(node)
        await self._ask(key, "SREM", key, user)

    async def enlisted(self, node: str) -> list[str]:
        key = enlisted_key(node)
        return sorted(user.decode("utf-8", "replace") for user in await self._ask(key, "SMEMBERS", key))

    async def forget_node(self, node: str) -> None:
        key = enlisted_key(node)
        await self._ask(key, "DEL", key)  # first: a node that is still listed is looked at again
        await self._ask(ALIVE, "ZREM", ALIVE, node)

    # --- bells ----------------------------------------------------------------------------------------------------

    def listen(self, user: str) -> None:
        bucket = bucket_of(user)
        self._listened[bucket] += 1
        if self._listened[bucket] == 1 and self._pipeline.is_open:
            self._pipeline.post("SUBSCRIBE", BUCKET_KEYS[bucket].bell)

    def unlisten(self, user: str) -> None:
        bucket = bucket_of(user)
        self._listened[bucket] -= 1
        if self._listened[bucket] <= 0:
            del self._listened[bucket]
            if self._pipeline.is_open:
                self._pipeline.post("UNSUBSCRIBE", BUCKET_KEYS[bucket].bell)

    def on_bell(self, hear: Callable[[Bell], None]) -> None:
        self._hearers.append(hear)

    def on_reconnect(self, hear: Callable[[], None]) -> None:
        self._reopened.append(hear)

    def _ring(self, channel: bytes, payload: bytes) -> None:
        try:
            bell = read_bell(payload)
        except (ValueError, msgspec.MsgspecError):
            log.warning("a bell cannot be read", channel=channel)
            return
        for hear in self._hearers:
            self._loop.call_soon(hear, bell)  # not here: what a hearer does wrong must not end the connection

    def _opened(self) -> None:
        for bucket in self._listened:
            self._pipeline.post("SUBSCRIBE", BUCKET_KEYS[bucket].bell)
        if self._was_open:
            log.info("the store is back", store=self._pipeline.address.shown)
            for hear in self._reopened:
                self._loop.call_soon(hear)
        self._was_open = True

    def _lost(self) -> None:
        log.warning("the connection to the store was lost", store=self._pipeline.address.shown)

    # --- which data these are -------------------------------------------------------------------------------------

    def lineage(self, user: str) -> str:
        return self._lineage.name

    async def _trace(self, ask: Ask) -> bool:
        """Learn the lineage of the server that is being greeted; True when it is another than before."""
        before, self._lineage = self._lineage, await trace_lineage(ask, LINEAGE)
        if self._was_open and self._ack == "durable" and not self._lineage.durable:
            raise StoreDown("acknowledgements are to be durable, and it answers before it writes to disk")
        if before.name in ("", self._lineage.name):
            return False
        shown, kept = self._pipeline.address.shown, self._lineage.name.startswith(before.name.partition(".")[0])
        if kept:
            log.warning("the store may have lost what was written last; users get a new epoch", store=shown)
        else:
            log.error("the store is not the one it was, or lost its data; users get a new epoch", store=shown)
        return True

    def _beat(self) -> None:
        """Notice a dead connection though nobody asks anything, and data that were taken away under a living one."""
        self._pulse = self._loop.call_later(PULSE, self._beat)
        if self._listened or self._pipeline.is_open:
            known = self._lineage.name
            self._pipeline.send("GET", LINEAGE).add_done_callback(partial(self._compare, known))

    def _compare(self, known: str, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None or self._lineage.name != known:
            return
        if future.result() != known.encode():
            self._pipeline.drop("the store's data are not those it had")

    # --- the event log --------------------------------------------------------------------------------------------

    def follow(self, user: str | None, start_ms: int, *, live: bool = True) -> AsyncIterator[dict[str, Any]]:
        buckets = BUCKET_KEYS if user is None else (BUCKET_KEYS[bucket_of(user)],)
        return self._journal.follow([bucket.log for bucket in buckets], user, start_ms, live=live)

    # --- the connection -------------------------------------------------------------------------------------------

    async def ping(self) -> float:
        start = perf_counter()  # the loop's own clock counts whole milliseconds
        await self._pipeline.send("PING")
        return perf_counter() - start

    async def close(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        self._pipeline.shut()
        await self._journal.close()

    async def _examine(self) -> None:
        await self._ask(BUCKET_COUNT, "SET", BUCKET_COUNT, BUCKETS, "NX")
        count = await self._ask(BUCKET_COUNT, "GET", BUCKET_COUNT)
        shown, server = self._pipeline.address.shown, self._pipeline.server
        version = server.get(b"version", b"0").decode()
        if int(version.partition(".")[0]) < OLDEST:
            raise StoreUnusable(f"{shown} is Redis {version}; Handrail needs Redis {OLDEST} or newer, or Valkey")
        if count != b"%d" % BUCKETS:
            raise StoreUnusable(
                f"{shown} is laid out in {count.decode('utf-8', 'replace')} buckets and this version of Handrail uses "
                f"{BUCKETS}: use the version that wrote it, or another database"
            )
        for script in SCRIPTS:
            await self._pipeline.send("SCRIPT", "LOAD", script.source)
        self._examine_ack()
        await self._warn_of_loss()

    def _examine_ack(self) -> None:
        shown = self._pipeline.address.shown
        if self._ack == "durable" and not self._lineage.durable:
            what = "hides its settings" if self._lineage.durable is None else "answers before it writes to disk"
            mend = "set `appendonly yes` and `appendfsync always` there"
            raise StoreUnusable(f"acknowledgements are to be durable (HANDRAIL_ACK), and {shown} {what}: {mend}")
        if self._ack == "replicated" and not self._lineage.replicas:
            log.warning("no replica is connected, and nothing is acknowledged without one (HANDRAIL_ACK)", store=shown)

    async def _warn_of_loss(self) -> None:
        """Say so where the server is set up to forget; a server that hides its settings is taken as it is."""
        try:
            settings = await self._pipeline.send("CONFIG", "GET", "maxmemory-policy", "appendonly")
        except hiredis.ReplyError:
            return
        shown = self._pipeline.address.shown
        if settings.get(b"maxmemory-policy", b"noeviction") != b"noeviction":
            log.warning(
                "the store may evict users when its memory is full; set maxmemory-policy noeviction", store=shown
            )
        if settings.get(b"appendonly", b"yes") != b"yes":
            log.warning("the store loses its data when it stops; set appendonly yes", store=shown)

    async def _ask(self, key: bytes, *command: Any) -> Any:
        try:
            return await self._pipeline.send(*command)
        except hiredis.ReplyError as error:
            raise fault(error, key) from None

    async def _run(
        self, script: Script, keys: tuple[bytes, ...], arguments: Iterable[Any], send: Send | None = None
    ) -> Any:
        """Run a script by its hash; when the server has forgotten it, nothing has run, and it is told once more."""
        send = send or self._pipeline.send
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        for known in (True, False):
            try:
                return await send(*command)
            except hiredis.ReplyError as error:
                if not known or not str(error).startswith("NOSCRIPT"):
                    raise fault(error, keys[0]) from None
            await self._pipeline.send("SCRIPT", "LOAD", script.source)


def fault(error: hiredis.ReplyError, key: bytes) -> Exception:
    """Whose fault an error reply is: what lies in the store, a bug of ours, or the server's set-up."""
    text = str(error)
    if text.startswith("WRONGTYPE"):
        return CorruptState(f"{key!r}, or a key written with it, is not of the type Handrail gives it")
    if text.startswith(("REFUSED", "ERR REFUSED")):
        return AssertionError(text)
    return StoreUnusable(f"the store refused a command: {text}")
