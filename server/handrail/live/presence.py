"""Which processes live, and what is owed for those that died.

Each process writes a heartbeat. How long another has been silent is judged by this process's own monotonic clock, from
the last time its heartbeat was seen to change: wrong clocks kill nobody. Rounds in which the store was away count for
nothing. A dead process's users get an alarm that says so, which drops the connections it held; any process may do that,
twice does no harm. A process that finds itself declared dead sends its clients to connect again.

What the store has of connections may be older than what it was told: a loss of data brings back some that had closed,
and takes processes and their users off the lists by which the dead are cleared away. So after every reconnect
each puts right what concerns its own users, and whoever meets connections of a process that is on no list drops them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from handrail.core.events import Alarm, Disconnected, Event
from handrail.core.state import State
from handrail.live.hub import Hub
from handrail.runner import Runner, TooManyConflicts
from handrail.store.protocol import CorruptState, StoreDown
from handrail.turns import Committed

BEAT = 2.0  # seconds between heartbeats
SILENCE = 10.0  # seconds after which a process counts as dead
CHUNK = 100  # users of a dead process dealt with together
KEEPER = "t-"  # begins the name of a process that keeps timers

log = structlog.get_logger(__name__)


def name_node(*, timers: bool) -> str:
    """A name no other process has; it says whether this one keeps timers."""
    return f"{KEEPER if timers else 'w-'}{secrets.token_hex(6)}"


def departure(connection: str, now: int) -> Disconnected:
    """Its id is always the same, so a connection ends once, whoever tells."""
    return Disconnected(id=f"{connection}.close", at=now, connection=connection)


class Presence:
    """`recall` is called when others took this process for dead. `monotonic` gives seconds."""

    def __init__(self, runner: Runner, hub: Hub, *, recall: Callable[[], None], monotonic: Callable[[], float]) -> None:
        self._runner = runner
        self._store = runner.store
        self._node = runner.node
        self._recall = recall
        self._hub = hub
        self._monotonic = monotonic
        self._beaten = False
        self._changed: dict[str, tuple[int, float]] = {}  # node -> its heartbeat, and when we saw that change
        self._owed: list[tuple[str, Event]] = []
        self._doubtful = False  # whether the store still has what it was told of connections
        self._doubted: set[str] = set()  # or whose alone may be wrong
        self._store.on_reconnect(self.doubt)
        runner.on_commit(self._committed)

    @property
    def nodes(self) -> frozenset[str]:
        """The processes that live, this one among them."""
        return frozenset(self._changed) | {self._node}

    @property
    def alone(self) -> bool:
        return len(self.nodes) == 1

    def owe(self, user: str, event: Event) -> None:
        """Submit this later: the store was away when a connection closed."""
        self._owed.append((user, event))

    def owes(self, user: str) -> bool:
        """Whether something of the user's may still have to be told, so that they have to stay enlisted."""
        return self._doubtful or any(user == debtor for debtor, _ in self._owed)

    def doubt(self) -> None:
        """What the store has of everybody's connections may be wrong: the next round puts it right."""
        self._doubtful = True

    def _committed(self, commit: Committed) -> None:
        """Connections of a process we do not know are what it left behind, unless it has only just begun."""
        for each in commit.state.connections.values():
            if each.node not in self._changed and each.node != self._node:
                self._doubted.add(commit.user)

    async def run(self) -> None:
        while True:
            try:
                await self.beat()
            except StoreDown:  # the store tells of it
                self._changed.clear()
            except TooManyConflicts as fault:
                self._changed.clear()
                log.warning("what a connection left could not be stored yet", reason=str(fault))
            await asyncio.sleep(BEAT)

    async def beat(self) -> None:
        """One round. Raises StoreDown."""
        alive = await self._store.nodes()
        await self._show_life(forgotten=not alive.get(self._node))  # 0: and it has let somebody in since
        await self._settle_debts()
        if self._doubtful or self._doubted:
            await self._put_right()
        for node in self._silent(alive):
            try:
                await self._bury(node)
            except CorruptState as fault:  # and the others that are gone are cleared away all the same
                log.error("what a dead process held cannot be read", node=node, fault=str(fault))

    async def _show_life(self, *, forgotten: bool = False) -> None:
        """Write the heartbeat; the answer tells, too, whether others have taken this process for dead."""
        added = await self._store.heartbeat(self._node, self._runner.clock())
        if self._beaten and (added or forgotten):
            log.warning("others took this process for dead; its clients are asked to connect again")
            self._recall()
        self._beaten = True

    async def leave(self) -> None:
        """This process stops: it holds nothing any more."""
        try:
            if not await self._store.enlisted(self._node):
                await self._store.forget_node(self._node)
        except StoreDown as fault:
            log.warning("the store is away; other processes will notice that this one is gone", reason=str(fault))

    def _silent(self, alive: dict[str, int]) -> list[str]:
        now = self._monotonic()
        self._changed = {
            node: known if (known := self._changed.get(node)) and known[0] == beat else (beat, now)
            for node, beat in alive.items()
            if node != self._node
        }
        return [node for node, (_, since) in self._changed.items() if now - since > SILENCE]

    async def _settle_debts(self) -> None:
        while self._owed:  # each is owed until it is settled
            user, event = debt = self._owed[0]
            await self._runner.apply(user, event)
            self._owed.remove(debt)

    async def _put_right(self) -> None:
        """See that the store has the connections there are. Raises StoreDown, and is then done again."""
        everybody, doubted = self._doubtful, self._doubted
        self._doubtful, self._doubted = False, set()  # first: there may be more to doubt meanwhile
        try:
            enlisted = set(await self._store.enlisted(self._node)) if everybody else set()
            users = sorted(enlisted.union(self._hub.users()) if everybody else doubted)
            for start in range(0, len(users), CHUNK):
                await self._look_at(users[start : start + CHUNK])
            if everybody:
                await self._correct(enlisted)
        except BaseException:
            self._doubtful, self._doubted = self._doubtful or everybody, self._doubted | doubted
            raise

    async def _look_at(self, users: list[str]) -> None:
        states = [state for state in await asyncio.gather(*map(self._state_of, users)) if state is not None]
        gone = {each.node for state in states for each in state.connections.values()} - self.nodes
        if gone:  # who has only just begun is on the list by now
            gone -= (await self._store.nodes()).keys()
        await asyncio.gather(*(self._end_leftovers(state, gone) for state in states))

    async def _state_of(self, user: str) -> State | None:
        try:
            return self._runner.recall(user) or await self._runner.read(user)
        except CorruptState:  # it is in quarantine, and holds up nobody else
            return None

    async def _end_leftovers(self, state: State, gone: set[str]) -> None:
        """End connections of processes that are gone, and those of this one that it has not got."""
        user, now, held = state.user, self._runner.clock(), state.connections.items()
        here = {connection.id for connection in self._hub.connections_of(user)}
        if lost := sorted(gone & {each.node for _, each in held}):
            await self._runner.apply(user, Alarm(at=now, lost_nodes=tuple(lost)))
        for name in [name for name, each in held if each.node == self._node and name not in here]:
            await self._runner.apply(user, departure(name, now))

    async def _correct(self, enlisted: set[str]) -> None:
        """Have those on the list of this process who are here, and nobody else."""
        wrong = sorted(enlisted.symmetric_difference(self._hub.users()))
        for start in range(0, len(wrong), CHUNK):
            await asyncio.gather(*map(self._list, wrong[start : start + CHUNK]))

    async def _list(self, user: str) -> None:
        if self._hub.has(user):
            await self._store.enlist(self._node, user)
        elif not self.owes(user):
            await self._store.delist(self._node, user)

    async def _bury(self, node: str) -> None:
        """Drop what a dead process held. Raises StoreDown; what was not reached is left for the next round."""
        users = await self._store.enlisted(node)
        log.warning("a process is gone; its connections are dropped", node=node, users=len(users))
        for start in range(0, len(users), CHUNK):
            await asyncio.gather(*(self._drop(node, user) for user in users[start : start + CHUNK]))
            await self._show_life()  # burying thousands takes longer than a beat
        await self._store.forget_node(node)
        self._changed.pop(node, None)

    async def _drop(self, node: str, user: str) -> None:
        await self._runner.apply(user, Alarm(at=self._runner.clock(), lost_nodes=(node,)))
        await self._store.delist(node, user)
