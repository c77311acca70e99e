"""The runner: takes each user's turn, decides with the core, and makes the decision durable.

A user's events are stepped one after another. While a write is under way, what arrives joins the next batch, and a
batch is one commit. Nothing is told to anybody before the store has it: first the commit, then those who listen for
commits (connections, timers), then the futures of those who sent the events.

States are kept in memory; a commit names the commit it builds on, so a stale one costs a reload and never a wrong
write. States of users that somebody `hold`s stay; of the others the latest few thousand.

A commit whose reply was lost is sent again as it is: the store knows it by its op and writes it once. A state that was
written in another history of the store (see `Store.lineage`) goes on in a new epoch, since what was acknowledged after
it may be lost: the next commit writes both.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
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
    base: State
    state: State
    results: list[Outcome]
    more: bool
    commit: Commit | None = None


class _Waiting(NamedTuple):
    """An event, who waits for it, and the loop's time when it came."""

    event: Event
    future: asyncio.Future[Outcome]
    since: float


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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._states = States(KEPT)
        self.counts = counts or Counts()
        self.guard = guard or Guard(self.counts)
        self.quarantine = Quarantine(store, clock, node, self.counts)

    def on_commit(self, hear: Callable[[Committed], None]) -> None:
        """Every commit of this process is handed to `hear`, before the senders of its events learn of it."""
        self._hearers.append(hear)

    def submit(self, user: str, event: Event) -> asyncio.Future[Outcome]:
        """Put an event in the user's queue. The future ends when the store has it.

        It fails with StoreDown or TooManyConflicts when it could not be written (it may be sent again: its id is
        applied once), and with CorruptState when what the store has of the user cannot be read.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        entry = _Waiting(event, future, loop.time())
        waiting = self._waiting.get(user)
        if waiting is not None:
            waiting.append(entry)
            return future
        self._waiting[user] = [entry]
        self.look_after(self._take_turns(user))
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
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _take_turns(self, user: str) -> None:
        waiting = self._waiting[user]
        while waiting:
            batch, waiting[:BATCH] = waiting[:BATCH], []
            try:
                await self._settle(user, batch)
            except StoreDown as fault:
                self._give_up(user, batch + waiting, fault)  # those behind it would wait for the same
                waiting.clear()
            except BaseException as fault:
                self._give_up(user, batch, fault)
                if not isinstance(fault, Exception):
                    self._abandon(user, fault)
                    raise
        del self._waiting[user]

    async def _settle(self, user: str, batch: list[_Waiting]) -> None:
        """Decide, write, tell: the same commit again while the store is away, decided anew after a conflict."""
        loop = asyncio.get_running_loop()
        deadline = min(entry.since for entry in batch) + DEADLINE
        conflicts = failures = 0
        turn: _Turn | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline if failures else None):
                    turn = await self._decided(user, batch, turn)
                    if await self._write(user, turn, batch, doubtful=failures > 0):
                        break
                turn = None
                conflicts += 1
                if conflicts >= CONFLICTS:
                    raise TooManyConflicts(user)
            except (StoreDown, TimeoutError) as fault:
                self.counts.add("store_errors")
                pause = PAUSE[min(failures, len(PAUSE) - 1)]
                failures += 1
                if isinstance(fault, BreakerOpen) or loop.time() + pause > deadline:
                    raise StoreDown(str(fault) or "the store did not answer in time") from fault
                await asyncio.sleep(pause)
        for entry, result in zip(batch, turn.results, strict=True):
            _resolve(entry.future, result)

    async def _decided(self, user: str, batch: list[_Waiting], turn: _Turn | None) -> _Turn:
        """The turn as decided already, where it can still be written, else decided now."""
        if turn is not None:
            if turn.base.lineage == self.store.lineage(user):
                return turn
            self._states.drop(user)  # it may have been written, told by a bell and lost: its epoch must not come again
        events = [entry.event for entry in batch]
        recalled = self.recall(user)
        turn = self._decide(self._renew(recalled or await self.read(user)), events, more=bool(self._waiting[user]))
        if recalled is None or not any(result.duplicate for result in turn.results):
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
        turn = _Turn(now, base, base, [], more or (last is not None and _is_queued(last, now)))
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
        done = [(entry.event, result) for entry, result in zip(batch, turn.results, strict=True)]
        applied = [(event, result) for event, result in done if not result.duplicate]
        program = self.program(user)
        repeated = len(applied) < len(done) and self.store.confirms
        if not _changed(turn, applied) and not repeated:
            tally(self.counts, turn.results)
            if doubtful:
                self._tell(Committed(user, turn.state, (), engine.alarm(program, turn.state)))
            return True
        if turn.commit is None:
            for event, outcome in applied:
                if outcome.set_aside:
                    await self.quarantine.take_event(user, event, outcome.set_aside)
            turn.commit = self._commit_of(user, turn, applied, program)
        commit = turn.commit
        if not await self.store.commit(commit):
            self._states.drop(user)
            self.counts.add("conflicts")
            return False
        self.counts.add("commits")
        tally(self.counts, turn.results)
        self._states.keep(commit.state)
        self._tell(Committed(user, commit.state, commit.frames, commit.alarm, len(commit.jobs)))
        return True

    def _commit_of(self, user: str, turn: _Turn, applied: list[tuple[Event, Outcome]], program: Program) -> Commit:
        now = self.clock()
        effects = [effect for _, outcome in applied for effect in outcome.effects]
        alarm = engine.alarm(program, turn.state)
        if turn.more and alarm is not None:
            alarm = max(alarm, now + engine.FOLLOWS)
        if alarm is not None and any(isinstance(event, Alarm) and outcome.set_aside for event, outcome in applied):
            alarm = max(alarm, now + REST)
        op = secrets.token_hex(8)
        version, lineage = turn.base.version + 1, turn.base.lineage
        return Commit(
            state=msgspec.structs.replace(turn.state, version=version, lineage=lineage, op=op),
            expected=turn.base.version,
            base=turn.base.op,
            op=op,
            frames=tuple((e.frame.offset, frames.encode(e.frame)) for e in effects if isinstance(e, Push)),
            alarm=alarm,
            jobs=tuple(_job(user, effect, now) for effect in effects if isinstance(effect, Call)),
            seen=_new_ids(turn, [event for event, _ in applied]),
            log=tuple(
                _line(user, event, outcome, turn.now) for event, outcome in applied if _worth_logging(event, outcome)
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
    new: dict[str | int, Event] = {}
    for place, event in enumerate(events):
        if not event.id or event.id not in seen:
            new.setdefault(event.id or place, event)
    return next(reversed(new.values()), None)


def _is_queued(event: Event, now: int) -> bool:
    return is_heritable(event) and event.at < now - QUEUED


def _changed(turn: _Turn, applied: list[tuple[Event, Outcome]]) -> bool:
    """Whether there is anything to write. An alarm always is: its timer has to be moved or removed."""
    if not applied:
        return False
    quiet = all(isinstance(event, Activity | Known) and not outcome.effects for event, outcome in applied)
    return not quiet or (turn.state is not turn.base and turn.state != turn.base)


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
