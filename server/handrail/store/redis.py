"""The store in Redis or Valkey: one server, one that Sentinels watch, or a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Self

import hiredis
import msgspec
import structlog

from handrail.core.state import State
from handrail.counts import Counts
from handrail.store import journal
from handrail.store.bells import Bells
from handrail.store.heads import LENGTH
from handrail.store.hurdles import RIGHTS
from handrail.store.keys import (
    ALIVE,
    BUCKET_COUNT,
    BUCKET_KEYS,
    BUCKETS,
    QUARANTINE,
    REVOKED,
    bucket_of,
    enlisted_key,
    ticket_key,
    user_keys,
)
from handrail.store.lineage import Lineages
from handrail.store.masters import COMMON, Masters
from handrail.store.nodes import Nodes, Send
from handrail.store.packing import pack_commit, pack_job, read_job, read_position, read_state
from handrail.store.parsing import LARGEST, parse_due, parse_messages
from handrail.store.pipeline import Pipeline, pack
from handrail.store.protocol import (
    Ack,
    Bell,
    Commit,
    CorruptState,
    Job,
    Quarantined,
    Shortfall,
    StoreDown,
    StoreUnusable,
)
from handrail.store.replicas import find_shortfall
from handrail.store.scripts import (
    CLAIM,
    COMMIT,
    FINISH,
    HOOKS,
    QUARANTINE_MAX,
    RETRY,
    REVOKED_FOR,
    REVOKED_MAX,
    TIMERS,
    Script,
    Sweep,
)

OLDEST = 7  # major version of Redis; Valkey began at 7
WANTED = {
    "maxmemory-policy": (b"noeviction", "the store may evict users when its memory is full"),
    "appendonly": (b"yes", "the store loses its data when it stops"),
}
WANTED_OF_CLUSTER = {
    "cluster-require-full-coverage": (b"no", "the whole cluster stops while one of its masters is away"),
}
PULSE = 1.0  # seconds between signs of life
WAIT_MS = 200  # how long a replica may take to have a write, where acknowledgements wait for one

log = structlog.get_logger(__name__)
_quarantined = msgspec.msgpack.Decoder(Quarantined)
_pack = msgspec.msgpack.Encoder().encode


class RedisStore:
    """See `Store`. Made by `connect`; one connection to each server that holds data.

    Raises StoreDown when Redis cannot be reached, CorruptState when a key holds what Handrail does not write.
    """

    def __init__(self, url: str, *, deadline: float = 1.0, ack: Ack = "accepted") -> None:
        self._loop = asyncio.get_running_loop()
        self._ack = ack
        self._lineages = Lineages(ack)
        self.counts = Counts()
        self._bells = Bells(self.counts)
        self._masters = Masters(url, self._bells, deadline=deadline, greet=self._lineages.trace)
        self._bells.masters = self._masters
        self._nodes = Nodes(self._masters, deadline=deadline)
        self._pulse: asyncio.TimerHandle | None = None
        self._listed: set[str] = set()  # processes that were among the nodes once

    @classmethod
    async def connect(cls, url: str, *, deadline: float = 1.0, ack: Ack = "accepted", warn: bool = True) -> Self:
        """Open a store and see that it is one we can use.

        `deadline` is in seconds, for every single command; `ack` what an answered commit is worth; without
        `warn` nothing is said of how the store is set up. Raises StoreDown
        when nothing answers, StoreUnusable when what answers is too old, laid out for another number of buckets, or set
        up so that it cannot give such an answer.
        """
        store = cls(url, deadline=deadline, ack=ack)
        try:
            await store._masters.connect()
            await store._examine(warn=warn)
        except BaseException:
            await store.close()
            raise
        store._beat()
        return store

    # --- the user's turn ------------------------------------------------------------------------------------------

    async def load(self, user: str) -> State | None:
        keys = user_keys(user)
        # The state before its ids: a commit between the two then shows as an id too many, which is a true one.
        reads = ("GET", keys.state), ("ZRANGE", keys.seen, 0, -1, "WITHSCORES")
        blob, seen = await self._nodes.read(keys.state, *reads)
        if blob is None:
            return None
        for reply in (blob, seen):
            if isinstance(reply, hiredis.ReplyError):
                raise fault(reply, keys.state)
        return read_state(user, blob, seen)

    async def load_bare(self, users: Sequence[str]) -> list[State]:
        at: dict[Pipeline, list[str]] = {}
        for user in users:
            at.setdefault(self._masters.owner(bucket_of(user)), []).append(user)
        loads = [load_bare(server, held) for server, held in at.items()]
        return [state for loaded in await asyncio.gather(*loads) for state in loaded]

    async def commit(self, commit: Commit) -> bool:
        keys, arguments = pack_commit(commit)
        return bool(await self._run(COMMIT, keys, arguments, send_confirmed if self.confirms else Pipeline.send))

    def write(self, commit: Commit, told: Callable[[bool], None]) -> None:
        if self.confirms:  # which takes two answers
            told(False)
            return
        keys, arguments = pack_commit(commit)
        server = self._masters.owner(bucket_of(commit.state.user))
        server.call(pack(("EVALSHA", COMMIT.sha, len(keys), *keys, *arguments)), told)

    @property
    def confirms(self) -> bool:
        return self._ack == "replicated"

    async def position(self, user: str) -> tuple[str, int] | None:
        key = user_keys(user).state
        head = await self._ask(key, "GETRANGE", key, 0, LENGTH - 1)
        return read_position(user, head) if head else None

    async def outbox(self, user: str, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        key = user_keys(user).outbox
        entries = await self._ask(key, "XRANGE", key, f"({after}-0", "+", "COUNT", limit)
        return parse_messages(key, entries)

    # --- time -----------------------------------------------------------------------------------------------------

    async def due(self, before: int, buckets: list[int] | None = None, limit: int = 200) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        async for bucket, members in self._sweep(TIMERS, before, limit, buckets):
            for timer in parse_due(bucket, members):
                if timer is None:
                    self.counts.add("unreadable.timer")
                else:
                    found.append(timer)
        return found

    async def _sweep(
        self, sweep: Sweep, before: int, limit: int, buckets: Sequence[int] | None = None
    ) -> AsyncIterator[tuple[int, list[tuple[bytes, float]]]]:
        """(bucket, its members due by then) in one write a server; a bucket that cannot be read is passed over."""
        asked = range(BUCKETS) if buckets is None else buckets
        async for bucket, reply in self._nodes.sweep(asked, lambda part: sweep.packed(part, before, limit)):
            if isinstance(reply, hiredis.ReplyError):
                self.counts.add("unreadable.bucket")
                log.warning("a bucket cannot be read", bucket=bucket, error=str(reply))
            else:
                yield bucket, reply

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def claim_jobs(self, now: int, lease: int, limit: int = 50) -> list[Job]:
        ready = [(at, bucket, job) async for bucket, jobs in self._sweep(HOOKS, now, limit) for job, at in jobs]
        wanted: dict[int, list[bytes]] = {}
        for _, bucket, job in sorted(ready)[:limit]:
            wanted.setdefault(bucket, []).append(job)
        claims = [self._claim(bucket, ids, now, lease) for bucket, ids in wanted.items()]
        jobs: list[Job] = []
        for claimed in await asyncio.gather(*claims, return_exceptions=True):
            if isinstance(claimed, list):
                jobs += claimed
            elif isinstance(claimed, CorruptState):
                self.counts.add("unreadable.bucket")
                log.error("the webhook calls of a bucket cannot be read", error=str(claimed))
            elif not isinstance(claimed, StoreDown):  # those of one server that is away wait, as others' do not
                raise claimed
        return sorted(jobs, key=lambda job: job.due)

    async def _claim(self, bucket: int, ids: list[bytes], now: int, lease: int) -> list[Job]:
        keys = BUCKET_KEYS[bucket]
        jobs = []
        for payload in await self._run(CLAIM, (keys.hooks, keys.hookdata), (now, lease, *ids)):
            try:
                jobs.append(read_job(payload))
            except (ValueError, msgspec.MsgspecError) as error:
                self.counts.add("unreadable.job")
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
        added = bool(await self._ask(ALIVE, "ZADD", ALIVE, now, node))
        self._listed.add(node)
        return added

    async def nodes(self) -> dict[str, int]:
        listed = await self._ask(ALIVE, "ZRANGE", ALIVE, 0, -1, "WITHSCORES")
        return {node.decode("utf-8", "replace"): int(at) for node, at in listed if abs(at) < LARGEST}

    async def enlist(self, node: str, user: str) -> None:
        try:  # first: who holds somebody is looked at when silent
            await self._ask(ALIVE, "ZADD", ALIVE, "NX", 0, node)
        except StoreDown:  # a part of a cluster is away: who was among the nodes before most likely is still
            if node not in self._listed:
                raise
        self._listed.add(node)
        key = enlisted_key(node, bucket_of(user))
        await self._ask(key, "SADD", key, user)

    async def delist(self, node: str, user: str) -> None:
        key = enlisted_key(node, bucket_of(user))
        await self._ask(key, "SREM", key, user)

    async def enlisted(self, node: str) -> list[str]:
        found = [users async for users in self._of_every_bucket("SMEMBERS", node)]
        return sorted(user.decode("utf-8", "replace") for users in found for user in users)

    async def forget_node(self, node: str) -> None:
        async for _ in self._of_every_bucket("DEL", node):
            pass
        await self._ask(ALIVE, "ZREM", ALIVE, node)  # last: a node that is still listed is looked at again

    async def _of_every_bucket(self, command: str, node: str) -> AsyncIterator[Any]:
        """The replies to this command on the set of users of every bucket. Raises StoreDown if any is missing."""

        def packed(part: Sequence[int]) -> bytes:
            return b"".join(pack((command, enlisted_key(node, bucket))) for bucket in part)

        async for bucket, reply in self._nodes.sweep(range(BUCKETS), packed, whole=True):
            if isinstance(reply, hiredis.ReplyError):
                raise fault(reply, enlisted_key(node, bucket))
            yield reply

    # --- who may come in ------------------------------------------------------------------------------------------

    async def keep_ticket(self, ticket: str, content: bytes, ttl: int) -> None:
        key = ticket_key(ticket)
        await self._ask(key, "SET", key, content, "PX", ttl)

    async def take_ticket(self, ticket: str) -> bytes | None:
        key = ticket_key(ticket)
        content: bytes | None = await self._ask(key, "GETDEL", key)
        return content

    async def announce(self, user: str) -> None:
        await self._ask(REVOKED, "XADD", REVOKED, "MAXLEN", "~", REVOKED_MAX, "*", "user", user)
        await self._ask(REVOKED, "PEXPIRE", REVOKED, REVOKED_FOR)

    async def announced(self, after: str = "") -> list[tuple[str, str]]:
        entries = await self._ask(REVOKED, "XRANGE", REVOKED, f"({after}" if after else "-", "+", "COUNT", 1_000)
        return [(mark.decode(), fields[1].decode("utf-8", "replace")) for mark, fields in entries]

    # --- bells ----------------------------------------------------------------------------------------------------

    def listen(self, user: str) -> None:
        self._bells.listen(user)

    def unlisten(self, user: str) -> None:
        self._bells.unlisten(user)

    def on_bell(self, hear: Callable[[Bell], None]) -> None:
        self._bells.on_bell(hear)

    def on_reconnect(self, hear: Callable[[], None]) -> None:
        self._bells.on_reconnect(hear)

    # --- which data these are -------------------------------------------------------------------------------------

    def lineage(self, user: str) -> str:
        return self._masters.owner(bucket_of(user)).lineage

    def _beat(self) -> None:
        """Notice a dead connection though nobody asks anything, and data that were taken away under a living one."""
        self._pulse = self._loop.call_later(PULSE, self._beat)
        for pipeline in self._masters.servers:
            if self._bells or pipeline.is_open:
                self._lineages.check(pipeline)
        self._bells.settle()
        self._masters.outages.look(self._masters.servers)

    # --- the event log --------------------------------------------------------------------------------------------

    def follow(self, user: str | None, start_ms: int, *, live: bool = True) -> AsyncIterator[dict[str, Any]]:
        buckets = range(BUCKETS) if user is None else (bucket_of(user),)
        return journal.follow(self._nodes, buckets, user, start_ms, live=live, counts=self.counts)

    # --- what was set aside ---------------------------------------------------------------------------------------

    async def set_aside(self, entry: Quarantined) -> None:
        await self._ask(QUARANTINE, "XADD", QUARANTINE, "MAXLEN", "~", QUARANTINE_MAX, "*", "e", _pack(entry))

    async def quarantine(self) -> list[Quarantined]:
        found = []
        for _, fields in await self._ask(QUARANTINE, "XREVRANGE", QUARANTINE, "+", "-", "COUNT", QUARANTINE_MAX):
            try:
                found.append(_quarantined.decode(fields[1]))
            except (ValueError, msgspec.MsgspecError):
                self.counts.add("unreadable.quarantine")
        return found

    # --- the connection -------------------------------------------------------------------------------------------

    async def time(self) -> int:
        seconds, micros = await self._ask(ALIVE, "TIME")
        return int(seconds) * 1_000 + int(micros) // 1_000

    async def ping(self) -> float:
        """Of the slowest server; one of several may be away."""
        start = perf_counter()  # the loop's own clock counts whole milliseconds
        asked = [pipeline.send("PING") for pipeline in self._masters.reachable(range(COMMON + 1))]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(faults) == len(answers):
            raise faults[0]
        return perf_counter() - start

    async def shortfall(self) -> Shortfall | None:
        servers = [*self._masters.reachable(range(COMMON + 1))]
        return await find_shortfall(servers) if self.confirms else None

    async def close(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        self._masters.shut()

    async def _examine(self, *, warn: bool) -> None:
        before = await self._ask(BUCKET_COUNT, "SET", BUCKET_COUNT, BUCKETS, "NX", "GET")
        count = before or b"%d" % BUCKETS
        if count != b"%d" % BUCKETS:
            shown = self._masters.owner(COMMON).address.shown
            raise StoreUnusable(
                f"{shown} is laid out in {count.decode('utf-8', 'replace')} buckets and this version of Handrail uses "
                f"{BUCKETS}: use the version that wrote it, or another database"
            )
        examining = (examine(server, warn=warn) for server in self._masters.servers)
        for examined in await asyncio.gather(*examining, return_exceptions=True):
            # The store answers, so a part of it may be away.
            if examined is not None and not isinstance(examined, StoreDown):
                raise examined
        for server in self._masters.servers:
            self._lineages.examine(server, warn=warn)

    async def _ask(self, key: bytes, *command: Any) -> Any:
        try:
            return await self._nodes.send(key, *command)
        except hiredis.ReplyError as error:
            raise fault(error, key) from None

    async def _run(
        self, script: Script, keys: tuple[bytes, ...], arguments: Iterable[Any], send: Send = Pipeline.send
    ) -> Any:
        """Run a script by its hash; when the server does not know it, nothing has run, and it is sent in full."""
        command = (len(keys), *keys, *arguments)
        for name in (("EVALSHA", script.sha), ("EVAL", script.source)):
            try:
                return await self._nodes.send(keys[0], *name, *command, send=send)
            except hiredis.ReplyError as error:
                if name[0] == "EVAL" or not str(error).startswith("NOSCRIPT"):
                    raise fault(error, keys[0]) from None


async def load_bare(server: Pipeline, users: Sequence[str]) -> list[State]:
    """The states that one server has of these users, without their ids."""
    packed = b"".join([pack(("GET", user_keys(user).state)) for user in users])
    try:
        blobs = await server.send_many(packed, len(users))
    except StoreDown:
        return []
    found = []
    for user, blob in zip(users, blobs, strict=True):
        if isinstance(blob, bytes):
            with suppress(CorruptState):
                found.append(read_state(user, blob, ()))
    return found


async def send_confirmed(server: Pipeline, *command: Any) -> Any:
    """A write, answered when a replica has it, too; those that leave together wait together."""
    both = server.send(*command), server.confirm("WAIT", 1, WAIT_MS)
    await asyncio.wait(both)
    written = both[0].result()
    if written and not both[1].result():
        reason = f"no replica had the write within {WAIT_MS} ms"
        server.note_refusal(reason)
        raise StoreDown(reason)
    return written


async def examine(server: Pipeline, *, warn: bool) -> None:
    """See that one server is one we can use, and perhaps warn of how it is set up. Raises StoreUnusable, StoreDown."""
    await server.send("PING")  # what it said of itself is known once it is connected
    shown, version = server.address.shown, server.server.get(b"version", b"0").decode()
    if int(version.partition(".")[0]) < OLDEST:
        raise StoreUnusable(f"{shown} is Redis {version}; Handrail needs Redis {OLDEST} or newer, or Valkey")
    if warn:
        await warn_of_loss(server)


async def warn_of_loss(server: Pipeline) -> None:
    """Say so where a server is set up to forget; one that hides its settings is taken as it is."""
    asked = WANTED | (WANTED_OF_CLUSTER if server.server.get(b"mode") == b"cluster" else {})
    try:
        settings = await server.send("CONFIG", "GET", *asked)
    except hiredis.ReplyError:
        return
    for name, (wanted, what) in asked.items():
        if settings.get(name.encode(), wanted) != wanted:
            log.warning(f"{what}; set {name} {wanted.decode()}", store=server.address.shown)


def fault(error: hiredis.ReplyError, key: bytes) -> Exception:
    """Whose fault an error reply is: what lies in the store, a bug of ours, or the server's set-up."""
    text = str(error)
    if text.startswith("WRONGTYPE"):
        return CorruptState(f"{key!r}, or a key written with it, is not of the type Handrail gives it")
    if text.startswith(("REFUSED", "ERR REFUSED")):
        return AssertionError(text)
    hint = f"; {RIGHTS}" if text.startswith("NOPERM") else ""
    return StoreUnusable(f"the store refused a command: {text}{hint}")
