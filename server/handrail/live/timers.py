"""The timer pump: turns due alarms into events, on time, whichever process armed them.

Alarms lie in the store. Once a second the pump reads those that fall due within the next moments; those this process
itself commits for such a short time it knows already. A due alarm is an `Alarm` event of its user: the decision and the
removal of the timer are one commit, so a process that comes second finds nothing to do. There are no leases. To save
that waste, buckets are shared out among the processes that live: the owner fires on time, others only what is overdue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from hashlib import blake2b
from heapq import heappop, heappush

import structlog

from handrail.core.events import Alarm
from handrail.core.state import State
from handrail.histogram import Histogram
from handrail.live.presence import KEEPER
from handrail.profiles import Profiles
from handrail.runner import Runner, TooManyConflicts
from handrail.store.keys import BUCKETS, bucket_of
from handrail.store.protocol import CorruptState, StoreDown
from handrail.turns import Committed, Outcome

SWEEP = 1_000  # ms between two readings of the store
LOOKAHEAD = 1_500  # ms of alarms known in advance
OVERDUE = 800  # ms after which anybody fires an alarm; with the sweep, what a killed process left is 2 s late at most
IN_FLIGHT = 200
AT_ONCE = 50  # alarms fired before others get their turn on the loop
GATHER = 10  # ms after fewer: what falls due meanwhile shares its round trips
STRETCH = 500  # alarms noted likewise
BACKLOG = 2_000  # alarms in memory; beyond it the store is not read
GLANCE = 20  # ms between two looks at whether they have become fewer
REST = 1_000  # ms before a user's alarm fires again when firing it did not move it
LONG_REST = 60_000  # and where the user's state cannot be read

log = structlog.get_logger(__name__)


class Timers:
    """`nodes` gives the names of the processes that live, this one among them."""

    def __init__(self, runner: Runner, *, nodes: Callable[[], frozenset[str]]) -> None:
        self._runner = runner
        self._store = runner.store
        self._profiles = Profiles(runner)
        self._clock = runner.clock
        self._nodes = nodes
        self._heap: list[tuple[int, str]] = []
        self._armed: dict[str, int] = {}  # user -> due; a heap entry that says otherwise is void
        self._firing: dict[str, int | None] = {}  # user -> the alarm that the latest commit since then left
        self._resting: dict[str, int] = {}  # user -> until when a spent alarm is left alone
        self._next_sweep = 0
        self._sweeping = False
        self._heard: set[str] = set()  # users of this process's commits since then: it knows more of them
        self.lateness = Histogram()  # of what was fired, in milliseconds
        self._wake = asyncio.Event()
        runner.on_commit(self.committed)

    def committed(self, commit: Committed) -> None:
        """Follow this process's own commits: an alarm may be moved, removed, or fall due before the next sweep."""
        if self._sweeping:
            self._heard.add(commit.user)
        if commit.user in self._firing:
            self._firing[commit.user] = commit.alarm
        else:
            self._follow(commit.user, commit.alarm)

    def _follow(self, user: str, alarm: int | None) -> None:
        if alarm is None or alarm > self._clock() + LOOKAHEAD:
            self._armed.pop(user, None)
        else:
            self._arm(user, alarm)

    @property
    def overdue(self) -> int:
        """How long ago the oldest alarm fell due that is known here and not yet decided; milliseconds."""
        waiting = [due for due, user in self._heap[:1] if self._armed.get(user) == due]
        deciding = [due for due in self._firing.values() if due is not None]
        return max(0, self._clock() - min(waiting + deciding, default=self._clock()))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:  # a slow reading holds up nothing that is known already
            tasks.create_task(self._read_on())
            tasks.create_task(self._fire_on())

    async def turn(self) -> None:
        """Read the store if it is time to, then fire what is due. Raises StoreDown."""
        now = self._clock()
        try:
            if self._is_time_to_read(now):
                self._next_sweep = now + SWEEP
                await self._sweep(now)
        finally:
            self.fire()

    def _is_time_to_read(self, now: int) -> bool:
        due = now >= self._next_sweep or self._next_sweep > now + SWEEP  # the latter: the clock was set back
        return due and len(self._heap) <= BACKLOG

    def fire(self) -> int:
        """Submit what is due, oldest first, as far as there is room; how many that were."""
        due = self._take()
        if all(self._runner.recall(user) is not None for user in due):
            self._submit(due, {})
        else:
            self._runner.look_after(self._read_and_submit(due))
        return len(due)

    def _take(self) -> dict[str, int]:
        """The next that are due: by user, when."""
        now = self._clock()
        taken: dict[str, int] = {}
        while self._heap and self._heap[0][0] <= now and len(self._firing) < IN_FLIGHT and len(taken) < AT_ONCE:
            due, user = heappop(self._heap)
            if self._armed.get(user) != due:
                continue
            del self._armed[user]
            self._firing[user] = taken[user] = due
        return taken

    async def _read_and_submit(self, due: dict[str, int]) -> None:
        """Nobody holds most of them: their states come in one round trip, not in one each."""
        self._submit(due, await self._runner.read_bare(due))

    def _submit(self, due: dict[str, int], states: Mapping[str, State]) -> None:
        now = self._clock()
        for user, at in due.items():
            self.lateness.observe(now - at)
            future = self._runner.submit(user, Alarm(at=at), bare=states.get(user))
            future.add_done_callback(partial(self._fired, user, at))

    async def _sweep(self, now: int) -> None:
        self._resting = {user: until for user, until in self._resting.items() if until > now}
        self._sweeping = True
        try:
            await self._read(now)
        finally:
            self._sweeping = False
            self._heard.clear()

    async def _read(self, now: int) -> None:
        mine, others = share_out(self._nodes(), self._runner.node)
        found = await self._store.due(now + LOOKAHEAD, mine) if mine is None or mine else []
        if others:
            found += await self._store.due(now - OVERDUE, others)
        for number, (due, user) in enumerate(found, 1):
            if user not in self._firing and user not in self._resting and user not in self._heard:
                self._arm(user, due)
            if number % STRETCH == 0:
                await asyncio.sleep(0)

    def _arm(self, user: str, due: int) -> None:
        if self._armed.get(user) != due:
            self._armed[user] = due
            heappush(self._heap, (due, user))
            self._wake.set()

    def _fired(self, user: str, due: int, future: asyncio.Future[Outcome]) -> None:
        left = self._firing.pop(user)
        self._wake.set()
        if future.cancelled():  # the process stops, and the alarm stays in the store
            return
        fault = future.exception()
        if isinstance(fault, CorruptState):
            self._resting[user] = self._clock() + LONG_REST  # it is in quarantine, and told already
            return
        if fault is not None and not isinstance(fault, StoreDown | TooManyConflicts):
            log.error("an alarm could not be decided", bucket=bucket_of(user), exc_info=fault)
        elif fault is None and left is not None and left <= due:
            log.warning("an alarm did not move when it fired", bucket=bucket_of(user))
        elif fault is None:
            self._follow(user, left)
            if self._profiles.is_owed(user):
                self._runner.look_after(self._profiles.carry_on(user))
            return
        self._resting[user] = self._clock() + REST  # the alarm is still in the store: a later sweep finds it

    async def _read_on(self) -> None:
        while True:
            with suppress(StoreDown):  # the store tells of it
                await self.turn()
            wait = self._next_sweep - self._clock()
            await asyncio.sleep(min(max(wait, GLANCE), SWEEP) / 1000)

    async def _fire_on(self) -> None:
        while True:
            self._wake.clear()
            if 0 < self.fire() < AT_ONCE:
                await asyncio.sleep(GATHER / 1000)
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        """Until the next alarm is due, or it may be another one, or there is room again."""
        waits = self._heap and len(self._firing) < IN_FLIGHT
        wait = self._heap[0][0] - self._clock() if waits else SWEEP
        if wait <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(wait, SWEEP) / 1000):
                await self._wake.wait()


@lru_cache(maxsize=4)
def share_out(nodes: frozenset[str], node: str) -> tuple[list[int] | None, list[int]]:
    """The buckets this process fires on time (None: all of them) and those of others, by rendezvous hashing.

    Processes that keep timers come first; only where none lives do the others own buckets.
    """
    keepers = sorted(name for name in nodes if name.startswith(KEEPER)) or sorted(nodes)
    if keepers == [node]:
        return None, []
    mine: list[int] = []
    others: list[int] = []
    for bucket in range(BUCKETS):
        (mine if max(keepers, key=lambda name: _weigh(name, bucket)) == node else others).append(bucket)
    return mine, others


def _weigh(node: str, bucket: int) -> bytes:
    return blake2b(f"{node}/{bucket}".encode(), digest_size=8).digest()
