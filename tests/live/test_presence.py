"""Who lives: silence judged by one's own clock, the dead cleared away, debts paid."""

from __future__ import annotations

import pytest

from handrail.core.events import Connected, Disconnected
from handrail.core.state import State
from handrail.live.connection import Connection, Out
from handrail.live.hub import Hub
from handrail.live.presence import SILENCE, Presence, name_node
from handrail.runner import Runner
from handrail.store import CorruptState, MemoryStore, Shelf, StoreDown
from nodes import PROGRAM, Clock, Start


class Wire:
    """Leads nowhere."""

    name = "wire"

    def write(self, batch: list[Out]) -> None: ...

    def close(self, code: int, reason: str, reconnect_ms: int) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Process:
    def __init__(self, shelf: Shelf, node: str, store: MemoryStore | None = None) -> None:
        self.node = node
        self.store = store or MemoryStore(shelf)
        self.runner = Runner(self.store, lambda _user: PROGRAM, Clock(), node)
        self.seconds = 0.0
        self.recalled = 0
        self.hub = Hub(self.runner)
        self.presence = Presence(self.runner, self.hub, recall=self._recall, monotonic=lambda: self.seconds)

    def _recall(self) -> None:
        self.recalled += 1

    async def connect(self, user: str) -> None:
        self.hub.attach(user, Connection(f"c-{self.node}", Wire(), self.hub))
        await self.store.enlist(self.node, user)
        event = Connected(id=f"{self.node}-{user}", at=0, connection=f"c-{self.node}", node=self.node)
        await self.runner.submit(user, event)

    def forget(self, user: str) -> None:
        """The connection closes, and what the store was told of that is lost."""
        for connection in self.hub.connections_of(user):
            self.hub.detach(connection)

    async def connections(self, user: str) -> list[str]:
        return list((await self.runner.read(user)).connections)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_a_process_that_falls_silent_is_cleared_away(shelf: Shelf) -> None:
    dead, alive = Process(shelf, "t-dead"), Process(shelf, "t-alive")
    await dead.presence.beat()
    await dead.connect("ada")
    await alive.connect("ada")
    for alive.seconds in (0.0, 4.0, SILENCE):
        await alive.presence.beat()
        assert alive.presence.nodes == {"t-alive", "t-dead"}
    assert await alive.connections("ada") == ["c-t-dead", "c-t-alive"]
    alive.seconds = SILENCE + 0.1
    await alive.presence.beat()
    assert await alive.connections("ada") == ["c-t-alive"]
    assert alive.presence.alone
    assert await alive.store.enlisted("t-dead") == []
    assert list(await alive.store.nodes()) == ["t-alive"]


async def test_a_process_with_a_wrong_clock_is_not_taken_for_dead(shelf: Shelf) -> None:
    odd, alive = Process(shelf, "t-odd"), Process(shelf, "t-alive")
    clock = odd.runner.clock
    assert isinstance(clock, Clock)
    clock.now -= 3_600_000
    for alive.seconds in range(0, 60, 2):
        clock.now += 2_000
        await odd.presence.beat()
        await alive.presence.beat()
    assert alive.presence.nodes == {"t-alive", "t-odd"}


async def test_a_process_taken_for_dead_calls_its_clients_back(shelf: Shelf) -> None:
    process = Process(shelf, "t-a")
    await process.presence.beat()
    await process.presence.beat()
    assert process.recalled == 0
    await process.store.forget_node("t-a")
    await process.presence.beat()
    assert process.recalled == 1
    await process.presence.beat()
    assert process.recalled == 1


async def test_a_process_that_dies_before_its_first_heartbeat_is_cleared_away(shelf: Shelf) -> None:
    dead, alive = Process(shelf, "t-dead"), Process(shelf, "t-alive")
    await dead.connect("ada")
    for alive.seconds in (0.0, SILENCE + 0.1):
        await alive.presence.beat()
    assert await alive.connections("ada") == []
    assert list(shelf.alive) == ["t-alive"]


async def test_a_process_that_let_somebody_in_after_it_was_taken_for_dead_asks_for_everybody_again(
    shelf: Shelf,
) -> None:
    process = Process(shelf, "t-a")
    await process.presence.beat()
    await process.store.forget_node("t-a")
    await process.connect("ada")
    await process.presence.beat()
    assert process.recalled == 1


class Late(MemoryStore):
    """Whose answer about the living comes when it is no longer true."""

    forgets = False

    async def nodes(self) -> dict[str, int]:
        alive = await super().nodes()
        if self.forgets:
            await self.forget_node("t-a")
        return alive


async def test_a_process_taken_for_dead_while_it_comes_back_notices(shelf: Shelf) -> None:
    store = Late(shelf)
    process = Process(shelf, "t-a", store)
    await process.presence.beat()
    store.forgets = True
    await process.presence.beat()
    assert process.recalled == 1


class Flaky(MemoryStore):
    away = False

    async def nodes(self) -> dict[str, int]:
        if self.away:
            raise StoreDown
        return await super().nodes()


async def test_time_in_which_the_store_was_away_is_nobodys_silence(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Flaky(shelf)
    other, process = Process(shelf, "t-b"), Process(shelf, "t-a", store)
    await other.presence.beat()

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        process.seconds += 8
        store.away = process.seconds == 8
        if process.seconds > 16:
            raise Enough

    monkeypatch.setattr("asyncio.sleep", sleep)
    with pytest.raises(Enough):
        await process.presence.run()
    assert process.presence.nodes == {"t-a", "t-b"}
    assert "t-b" in await store.nodes()


async def test_a_departure_that_could_not_be_stored_is_made_up_for(shelf: Shelf) -> None:
    process = Process(shelf, "t-a")
    await process.connect("ada")
    process.presence.owe("ada", Disconnected(id="d", at=0, connection="c-t-a"))
    await process.presence.beat()
    assert await process.connections("ada") == []


async def test_a_debt_made_while_others_are_paid_is_not_forgotten(shelf: Shelf) -> None:
    process = Process(shelf, "t-a")
    for user in ("ada", "bob"):
        await process.connect(user)
    process.presence.owe("ada", Disconnected(id="d1", at=0, connection="c-t-a"))
    late = [("bob", Disconnected(id="d2", at=0, connection="c-t-a"))]
    process.runner.on_commit(lambda _commit: process.presence.owe(*late.pop()) if late else None)
    await process.presence.beat()
    await process.presence.beat()
    assert [await process.connections(user) for user in ("ada", "bob")] == [[], []]


async def test_connections_that_a_loss_of_data_brought_back_are_ended_by_their_own_process(shelf: Shelf) -> None:
    process, other = Process(shelf, "t-a"), Process(shelf, "t-b")
    await other.presence.beat()
    for user in ("ada", "bob"):
        await process.connect(user)
        await other.connect(user)
    process.forget("ada")
    process.presence.doubt()
    assert process.presence.owes("ada")  # nobody may strike them off the list before it was looked through
    await process.presence.beat()
    assert await process.connections("ada") == ["c-t-b"]
    assert await process.connections("bob") == ["c-t-a", "c-t-b"]
    assert await process.store.enlisted("t-a") == ["bob"]
    assert not process.presence.owes("ada")


async def test_whoever_is_here_is_enlisted_again_after_a_loss_of_data(shelf: Shelf) -> None:
    process = Process(shelf, "t-a")
    await process.connect("ada")
    await process.store.delist("t-a", "ada")
    process.presence.doubt()
    await process.presence.beat()
    assert await process.store.enlisted("t-a") == ["ada"]


async def test_connections_of_a_process_on_no_list_are_dropped_by_whoever_decides_for_their_user(shelf: Shelf) -> None:
    gone, fresh, process = (Process(shelf, name) for name in ("t-gone", "t-fresh", "t-a"))
    await process.presence.beat()
    for each in (gone, fresh, process):
        await each.connect("ada")
    await gone.store.forget_node("t-gone")
    await process.presence.beat()
    assert await process.connections("ada") == ["c-t-fresh", "c-t-a"]


async def test_the_list_is_looked_through_once_more_where_the_store_went_away_meanwhile(shelf: Shelf) -> None:
    process = Process(shelf, "t-a")
    await process.connect("ada")
    process.forget("ada")
    process.presence.doubt()

    async def away(node: str) -> list[str]:
        raise StoreDown(node)

    enlisted, process.store.enlisted = process.store.enlisted, away  # type: ignore[method-assign]
    with pytest.raises(StoreDown):
        await process.presence.beat()
    process.store.enlisted = enlisted  # type: ignore[method-assign]
    await process.presence.beat()
    assert await process.connections("ada") == []


class Broken(MemoryStore):
    """One user's state cannot be read."""

    async def load(self, user: str) -> State | None:
        if user == "broken":
            raise CorruptState(user)
        return await super().load(user)


async def test_a_user_whose_state_is_broken_holds_up_nobody_else(shelf: Shelf) -> None:
    dead, alive = Process(shelf, "t-dead"), Process(shelf, "t-alive", Broken(shelf))
    await dead.presence.beat()
    await dead.store.enlist("t-dead", "broken")
    await dead.connect("ada")
    alive.presence.owe("broken", Disconnected(id="d", at=0, connection="c"))
    for alive.seconds in (0.0, SILENCE + 0.1):
        await alive.presence.beat()
    assert await alive.connections("ada") == []
    assert list(await alive.store.nodes()) == ["t-alive"]


class Unlisted(MemoryStore):
    """Whom one process held cannot be read."""

    async def enlisted(self, node: str) -> list[str]:
        if node == "t-broken":
            raise CorruptState(node)
        return await super().enlisted(node)


async def test_a_dead_process_whose_users_cannot_be_read_holds_up_no_other(shelf: Shelf) -> None:
    broken, dead, alive = (
        Process(shelf, "t-broken"),
        Process(shelf, "t-dead"),
        Process(shelf, "t-alive", Unlisted(shelf)),
    )
    await broken.presence.beat()
    await dead.presence.beat()
    await dead.connect("ada")
    for alive.seconds in (0.0, SILENCE + 0.1):
        await alive.presence.beat()
    assert await alive.connections("ada") == []
    assert sorted(await alive.store.nodes()) == ["t-alive", "t-broken"]


async def test_leaving_gives_up_the_name_unless_something_is_still_held(shelf: Shelf) -> None:
    process = Process(shelf, "t-a")
    await process.presence.beat()
    await process.store.enlist("t-a", "ada")
    await process.presence.leave()
    assert list(await process.store.nodes()) == ["t-a"]
    await process.store.delist("t-a", "ada")
    await process.presence.leave()
    assert await process.store.nodes() == {}


def test_names_say_who_keeps_timers() -> None:
    assert name_node(timers=True).startswith("t-")
    assert name_node(timers=False).startswith("w-")
    assert name_node(timers=True) != name_node(timers=True)


async def test_whoever_a_departure_is_owed_of_stays_enlisted_for_others_to_find(start: Start) -> None:
    node = await start("t-a")
    await node.store.enlist("t-a", "ada")
    node.live.presence.owe("ada", Disconnected(id="d", at=0, connection="c-t-a"))
    await node.live.desk.delist("ada")
    assert await node.store.enlisted("t-a") == ["ada"]
    await node.live.presence.beat()
    await node.live.desk.delist("ada")
    assert await node.store.enlisted("t-a") == []
