"""The runner: takes each user's turns (`turns`) as events come (`queues`), and makes what is decided durable.

A user's events are stepped one after another. While a write is under way, what arrives joins the next batch, and a
batch is one commit. Nothing is told to anybody before the store has it: first the commit, then those who listen for
commits (connections, timers), then the futures of those who sent the events.

The usual turn is two callbacks: one decides and sends the commit, the other hears from the store that it is written.
Wherever that does not do (the state is not in memory, an event was applied before or cannot be digested, the store
answers anything but yes) a coroutine takes the same turn, from where the callbacks stopped.

States are kept in memory; a commit names the commit it builds on, so a stale one costs a reload and never a wrong
write. States of users that somebody `hold`s stay; of the others the latest few thousand.

A commit whose reply was lost is sent again as it is: the store knows it by its op and writes it once. A state that was
written in another history of the store (see `Store.lineage`) goes on in a new epoch, since what was acknowledged after
it may be lost: the next commit writes both.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog

from handrail.core import engine
from handrail.core.events import Alarm, Event
from handrail.core.program import Program
from handrail.core.state import State
from handrail.counts import Counts
from handrail.guard import Guard
from handrail.quarantine import Quarantine
from handrail.queues import Queues, Waiting
from handrail.store.cache import States
from handrail.store.keys import bucket_of
from handrail.store.protocol import BreakerOpen, CorruptState, Store, StoreDown
from handrail.tally import tally
from handrail.turns import Committed, Outcome, Turn, commit_of, decide

T = TypeVar("T")

CONFLICTS = 8  # tries before a user's turn is given up
DEADLINE = 1.4  # seconds from an event's coming to its failure while the store is away
PAUSE = (0.05, 0.1, 0.2, 0.4)  # seconds between tries meanwhile; the last one goes on
KEPT = 5_000  # states of users nobody holds

log = structlog.get_logger(__name__)


class TooManyConflicts(Exception):
    """Other processes kept writing the same user; nothing was written, the event may be sent again."""

    def __init__(self, user: str) -> None:
        super().__init__(f"a user of bucket {bucket_of(user)}")  # it is logged, so it does not say who


class Runner:
    """`program` gives the rules that a user lives by, `clock` milliseconds since 1970, `node` names this process."""

    def __init__(
        self,
        store: Store,
        program: Callable[[str], Program],
        clock: Callable[[], int],
        node: str,
        on_commit: Callable[[Committed], None] | None = None,
        *,
        guard: Guard | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.store = store
        self.program = program
        self.clock = clock
        self.node = node
        self._hearers = [on_commit] if on_commit else []
        self._queues = Queues()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._states = States(KEPT)
        self.counts = counts or Counts()
        self.guard = guard or Guard(self.counts)
        self.quarantine = Quarantine(store, clock, node, self.counts)

    def on_commit(self, hear: Callable[[Committed], None]) -> None:
        """Every commit of this process is handed to `hear`, before the senders of its events learn of it."""
        self._hearers.append(hear)

    def submit(self, user: str, event: Event, *, bare: State | None = None) -> asyncio.Future[Outcome]:
        """Put an event in the user's queue. The future ends when the store has it. With an alarm comes the user's state
        without ids, if it was read in advance (`read_bare`).

        It fails with StoreDown or TooManyConflicts when it could not be written (it may be sent again: its id is
        applied once), and with CorruptState when what the store has of the user cannot be read.
        """
        loop = asyncio.get_running_loop()
        entry = Waiting(event, loop.create_future(), loop.time(), bare)
        if self._queues.put(user, entry):
            loop.call_soon(self._begin_turn, user)
        return entry.future

    async def apply(self, user: str, event: Event) -> None:
        """Have an event of the server's own decided. Raises StoreDown or TooManyConflicts: it is still owed.

        A faulty rule or a state that cannot be read is in the log and ends it: one user must not hold up the others.
        """
        future = self.submit(user, event)
        await asyncio.wait([future])
        if future.cancelled() or isinstance(future.exception(), StoreDown | TooManyConflicts):
            future.result()

    def recall(self, user: str) -> State | None:
        """The user's state if it is in memory; another process may have written a newer one."""
        state = self._states.get(user)
        return state if state is not None and self.is_current(state) else None

    def look_after(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run this beside the turns: `drain` waits for it, too."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def read(self, user: str) -> State:
        """The user's state as the store has it, or a fresh one, which the user's first event then builds on.

        Raises StoreDown or CorruptState.
        """
        try:
            stored = await self.store.load(user)
        except CorruptState as fault:
            await self.quarantine.take_state(user, fault)
            raise
        self.quarantine.mend(user)
        if stored is not None:
            self._states.keep(stored)
            return stored
        known = self._states.get(user)
        return known if known is not None and known.version == 0 else self._begin(user)

    async def read_bare(self, users: Iterable[str]) -> dict[str, State]:
        """What the store has of those who are not in memory, in one round trip and without the ids of their events:
        enough for an alarm of theirs, see `submit`. Who is left out is for the turn itself to read."""
        missing = [user for user in users if self._states.get(user) is None]
        states = await self.store.load_bare(missing) if missing else []
        for state in states:
            self.quarantine.mend(state.user)
        return {state.user: state for state in states if state.merger is None}

    async def current(self, user: str) -> State:
        """As `read`, in an epoch that is in the store when this returns: a user who was never written is, so that no
        other process begins another one, and where the store has another history than when the state was written, the
        new epoch is. Raises StoreDown or TooManyConflicts."""
        state = await self.read(user)
        if state.version and self.is_current(state):
            return state
        await self.apply(user, Alarm(at=self.clock()))
        return await self.read(user)

    def is_current(self, state: State) -> bool:
        """Whether the state, if it was ever written, was written in the history the store has now."""
        return not state.version or state.lineage == self.store.lineage(state.user)

    def hold(self, user: str) -> None:
        """Keep the user's state in memory until as many `release`s."""
        self._states.hold(user)

    def release(self, user: str) -> None:
        self._states.release(user)

    async def drain(self) -> None:
        """Return when everything submitted so far has been settled."""
        while self._tasks or self._queues:
            await self._queues.quiet()
            if self._tasks:
                await asyncio.wait(self._tasks)

    # --- the usual turn -------------------------------------------------------------------------------------------

    def _begin_turn(self, user: str) -> None:
        """Decide the next batch and send its commit."""
        batch, turn = self._queues.take(user), None
        known = self._states.get(user)
        state = known or (batch[0].bare if len(batch) == 1 else None)
        try:
            if state is not None and state.lineage == self.store.lineage(user):
                turn = self._decide(state, [entry.event for entry in batch], more=self._queues.has_more(user))
                turn.bare = known is None
            if turn is None or turn.repeats:
                self.look_after(self._take_turns(user, batch, None))
            elif turn.sets_aside:
                self.look_after(self._take_turns(user, batch, turn))
            elif not turn.changes:
                self._conclude(turn, batch)
                self._end_turn(user)
            else:
                turn.commit = commit_of(turn, self.clock(), node=self.node)
                self.store.write(turn.commit, partial(self._hear, user, turn, batch))
        except Exception as fault:  # the rim: whoever sent the events has to hear of it
            self._give_up(user, batch, fault)
            self._end_turn(user)

    def _hear(self, user: str, turn: Turn, batch: list[Waiting], written: bool) -> None:
        """The store has the commit, or it is not known that it has."""
        if not written:
            self.look_after(self._take_turns(user, batch, turn))
            return
        try:
            self._publish(turn)
            self._conclude(turn, batch)
        except Exception as fault:  # as above
            self._give_up(user, batch, fault)
        self._end_turn(user)

    def _end_turn(self, user: str) -> None:
        if self._queues.has_more(user):
            asyncio.get_running_loop().call_soon(self._begin_turn, user)
        else:
            self._queues.leave(user)

    # --- any turn -------------------------------------------------------------------------------------------------

    async def _take_turns(self, user: str, batch: list[Waiting], turn: Turn | None) -> None:
        """Settle this batch, decided as `turn` if it is, and all that waits behind it."""
        while batch:
            try:
                await self._settle(user, batch, turn)
            except StoreDown as fault:
                self._give_up(user, batch + self._queues.take_all(user), fault)  # those behind would wait for the same
            except BaseException as fault:
                self._give_up(user, batch, fault)
                if not isinstance(fault, Exception):
                    self._abandon(user, fault)
                    raise
            batch, turn = self._queues.take(user), None
        self._queues.leave(user)

    async def _settle(self, user: str, batch: list[Waiting], turn: Turn | None) -> None:
        """Decide, write, tell: the same commit again while the store is away, decided anew after a conflict. A `turn`
        that is given is decided; its commit, if it has one, was sent and not answered."""
        loop = asyncio.get_running_loop()
        deadline = min(entry.since for entry in batch) + DEADLINE
        conflicts = failures = 0
        doubtful = turn is not None and turn.commit is not None
        while True:
            try:
                async with asyncio.timeout_at(deadline if doubtful else None):
                    turn = await self._decided(user, batch, turn)
                    if await self._write(user, turn, doubtful=doubtful):
                        break
                turn = None
                conflicts += 1
                if conflicts >= CONFLICTS:
                    raise TooManyConflicts(user)
            except (StoreDown, TimeoutError) as fault:
                self.counts.add("store_errors")
                pause = PAUSE[min(failures, len(PAUSE) - 1)]
                failures += 1
                doubtful = True
                if isinstance(fault, BreakerOpen) or loop.time() + pause > deadline:
                    raise StoreDown(str(fault) or "the store did not answer in time") from fault
                await asyncio.sleep(pause)
        self._conclude(turn, batch)

    async def _decided(self, user: str, batch: list[Waiting], turn: Turn | None) -> Turn:
        """The turn as decided already, where it can still be written, else decided now."""
        if turn is not None:
            if turn.base.lineage == self.store.lineage(user):
                return turn
            self._states.drop(user)  # it may have been written, told by a bell and lost: its epoch must not come again
        events = [entry.event for entry in batch]
        recalled = self.recall(user)
        turn = self._decide(self._renew(recalled or await self.read(user)), events, more=self._queues.has_more(user))
        if recalled is None or not turn.repeats:
            return turn
        # Memory alone says that an event was applied, and no commit would tell that the store has lost it since.
        return self._decide(self._renew(await self.read(user)), events, more=self._queues.has_more(user))

    def _renew(self, state: State) -> State:
        """The state, in a new epoch where it was written in another history. A visitor who has become a user stays in
        theirs: nothing is shown to them any more, and by it their user knows them."""
        lineage = self.store.lineage(state.user)
        if state.lineage == lineage:
            return state
        stays = self.is_current(state) or state.merger is not None
        epoch = state.epoch if stays else secrets.token_hex(8)
        return msgspec.structs.replace(state, lineage=lineage, epoch=epoch)

    def _decide(self, base: State, events: list[Event], *, more: bool) -> Turn:
        return decide(self.program(base.user), base, events, self.clock(), guard=self.guard, more=more)

    async def _write(self, user: str, turn: Turn, *, doubtful: bool) -> bool:
        """True when the store has the turn. `doubtful`: an earlier try may have been written without our knowing."""
        repeated = self.store.confirms and turn.repeats
        if not repeated and not turn.changes:
            if doubtful:
                self._tell(Committed(user, turn.state, (), engine.alarm(turn.program, turn.state)))
            return True
        if turn.commit is None:
            for event, outcome in zip(turn.events, turn.results, strict=True):
                if outcome.set_aside:
                    await self.quarantine.take_event(user, event, outcome.set_aside)
            turn.commit = commit_of(turn, self.clock(), node=self.node)
        if not await self.store.commit(turn.commit):
            self._states.drop(user)
            self.counts.add("conflicts")
            return False
        self._publish(turn)
        return True

    def _publish(self, turn: Turn) -> None:
        """The store has the turn's commit: so has the memory from now on, and whoever listens."""
        commit = turn.commit
        assert commit is not None
        self.counts.add("commits")
        self._remember(turn, commit.state)
        self._tell(Committed(commit.state.user, commit.state, commit.frames, commit.alarm, len(commit.jobs)))

    def _remember(self, turn: Turn, state: State) -> None:
        if not turn.bare:
            self._states.keep(state)
            return
        known = self._states.get(state.user)  # read since by somebody else
        if known is None:
            return
        if (known.version, known.op) == (turn.base.version, turn.base.op):
            self._states.keep(msgspec.structs.replace(state, seen=known.seen))
        else:
            self._states.drop(state.user)

    def _conclude(self, turn: Turn, batch: list[Waiting]) -> None:
        tally(self.counts, turn.results)
        for entry, result in zip(batch, turn.results, strict=True):
            entry.settle(result)

    def _begin(self, user: str) -> State:
        state = engine.fresh(self.program(user), user, secrets.token_hex(8), self.clock())
        state.lineage = self.store.lineage(user)
        self._states.drop(user)
        self._states.keep(state)
        return state

    def _tell(self, committed: Committed) -> None:
        for hear in self._hearers:
            hear(committed)

    def _give_up(self, user: str, batch: list[Waiting], fault: BaseException) -> None:
        self._states.drop(user)
        if not isinstance(fault, StoreDown | CorruptState | asyncio.CancelledError):
            log.error("a user's turn failed", exc_info=fault, bucket=bucket_of(user), events=len(batch))
        for entry in batch:
            entry.settle(fault)

    def _abandon(self, user: str, fault: BaseException) -> None:
        """The task is being cancelled: nobody would come for what still waits."""
        for entry in self._queues.take_all(user):
            entry.settle(fault)
        self._queues.leave(user)
