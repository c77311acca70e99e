"""The runner: takes each user's turn, decides with the core, and makes the decision durable.

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
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from random import getrandbits
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
from msgspec import Struct

from handrail.core import engine, frames
from handrail.core.effects import Call, Considered, Decision, Effect, Push
from handrail.core.events import Absorb, Activity, Alarm, Event, Known, Merged
from handrail.core.inputs import BadInput
from handrail.core.merge import heir_of, is_heritable
from handrail.core.program import Program
from handrail.core.state import State
from handrail.counts import Counts
from handrail.guard import Guard, SetAside
from handrail.quarantine import REST, Quarantine
from handrail.store.cache import States
from handrail.store.keys import bucket_of
from handrail.store.protocol import BreakerOpen, Commit, CorruptState, Job, Store, StoreDown
from handrail.tally import tally

T = TypeVar("T")
Frame = tuple[int, bytes]  # offset and JSON of a numbered message

CONFLICTS = 8  # tries before a user's turn is given up
DEADLINE = 1.4  # seconds from an event's coming to its failure while the store is away
PAUSE = (0.05, 0.1, 0.2, 0.4)  # seconds between tries meanwhile; the last one goes on
KEPT = 5_000  # states of users nobody holds
BATCH = 256  # events in one commit
QUIET = (Activity, Known)  # events that often change nothing
QUEUED = 1_000  # ms ago: an event that old comes from a queue, and the rest of it may follow

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of an event once the store has it. A `duplicate` was applied before and changes nothing; one with an
    `heir` was not applied either: the visitor it was for has become that user, whose it is. One `set_aside` (why)
    counts as applied, though it could not be decided."""

    id: str
    duplicate: bool = False
    heir: str = ""
    effects: tuple[Effect, ...] = ()
    trace: tuple[Considered, ...] = ()
    set_aside: str = ""
    more: bool = False  # decided as one after which others are to be expected


class Committed(Struct, frozen=True):
    """A commit of this process: the new state, the messages in it, the user's due time from now on, and how many
    webhook calls it asks for."""

    user: str
    state: State
    frames: tuple[Frame, ...]
    alarm: int | None
    jobs: int = 0


class TooManyConflicts(Exception):
    """Other processes kept writing the same user; nothing was written, the event may be sent again."""

    def __init__(self, user: str) -> None:
        super().__init__(f"a user of bucket {bucket_of(user)}")  # it is logged, so it does not say who


class _Turn(Struct):
    """A batch after deciding at `now`: the state reached and, for each event, its outcome. `more`: others are to be
    expected, so time did not pass up to now."""

    now: int
    program: Program
    base: State
    state: State
    results: list[Outcome]
    more: bool
    commit: Commit | None = None
    bare: bool = False  # the states in it lack their ids

    @property
    def repeats(self) -> bool:
        """Whether an event of it was applied before."""
        return any(result.duplicate for result in self.results)

    @property
    def sets_aside(self) -> bool:
        return any(result.set_aside for result in self.results)


class _Waiting(NamedTuple):
    """An event, who waits for it, the loop's time when it came, and a state without ids to decide it on."""

    event: Event
    future: asyncio.Future[Outcome]
    since: float
    bare: State | None


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
        self._waiting: dict[str, list[_Waiting]] = {}
        self._quiet: asyncio.Event | None = None  # for those who wait until nothing is left
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
        future: asyncio.Future[Outcome] = loop.create_future()
        entry = _Waiting(event, future, loop.time(), bare)
        waiting = self._waiting.get(user)
        if waiting is not None:
            waiting.append(entry)
            return future
        self._waiting[user] = [entry]
        loop.call_soon(self._begin_turn, user)
        return future

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
        while self._tasks or self._waiting:
            if self._waiting:
                self._quiet = self._quiet or asyncio.Event()
                await self._quiet.wait()
            else:
                await asyncio.wait(self._tasks)

    # --- the usual turn -------------------------------------------------------------------------------------------

    def _begin_turn(self, user: str) -> None:
        """Decide the next batch and send its commit."""
        batch, turn = self._next_batch(user), None
        known = self._states.get(user)
        state = known or (batch[0].bare if len(batch) == 1 else None)
        try:
            if state is not None and state.lineage == self.store.lineage(user):
                turn = self._decide(state, [entry.event for entry in batch], more=bool(self._waiting[user]))
                turn.bare = known is None
            if turn is None or turn.repeats:
                self.look_after(self._take_turns(user, batch, None))
            elif turn.sets_aside:
                self.look_after(self._take_turns(user, batch, turn))
            elif not _changed(turn, batch):
                self._conclude(turn, batch)
                self._end_turn(user)
            else:
                turn.commit = self._commit_of(user, turn, batch)
                self.store.write(turn.commit, partial(self._hear, user, turn, batch))
        except Exception as fault:  # the rim: whoever sent the events has to hear of it
            self._give_up(user, batch, fault)
            self._end_turn(user)

    def _hear(self, user: str, turn: _Turn, batch: list[_Waiting], written: bool) -> None:
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
        if self._waiting[user]:
            asyncio.get_running_loop().call_soon(self._begin_turn, user)
        else:
            self._leave(user)

    def _next_batch(self, user: str) -> list[_Waiting]:
        waiting = self._waiting[user]
        self._waiting[user] = waiting[BATCH:]
        return waiting[:BATCH]

    def _leave(self, user: str) -> None:
        """Nothing of the user's is waiting any more."""
        del self._waiting[user]
        if self._quiet is not None and not self._waiting:
            self._quiet.set()
            self._quiet = None

    # --- any turn -------------------------------------------------------------------------------------------------

    async def _take_turns(self, user: str, batch: list[_Waiting], turn: _Turn | None) -> None:
        """Settle this batch, decided as `turn` if it is, and all that waits behind it."""
        while batch:
            try:
                await self._settle(user, batch, turn)
            except StoreDown as fault:
                self._give_up(user, batch + self._waiting[user], fault)  # those behind it would wait for the same
                self._waiting[user] = []
            except BaseException as fault:
                self._give_up(user, batch, fault)
                if not isinstance(fault, Exception):
                    self._abandon(user, fault)
                    raise
            batch, turn = self._next_batch(user), None
        self._leave(user)

    async def _settle(self, user: str, batch: list[_Waiting], turn: _Turn | None) -> None:
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
                    if await self._write(user, turn, batch, doubtful=doubtful):
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

    async def _decided(self, user: str, batch: list[_Waiting], turn: _Turn | None) -> _Turn:
        """The turn as decided already, where it can still be written, else decided now."""
        if turn is not None:
            if turn.base.lineage == self.store.lineage(user):
                return turn
            self._states.drop(user)  # it may have been written, told by a bell and lost: its epoch must not come again
        events = [entry.event for entry in batch]
        recalled = self.recall(user)
        turn = self._decide(self._renew(recalled or await self.read(user)), events, more=bool(self._waiting[user]))
        if recalled is None or not turn.repeats:
            return turn
        # Memory alone says that an event was applied, and no commit would tell that the store has lost it since.
        return self._decide(self._renew(await self.read(user)), events, more=bool(self._waiting[user]))

    def _renew(self, state: State) -> State:
        """The state, in a new epoch where it was written in another history. A visitor who has become a user stays in
        theirs: nothing is shown to them any more, and by it their user knows them."""
        lineage = self.store.lineage(state.user)
        if state.lineage == lineage:
            return state
        stays = self.is_current(state) or state.merger is not None
        epoch = state.epoch if stays else secrets.token_hex(8)
        return msgspec.structs.replace(state, lineage=lineage, epoch=epoch)

    def _decide(self, base: State, events: list[Event], *, more: bool) -> _Turn:
        """With `more`, others wait for the next batch."""
        program, now = self.program(base.user), self.clock()
        last = None if more else _last_new(events, base.seen)
        turn = _Turn(now, program, base, base, [], more or (last is not None and _is_queued(last, now)))
        for event in events:
            if heir := heir_of(turn.state, event):
                turn.results.append(Outcome(id=event.id, duplicate=True, heir=heir))
                continue
            if event.id and event.id in turn.state.seen:
                turn.results.append(Outcome(id=event.id, duplicate=True))
                continue
            try:
                more = turn.more or event is not last
                step = self.guard.step(program, turn.state, event, now, more=more)
            except SetAside as fault:  # one event that cannot be digested must not hold up the user's others
                turn.state = engine.pass_over(turn.state, event, now)
                turn.results.append(Outcome(id=event.id, set_aside=str(fault)))
                continue
            turn.state = step.state
            turn.results.append(Outcome(id=event.id, effects=step.effects, trace=step.trace, more=more))
        return turn

    async def _write(self, user: str, turn: _Turn, batch: list[_Waiting], *, doubtful: bool) -> bool:
        """True when the store has the turn. `doubtful`: an earlier try may have been written without our knowing."""
        repeated = self.store.confirms and turn.repeats
        if not repeated and not _changed(turn, batch):
            if doubtful:
                self._tell(Committed(user, turn.state, (), engine.alarm(turn.program, turn.state)))
            return True
        if turn.commit is None:
            for entry, outcome in zip(batch, turn.results, strict=True):
                if outcome.set_aside:
                    await self.quarantine.take_event(user, entry.event, outcome.set_aside)
            turn.commit = self._commit_of(user, turn, batch)
        if not await self.store.commit(turn.commit):
            self._states.drop(user)
            self.counts.add("conflicts")
            return False
        self._publish(turn)
        return True

    def _publish(self, turn: _Turn) -> None:
        """The store has the turn's commit: so has the memory from now on, and whoever listens."""
        commit = turn.commit
        assert commit is not None
        self.counts.add("commits")
        self._remember(turn, commit.state)
        self._tell(Committed(commit.state.user, commit.state, commit.frames, commit.alarm, len(commit.jobs)))

    def _remember(self, turn: _Turn, state: State) -> None:
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

    def _conclude(self, turn: _Turn, batch: list[_Waiting]) -> None:
        tally(self.counts, turn.results)
        for entry, result in zip(batch, turn.results, strict=True):
            _resolve(entry.future, result)

    def _commit_of(self, user: str, turn: _Turn, batch: list[_Waiting]) -> Commit:
        now = self.clock()
        done = zip(batch, turn.results, strict=True)
        applied = [(entry.event, outcome) for entry, outcome in done if not outcome.duplicate]
        effects = [effect for _, outcome in applied for effect in outcome.effects]
        alarm = engine.alarm(turn.program, turn.state)
        if turn.more and alarm is not None:
            alarm = max(alarm, now + engine.FOLLOWS)
        if alarm is not None and any(isinstance(event, Alarm) and outcome.set_aside for event, outcome in applied):
            alarm = max(alarm, now + REST)
        op = f"{getrandbits(64):016x}"
        version, lineage = turn.base.version + 1, turn.base.lineage
        return Commit(
            state=msgspec.structs.replace(turn.state, version=version, lineage=lineage, op=op),
            expected=turn.base.version,
            base=turn.base.op,
            op=op,
            frames=tuple([(e.frame.offset, frames.encode(e.frame)) for e in effects if isinstance(e, Push)]),
            alarm=alarm,
            jobs=tuple([_job(user, effect, now) for effect in effects if isinstance(effect, Call)]),
            seen=_new_ids(turn, [event for event, _ in applied]),
            log=tuple(
                [_line(user, event, outcome, turn.now) for event, outcome in applied if _worth_logging(event, outcome)]
            ),
            node=self.node,
            now=now,
        )

    def _begin(self, user: str) -> State:
        state = engine.fresh(self.program(user), user, secrets.token_hex(8), self.clock())
        state.lineage = self.store.lineage(user)
        self._states.drop(user)
        self._states.keep(state)
        return state

    def _tell(self, committed: Committed) -> None:
        for hear in self._hearers:
            hear(committed)

    def _give_up(self, user: str, batch: list[_Waiting], fault: BaseException) -> None:
        self._states.drop(user)
        if not isinstance(fault, StoreDown | CorruptState | asyncio.CancelledError):
            log.error("a user's turn failed", exc_info=fault, bucket=bucket_of(user), events=len(batch))
        for entry in batch:
            _resolve(entry.future, fault)

    def _abandon(self, user: str, fault: BaseException) -> None:
        """The task is being cancelled: nobody would come for what still waits."""
        for entry in self._waiting.pop(user, []):
            _resolve(entry.future, fault)


def _last_new(events: list[Event], seen: Mapping[str, int]) -> Event | None:
    """The last that is no duplicate. Events that come together may have happened long ago: what would have fallen due
    between them must not, where the next one prevented it. So only after the last of them time passes up to now."""
    if len(events) == 1:
        return None if events[0].id and events[0].id in seen else events[0]
    new: dict[str | int, Event] = {}
    for place, event in enumerate(events):
        if not event.id or event.id not in seen:
            new.setdefault(event.id or place, event)
    return next(reversed(new.values()), None)


def _is_queued(event: Event, now: int) -> bool:
    return is_heritable(event) and event.at < now - QUEUED


def _changed(turn: _Turn, batch: list[_Waiting]) -> bool:
    """Whether there is anything to write. An alarm always is: its timer has to be moved or removed."""
    applied = False
    for entry, outcome in zip(batch, turn.results, strict=True):
        if not outcome.duplicate:
            if outcome.effects or not isinstance(entry.event, QUIET):
                return True
            applied = True
    return applied and turn.state is not turn.base and turn.state != turn.base


def _worth_logging(event: Event, outcome: Outcome) -> bool:
    """All that a replay cannot know by itself: an alarm of which nothing came rings there anyway."""
    if outcome.effects or outcome.trace or outcome.set_aside:
        return not outcome.set_aside  # a replay would only meet the same fault
    return bool(event.lost_nodes) if isinstance(event, Alarm) else not isinstance(event, Known | Merged)


def _new_ids(turn: _Turn, applied: list[Event]) -> tuple[tuple[str, int], ...]:
    """The ids applied in this turn, with those that came with an absorbed visitor, and when."""
    known, seen = turn.base.seen, turn.state.seen
    ids = seen if any(isinstance(event, Absorb) for event in applied) else {event.id: 0 for event in applied}
    return tuple((each, seen[each]) for each in ids if each in seen and each not in known)


def _job(user: str, call: Call, now: int) -> Job:
    return Job(id=call.id, user=user, webhook=call.webhook, body=_encode(call.body), created=now, due=call.at)


def _line(user: str, event: Event, outcome: Outcome, now: int) -> bytes:
    line: dict[str, Any] = {
        "at": event.at,
        "now": now,
        "user": user,
        "event": msgspec.structs.replace(event, parcel=None) if isinstance(event, Absorb) else event,
        "decisions": [effect for effect in outcome.effects if isinstance(effect, Decision)],
        "trace": outcome.trace,
    }
    pushed = [effect.frame for effect in outcome.effects if isinstance(effect, Push)]
    if prompts := {frame.id: frame.message for frame in pushed if isinstance(frame, frames.Prompt)}:
        line["prompts"] = prompts  # by which what the user does with them can be told
    if outcome.more:
        line["more"] = True
    return _encode(line)


def corrupt_state() -> BadInput:
    return BadInput(
        "corrupt-state",
        "What the server has stored of this user cannot be read.",
        "The operator finds it under /api/quarantine; until it is mended there is nothing to connect to.",
    )


def _resolve(future: asyncio.Future[Outcome], result: Outcome | BaseException) -> None:
    if future.done():
        return
    if isinstance(result, Outcome):
        future.set_result(result)
    elif isinstance(result, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(result)
