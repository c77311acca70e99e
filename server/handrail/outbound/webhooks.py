"""The courier: takes webhook calls that are due from the store and POSTs them, at least once each.

A claimed job is hidden from other couriers for LEASE and then comes back by itself. So whoever cannot or should not
finish a job just lets go of it: a process that dies, one that shuts down, a webhook that is parked, an endpoint with
too much of a queue. Only an outcome settles a job. A try begins only while the lease outlasts it, so that two couriers
do not send the same job at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import structlog
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
)
from aiohttp.abc import AbstractResolver

from handrail.core.webhooks import Webhook
from handrail.counts import Counts
from handrail.outbound.addresses import Address, Refused, connector
from handrail.outbound.lanes import Lane
from handrail.outbound.outcomes import Delivered, Drop, Outcome, Retry, again, judge
from handrail.outbound.signing import headers, message_id
from handrail.store.protocol import CorruptState, Job, Store, StoreDown

LEASE = 60_000
DEADLINE = 15_000  # for one try, from the name lookup to the head of the answer
SETTLING = 5_000  # for telling the store
# How old a call to a webhook that is not in the rules may get: rules reach the processes at different times.
UNKNOWN_FOR = 3_600_000
BATCH = 200
POLL_S = 1.0
SPACING_S = 0.05  # between claims while pokes come in: a claim looks through every bucket
GRACE_S = 3.0  # for tries under way when the courier is stopped

AT_ONCE = 64  # tries in this process
HELD = 2048  # jobs claimed and not settled
ANSWER_BYTES = 65_536

_RESULTS = {Delivered: "delivered", Retry: "retried", Drop: "dropped"}
log = structlog.get_logger("handrail.webhooks")


class Courier:
    """Sends due jobs while `run` runs; several couriers, in any processes, may share a store.

    `webhooks` gives those of the rules in force, or None while there are no rules (then nothing is claimed). `clock` is
    milliseconds since the epoch, `deadline` the milliseconds a try may take, `chance` gives numbers in [0, 1).
    """

    def __init__(
        self,
        store: Store,
        webhooks: Callable[[], Mapping[str, Webhook] | None],
        *,
        clock: Callable[[], int],
        allow_private: bool = False,
        deadline: int = DEADLINE,
        chance: Callable[[], float] = random.random,
        resolver: AbstractResolver | None = None,
        own: Address | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._store = store
        self._webhooks = webhooks
        self._clock = clock
        self._allow_private = allow_private
        self._deadline = deadline
        self._chance = chance
        self._resolver = resolver
        self._own = own
        self._counts = counts or Counts()
        self._oldest: int | None = None
        self._wake = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._lanes: dict[str, Lane] = {}
        self._held: set[asyncio.Task[None]] = set()
        self._trying: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, str] = {}  # webhook -> why its calls wait, so that it is said once

    @property
    def oldest(self) -> int | None:
        """When the oldest of the calls was made that were due at the latest look, or None if none was."""
        return self._oldest

    def poke(self) -> None:
        """There may be something to send. Call it from the loop that `run` runs in."""
        self._wake.set()

    async def run(self) -> None:
        """Sends until cancelled; tries under way then get GRACE_S to end."""
        async with self._open() as session, asyncio.TaskGroup() as group:
            try:
                while True:
                    self._wake.clear()
                    until = self._clock() + LEASE - self._deadline - SETTLING
                    claimed = await self._claim()
                    self._note(claimed)
                    for job in claimed:
                        self._take(job, session, group, until=until)
                    if len(claimed) < BATCH:
                        await self._rest()
            finally:
                await self._land()

    def _open(self) -> ClientSession:
        return ClientSession(
            connector=connector(allow_private=self._allow_private, resolver=self._resolver, own=self._own),
            cookie_jar=DummyCookieJar(),
            headers={"User-Agent": "Handrail", "Accept-Encoding": "identity", "Content-Type": "application/json"},
            timeout=ClientTimeout(total=self._deadline / 1000),
            auto_decompress=False,
            trust_env=False,
        )

    async def _rest(self) -> None:
        await asyncio.sleep(SPACING_S)
        if len(self._held) < HELD:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _land(self) -> None:
        for task in self._held - self._trying:
            task.cancel()
        if self._trying:
            await asyncio.wait(self._trying, timeout=GRACE_S)
        for task in self._trying:
            task.cancel()

    async def _claim(self) -> list[Job]:
        for lane in self._lanes.values():
            lane.shed()
        if self._webhooks() is None or len(self._held) >= HELD:
            return []
        try:
            return await self._store.claim_jobs(self._clock(), LEASE, BATCH)
        except StoreDown:  # the store tells of it
            return []

    def _note(self, claimed: list[Job]) -> None:
        if claimed or not self._held:
            self._oldest = min((job.created for job in claimed), default=None)

    def _take(self, job: Job, session: ClientSession, group: asyncio.TaskGroup, *, until: int) -> None:
        """Queue the job to be begun by `until`, or let go of it."""
        hook = (self._webhooks() or {}).get(job.webhook)
        if hook is None:
            return self._meet_unknown(job, group)
        if hook.missing:
            return self._say_once(job, f"not set: {', '.join(hook.missing)}")
        self._waiting.pop(job.webhook, None)
        lane = self._lanes.setdefault(job.webhook, Lane(asyncio.get_running_loop().time))
        if lane.held < lane.room:
            lane.held += 1
            self._hold(group.create_task(self._serve(job, hook, lane, session, until=until)), lane)

    def _meet_unknown(self, job: Job, group: asyncio.TaskGroup) -> None:
        if self._clock() - job.created < UNKNOWN_FOR:
            return self._say_once(job, "not in the rules")
        self._hold(group.create_task(self._settle(job, Drop("the webhook is no longer in the rules"))))

    def _say_once(self, job: Job, reason: str) -> None:
        if self._waiting.get(job.webhook) != reason:
            self._waiting[job.webhook] = reason
            log.warning("webhook calls wait", webhook=job.webhook, reason=reason)

    def _hold(self, task: asyncio.Task[None], lane: Lane | None = None) -> None:
        self._held.add(task)
        task.add_done_callback(partial(self._let_go, lane))

    def _let_go(self, lane: Lane | None, task: asyncio.Task[None]) -> None:
        self._held.discard(task)
        self._trying.discard(task)
        if lane is not None:
            lane.held -= 1

    async def _serve(self, job: Job, hook: Webhook, lane: Lane, session: ClientSession, *, until: int) -> None:
        async with lane.turn(self._turns):
            if self._clock() > until:
                return
            if (task := asyncio.current_task()) is not None:
                self._trying.add(task)
            async with lane.timed():
                outcome = await self._try(job, hook, session)
        await self._settle(job, outcome)

    async def _try(self, job: Job, hook: Webhook, session: ClientSession) -> Outcome:
        now, outcome = self._clock(), None
        try:
            head = {**hook.headers, **headers(message_id(job.id), now, job.body, hook.key)}
            async with session.post(hook.url, data=job.body, headers=head, allow_redirects=False) as response:
                asked = response.headers.get("Retry-After")
                outcome = judge(response.status, asked, job.attempt, now=now, chance=self._chance())
                await _drain(response)
        except Exception as fault:  # the rim: whatever goes wrong in a try, the job must not be lost
            failure = again(job.attempt, _describe(fault), chance=self._chance())
            return outcome or failure  # once the status is in, what follows it changes nothing
        return outcome

    async def _settle(self, job: Job, outcome: Outcome) -> None:
        """Tell the store; if it stays silent, the lease brings the job back and the receiver sees the same id again."""
        _report(job, outcome)
        self._counts.add(f"webhooks.{_RESULTS[type(outcome)]}")
        for wait in (0.2, 1.0, 2.0, None):
            try:
                if isinstance(outcome, Retry):
                    return await self._store.retry_job(job, self._clock() + outcome.after)
                return await self._store.finish_job(job)
            except CorruptState as fault:  # raised, it would end the tries of all others
                log.error("webhook outcome not stored", message=message_id(job.id), reason=str(fault))
                return
            except StoreDown as fault:
                if wait is None:
                    log.warning("webhook outcome not stored", message=message_id(job.id), reason=str(fault))
                else:
                    await asyncio.sleep(wait)


async def _drain(response: ClientResponse) -> None:
    """Read a short answer to its end, so that the connection can serve again; leaving a longer one closes it."""
    left = ANSWER_BYTES
    with suppress(ClientError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            while left > 0 and (chunk := await response.content.readany()):
                left -= len(chunk)


def _describe(fault: Exception) -> str:
    """Why a try failed, without the address: it may hold credentials or personal data."""
    match fault:
        case ClientConnectorCertificateError():
            return "the certificate of the host is not valid"
        case ClientConnectorDNSError():
            return "the name of the host could not be looked up"
        case ClientConnectorError(os_error=Refused() as refused):
            return str(refused.strerror)
        case ClientConnectorError(os_error=cause):
            return f"no connection ({type(cause).__name__})"
        case InvalidURL():
            return "the address is not one that can be connected to"
        case TimeoutError():
            return "no answer in time"
    return f"the exchange failed ({type(fault).__name__})"


def _report(job: Job, outcome: Outcome) -> None:
    facts = {"webhook": job.webhook, "message": message_id(job.id), "attempt": job.attempt + 1}
    match outcome:
        case Delivered(status):
            log.info("webhook delivered", **facts, status=status)
        case Retry(after, reason):
            log.warning("webhook to be tried again", **facts, reason=reason, in_s=round(after / 1000))
        case Drop(reason):
            log.error("webhook given up", **facts, reason=reason)
