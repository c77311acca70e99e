"""The hub: which connections a user has in this process, and how each comes by every message of its user.

A commit of this process is handed over directly when it continues where a connection is. In every other case (another
process wrote, the reader was slow, somebody resumes) the connection reads the store from its cursor on: live tail and
resume are the same code. A lost doorbell costs latency, never a message: on reconnecting to the store, and every few
seconds where several processes write, positions are compared with the store's.

Where the store cannot continue at a cursor (trimmed, or the epoch changed because data were lost) the connection gets a
second `welcome` with `recovered: false` and a full snapshot; clients treat it as they treat the first. So does
everybody when the store comes back with another history of data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog

from handrail.core import engine, frames, inputs
from handrail.core.frames import Welcome
from handrail.core.state import State
from handrail.live.connection import CORRUPT_STATE, KNOWN_VISITOR, Connection, Out
from handrail.profiles import known_visitor
from handrail.quarantine import corrupt_state
from handrail.runner import Runner, TooManyConflicts
from handrail.store.heads import mark_of
from handrail.store.protocol import Bell, CorruptState, StoreDown
from handrail.turns import Committed, Frame

HEARTBEAT = 20  # seconds between pings of the server
STALL = 5.0  # seconds one write may take
TICK = 1.0
CHECK_EVERY = 5  # ticks between two looks at a user's position
PAGE = 200  # messages read at once
CHUNK = 100  # users looked at together

log = structlog.get_logger(__name__)
_prompt = msgspec.json.Decoder(frames.Prompt)


class _Audience:
    """The connections of one user; `head` is the newest offset heard of, `epoch` the one a commit was last heard of in
    since the state was read, `lineage` the history they belong to."""

    __slots__ = ("connections", "doubtful", "epoch", "head", "lineage", "reading")

    def __init__(self, lineage: str) -> None:
        self.lineage = lineage
        self.connections: list[Connection] = []
        self.head = 0
        self.epoch = ""
        self.doubtful = False
        self.reading: asyncio.Task[None] | None = None


class Hub:
    """`alone` says whether no other process writes to the store, which saves comparing positions."""

    def __init__(self, runner: Runner, *, alone: Callable[[], bool] = lambda: False, stall: float = STALL) -> None:
        self._runner = runner
        self._store = runner.store
        self._counts = runner.counts
        self._alone = alone
        self._stall = stall
        self._audiences: dict[str, _Audience] = {}
        self._blocked: set[Connection] = set()
        self._due: list[Connection] = []  # to be flushed
        self._ticks = 0
        self._check_all = False
        runner.on_commit(self.committed)
        self._store.on_bell(self._hear)
        self._store.on_reconnect(self._reconnected)

    # --- who is here ---

    def users(self) -> list[str]:
        return list(self._audiences)

    def connections(self) -> list[Connection]:
        return [connection for audience in self._audiences.values() for connection in audience.connections]

    def connections_of(self, user: str) -> list[Connection]:
        audience = self._audiences.get(user)
        return list(audience.connections) if audience is not None else []

    def has(self, user: str) -> bool:
        return user in self._audiences

    def attach(self, user: str, connection: Connection) -> None:
        """From now on nothing the user is sent is missed; it reaches the connection once that is greeted."""
        audience = self._audiences.get(user)
        if audience is None:
            audience = self._audiences[user] = _Audience(self._store.lineage(user))
            self._runner.hold(user)
            self._store.listen(user)
        connection.user = user
        audience.connections.append(connection)

    def detach(self, connection: Connection) -> None:
        self._blocked.discard(connection)
        audience = self._audiences.get(connection.user)
        if audience is None or connection not in audience.connections:
            return
        audience.connections.remove(connection)
        if not audience.connections:
            del self._audiences[connection.user]
            self._runner.release(connection.user)
            self._store.unlisten(connection.user)

    # --- what there is to hear ---

    def committed(self, commit: Committed) -> None:
        audience = self._audiences.get(commit.user)
        if audience is None:
            return
        epoch, head = audience.epoch, audience.head = commit.state.epoch, commit.state.offset
        messages = [Out(data, offset, epoch) for offset, data in commit.frames]
        late = False
        for connection in audience.connections:
            late |= connection.offer(epoch, messages, head)
        if late:
            self._catch_up(commit.user, audience)

    def greeted(self, connection: Connection) -> None:
        """A connection was greeted: bring it what happened meanwhile."""
        audience = self._audiences.get(connection.user)
        if audience is not None:
            self._compare(connection, audience)
            self._catch_up(connection.user, audience)

    def _compare(self, connection: Connection, audience: _Audience) -> None:
        """An offset of another epoch is none of the connection's."""
        connection.lost = connection.lost or (connection.greeted and audience.epoch not in ("", connection.epoch))

    def flush_soon(self, connection: Connection) -> None:
        """Not before those who wait for a commit had their turn, too: its messages leave with its acknowledgement."""
        self._due.append(connection)
        if len(self._due) == 1:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._flush)

    def _flush(self) -> None:
        due, self._due = self._due, []
        for connection in due:
            connection.flush()

    def blocked(self, connection: Connection) -> None:
        connection.since = asyncio.get_running_loop().time()
        self._blocked.add(connection)

    def drained(self, connection: Connection) -> None:
        self._blocked.discard(connection)
        if connection.stale or connection.lost:
            self._catch_up(connection.user, self._audiences.get(connection.user))

    def _hear(self, bell: Bell) -> None:
        audience = self._audiences.get(bell.user)
        # A commit of this process is told by the runner, also when its reply was lost.
        if audience is None or bell.node == self._runner.node:
            return
        audience.epoch = bell.epoch
        for connection in audience.connections:
            self._compare(connection, audience)
        if bell.offset > audience.head:
            audience.head = bell.offset
            for connection in audience.connections:
                connection.stale = connection.stale or connection.cursor < bell.offset
        self._catch_up(bell.user, audience)

    def _reconnected(self) -> None:
        self._counts.add("store_reconnects")
        self._check_all = True

    # --- reading the store ---

    def _catch_up(self, user: str, audience: _Audience | None) -> None:
        if audience is not None and audience.reading is None and any(c.behind for c in audience.connections):
            audience.reading = asyncio.get_running_loop().create_task(self._read(user, audience))

    async def _read(self, user: str, audience: _Audience) -> None:
        """Bring every connection of the user that is behind up to what the store has."""
        try:
            while behind := [c for c in audience.connections if c.behind]:
                self._distrust(user, audience)
                if lost := [c for c in behind if c.lost]:
                    await self._greet_again(user, audience, lost)
                    continue
                head = audience.head
                self._counts.add("outbox_reads")
                after = min(c.cursor for c in behind)
                # In this order: epochs do not come again, so what is read before one is of that one or an earlier.
                found, position = await asyncio.gather(
                    self._store.outbox(user, after, PAGE), self._store.position(user)
                )
                _compare_epochs(behind, position)
                self._hand_over(audience, [c for c in behind if not c.lost], found, head)
        except (StoreDown, TooManyConflicts):
            audience.doubtful = True  # the next tick tries again
        except CorruptState as fault:
            await self._give_up(user, audience, fault)
        finally:
            audience.reading = None

    def _distrust(self, user: str, audience: _Audience) -> None:
        """In another history an offset may mean something else: everybody starts over."""
        lineage = self._store.lineage(user)
        if lineage and audience.lineage != lineage:  # of a server that is away nothing is known
            audience.lineage = lineage
            for connection in audience.connections:
                connection.lost = connection.lost or connection.greeted

    async def _give_up(self, user: str, audience: _Audience, fault: CorruptState) -> None:
        """What the store has for the user cannot be read: say so and send them away, once."""
        for connection in audience.connections:
            connection.error(corrupt_state())
            connection.finish(CORRUPT_STATE, "corrupt state")
        await self._runner.quarantine.take_state(user, fault)

    def _hand_over(self, audience: _Audience, behind: list[Connection], found: list[Frame], head: int) -> None:
        now = self._runner.clock()
        fresh = [(offset, b"" if expired(data, now) else data) for offset, data in found]
        last = found[-1][0] if found else 0
        audience.head = max(audience.head, last)
        for connection in behind:
            connection.take(fresh, min(head, last) if found else head)
            connection.stale = connection.cursor < audience.head or (len(found) == PAGE and connection.cursor == last)

    async def _greet_again(self, user: str, audience: _Audience, lost: Iterable[Connection]) -> None:
        audience.epoch = ""
        state = await self._runner.current(user)
        audience.head = state.offset
        for connection in lost:
            if state.merger is not None:  # a visitor who has become a user: there is nothing of theirs to show
                connection.error(known_visitor())
                connection.finish(KNOWN_VISITOR, "known visitor")
                continue
            self._counts.add("epoch_changes" if connection.epoch != state.epoch else "snapshots_again")
            connection.greet(self.welcome(connection, state), state.epoch, state.offset)
            connection.stale = True  # something may have been committed while the state was read
            self._compare(connection, audience)
            if connection.id not in state.connections and connection.on_forgotten is not None:
                connection.on_forgotten()

    def welcome(self, connection: Connection, state: State, *, resume_at: int | None = None) -> bytes:
        """The first message: empty at `resume_at` for one who resumes, else everything the user should see now."""
        session = state.session.id if state.session is not None and not state.session.ended else None
        flow, slots, prompts = (
            engine.snapshot(self._runner.program(state.user), state, self._runner.clock())
            if resume_at is None
            else (None, {}, ())
        )
        return frames.encode(
            Welcome(
                session=session,
                connection=connection.id,
                epoch=state.epoch,
                offset=state.offset if resume_at is None else resume_at,
                recovered=resume_at is not None,
                heartbeat_s=HEARTBEAT,
                token_expires_in=connection.expires_in(self._runner.clock()),
                flow=flow,
                slots=slots,
                prompts=prompts,
            )
        )

    # --- watching ---

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            await self.tick()

    async def tick(self) -> None:
        """Once a second: cut readers that take nothing, compare positions with the store's."""
        self._ticks += 1
        limit = asyncio.get_running_loop().time() - self._stall
        for connection in [c for c in self._blocked if c.since < limit]:
            connection.cut()
            self._counts.add("slow_readers_cut")
        await self._check_positions()

    async def _check_positions(self) -> None:
        everyone, self._check_all = self._check_all, False
        turn = None if everyone else -1 if self._alone() else self._ticks % CHECK_EVERY
        users = [
            user
            for index, (user, audience) in enumerate(self._audiences.items())
            if turn is None or audience.doubtful or index % CHECK_EVERY == turn
        ]
        for start in range(0, len(users), CHUNK):
            chunk = users[start : start + CHUNK]
            faults = await asyncio.gather(*map(self._check, chunk), return_exceptions=True)
            for fault in filter(None, faults):
                if not isinstance(fault, StoreDown):
                    log.error("what a user missed cannot be read", exc_info=fault)  # and is nobody else's trouble
            if all(isinstance(fault, StoreDown) for fault in faults):  # not only the part of a cluster
                self._check_all = self._check_all or everyone
                return

    async def _check(self, user: str) -> None:
        """Compare the store's position with those of the user's connections."""
        audience = self._audiences.get(user)
        if audience is None or audience.reading is not None:
            return
        audience.doubtful = True  # until it is known better: a part of the store may be away
        self._distrust(user, audience)
        if any(connection.lost for connection in audience.connections):
            audience.doubtful = False
            self._catch_up(user, audience)
            return
        try:
            position = await self._store.position(user)
        except CorruptState as fault:
            await self._give_up(user, audience, fault)
            return
        greeted = [connection for connection in audience.connections if connection.greeted]
        _compare_epochs(greeted, position)
        for connection in greeted:
            connection.stale = connection.stale or (position is not None and connection.cursor < position[1])
        audience.doubtful = False
        self._catch_up(user, audience)


def _compare_epochs(connections: Iterable[Connection], position: tuple[str, int] | None) -> None:
    """Who stands in another epoch than the store is lost; so is everybody where nothing is stored any more."""
    mark = position[0] if position else ""
    for connection in connections:
        connection.lost = connection.lost or mark_of(connection.epoch) != mark


def expired(data: bytes, now: int) -> bool:
    """Whether an encoded message is a prompt whose time is over: it is not shown late."""
    if not data.startswith(b'{"type":"prompt"'):
        return False
    try:
        until = _prompt.decode(data).expires_at
        return until is not None and inputs.read_time(until) <= now
    except (ValueError, RecursionError, msgspec.MsgspecError, inputs.BadInput) as fault:
        raise CorruptState(f"a message is no prompt ({fault})") from fault
