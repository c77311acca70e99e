"""Whose an event is, and merges that are carried through whatever stops between their commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from handrail.core.events import Alarm, Consent, Event, Identify, Track
from handrail.core.inputs import BadInput
from handrail.core.state import State
from handrail.identity import Caller
from handrail.live.timers import Timers
from handrail.profiles import Profiles, find
from handrail.runner import Runner
from handrail.store import Commit, Embedded, MemoryStore, RedisStore, Store, StoreDown
from handrail.store.keys import bucket_of
from handrail.turns import Committed
from nodes import Clock, program_of

RULES = """
trigger: offer
when: {event: puzzled}
then: [{prompt: help}]
limit: 1 per 24h
---
trigger: broken
when: {event: never}
then: [{prompt: help}]
---
counter: looks
of: looked
---
message: help
kind: modal
"""
PROGRAM = program_of(RULES)
VISITOR, USER = "anon-7f", "ann"
assert bucket_of(VISITOR) != bucket_of(USER)


class Process:
    """A process on a store: `profiles`, and timers that ring when told to."""

    def __init__(self, store: Store, clock: Clock, node: str = "t-a") -> None:
        self.store = store
        self.clock = clock
        self.commits: list[Committed] = []
        self.runner = Runner(store, lambda _user: PROGRAM, clock, node, self.commits.append)
        self.profiles = Profiles(self.runner)
        self.timers = Timers(self.runner, nodes=lambda: frozenset({node}))

    def track(self, user: str, name: str, event_id: str, *, known: bool = False) -> asyncio.Future[object]:
        event = Track(id=event_id, name=name, at=self.clock())
        return self.profiles.submit(user, event, known=known)  # type: ignore[return-value]

    async def ring(self) -> None:
        """Let the timers do all they would do at this instant."""
        for _ in range(3):
            await self.timers.turn()
            await self.runner.drain()

    async def live_before(self) -> None:
        """The visitor looks around, the user has been here."""
        for number in range(3):
            await self.track(VISITOR, "looked", f"v-{number}")
        await self.track(VISITOR, "puzzled", "v-puzzled")
        await self.track(USER, "looked", "u-0", known=True)


async def state_of(store: Store, user: str) -> State:
    state = await store.load(user)
    assert state is not None
    return state


async def check_merged(store: Store) -> None:
    """Everything is the user's, once, and nothing is owed."""
    user, visitor = await state_of(store, USER), await state_of(store, VISITOR)
    assert user.counters["looks"].total == 4
    assert (user.known, len(user.absorbed), user.sessions) == (True, 1, 1)
    assert {"v-0", "v-1", "v-2", "v-puzzled", "u-0"} <= user.seen.keys()
    assert user.prompt is not None
    assert visitor.merger is not None
    assert (visitor.merger.into, visitor.merger.due) == (USER, 0)
    assert (visitor.counters, visitor.prompt, visitor.session) == ({}, None, None)
    assert VISITOR not in [name for _, name in await store.due(2**52)]


class Crash(BaseException):
    """The process ends here."""


class Dying:
    """A store of a process that ends before or after its nth commit from now on."""

    def __init__(self, store: Store, *, commit: int, after: bool) -> None:
        self._store = store
        self._left = commit
        self._after = after
        self.dead = False

    def __getattr__(self, name: str) -> object:
        if self.dead:
            raise Crash
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> bool:
        self._left -= 1
        if self._left == 0 and not self._after:
            self.dead = True
        if self.dead:
            raise StoreDown
        done = await self._store.commit(commit)
        if self._left == 0:
            self.dead = True
            raise StoreDown
        return done

    def write(self, _commit: Commit, told: Callable[[bool], None]) -> None:
        told(False)

    async def load(self, user: str) -> State | None:
        if self.dead:
            raise StoreDown
        return await self._store.load(user)


@pytest.fixture(params=["memory", "valkey"])
def open_store(request: pytest.FixtureRequest, store: RedisStore, memory_store: MemoryStore) -> Store:
    return store if request.param == "valkey" else memory_store


async def test_a_visitor_becomes_a_user(open_store: Store, clock: Clock) -> None:
    process = Process(open_store, clock)
    await process.live_before()
    await process.profiles.merge(VISITOR, USER)
    await check_merged(open_store)
    versions = [(await state_of(open_store, name)).version for name in (USER, VISITOR)]
    await process.profiles.merge(VISITOR, USER)
    assert [(await state_of(open_store, name)).version for name in (USER, VISITOR)] == versions


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("commit", [1, 2, 3])
async def test_a_process_that_ends_between_two_commits_loses_and_repeats_nothing(
    open_store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, commit: int, after: bool
) -> None:
    first = Process(open_store, clock)
    await first.live_before()
    monkeypatch.setattr("handrail.runner.DEADLINE", -1.0)
    dying = Process(Dying(open_store, commit=commit, after=after), clock, "t-b")  # type: ignore[arg-type]
    with pytest.raises(StoreDown):
        await dying.profiles.merge(VISITOR, USER)
    begun = (commit, after) != (1, False)
    other = Process(open_store, clock, "t-c")
    await other.ring()
    if commit < 3 or not after:
        visitor = await state_of(open_store, VISITOR)
        assert (visitor.merger is not None) == begun
        assert (await state_of(open_store, USER)).counters["looks"].total == (4 if (commit, after) >= (2, True) else 1)
    clock.now += 5_000
    await other.ring()
    if not begun:
        await other.profiles.merge(VISITOR, USER)
    await check_merged(open_store)


async def test_two_processes_at_once_merge_once(store: RedisStore, valkey: Embedded, clock: Clock) -> None:
    second = await RedisStore.connect(valkey.url)
    one, two = Process(store, clock, "t-a"), Process(second, clock, "t-b")
    await one.live_before()
    await asyncio.gather(*(process.profiles.merge(VISITOR, USER) for process in (one, two, one, two)))
    await check_merged(store)
    await second.close()


async def test_two_processes_that_race_for_different_users_give_the_visitor_to_one(
    store: RedisStore, valkey: Embedded, clock: Clock
) -> None:
    second = await RedisStore.connect(valkey.url)
    one, two = Process(store, clock, "t-a"), Process(second, clock, "t-b")
    await one.live_before()
    await asyncio.gather(one.profiles.merge(VISITOR, USER), two.profiles.merge(VISITOR, "bob"))
    merger = (await state_of(store, VISITOR)).merger
    assert merger is not None
    assert not merger.due
    counts = [(await state_of(store, name)).counters.get("looks") for name in (USER, "bob")]
    assert [count.total if count else 0 for count in counts] == ([4, 0] if merger.into == USER else [1, 3])
    await second.close()


async def test_two_that_claim_to_be_each_other_stay_two(store: RedisStore, valkey: Embedded, clock: Clock) -> None:
    second = await RedisStore.connect(valkey.url)
    one, two = Process(store, clock, "t-a"), Process(second, clock, "t-b")
    await one.track("a", "looked", "1")
    await two.track("b", "looked", "2")
    await asyncio.gather(one.profiles.merge("a", "b"), two.profiles.merge("b", "a"))
    states = [await state_of(store, name) for name in "ab"]
    assert sum(state.merger is not None for state in states) <= 1
    counts = [state.counters.get("looks") for state in states if state.merger is None]
    assert sum(count.total for count in counts if count) == 2
    await second.close()


@pytest.mark.parametrize(
    "event",
    [
        Track(id="late", name="looked", at=1_800_000_000_000),
        Identify(id="late", at=1_800_000_000_000, traits={"plan": "pro"}),
        Consent(id="late", at=1_800_000_000_000, purposes={"behaviour": True}),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_what_the_visitor_did_and_comes_later_is_the_users(open_store: Store, clock: Clock, event: Event) -> None:
    process = Process(open_store, clock)
    await process.live_before()
    await process.profiles.merge(VISITOR, USER)
    stranger = Process(open_store, clock, "t-b")
    for _ in range(2):
        assert (await stranger.profiles.submit(VISITOR, event, known=False)).heir == ""
    await stranger.track(VISITOR, "looked", "v-0")
    user = await state_of(open_store, USER)
    assert "late" in user.seen
    assert user.counters["looks"].total == (5 if isinstance(event, Track) else 4)


async def test_what_comes_while_the_visitor_is_being_merged_is_not_lost(
    memory_store: MemoryStore, clock: Clock
) -> None:
    one, two = Process(memory_store, clock), Process(MemoryStore(memory_store.shelf), clock, "t-b")
    await one.live_before()
    merging = asyncio.ensure_future(one.profiles.merge(VISITOR, USER))
    tracks = [each.track(VISITOR, "looked", f"x-{number}") for number in range(50) for each in (one, two)]
    await asyncio.gather(merging, *tracks)
    assert (await state_of(memory_store, USER)).counters["looks"].total == 54


async def test_a_visitor_nobody_saw_costs_the_user_nothing_and_what_comes_later_finds_them(
    open_store: Store, clock: Clock
) -> None:
    process = Process(open_store, clock)
    await process.profiles.merge(VISITOR, USER)
    assert (await state_of(open_store, USER)).absorbed == ()
    await process.track(VISITOR, "looked", "late")
    assert (await state_of(open_store, USER)).counters["looks"].total == 1


async def test_a_user_is_not_taken_over_by_being_named(open_store: Store, clock: Clock) -> None:
    process = Process(open_store, clock)
    await process.track("bob", "looked", "1", known=True)
    await process.profiles.merge("bob", USER)
    bob = await state_of(open_store, "bob")
    assert (bob.merger, bob.counters["looks"].total) == (None, 1)
    assert "looks" not in (await state_of(open_store, USER)).counters


async def test_who_takes_over_a_name_before_its_owner_comes_gets_nothing_of_theirs(
    open_store: Store, clock: Clock
) -> None:
    process = Process(open_store, clock)
    await process.profiles.merge("bob", "mallory")
    stranger = Process(open_store, clock, "t-b")
    await stranger.track("bob", "looked", "1", known=True)
    bob, mallory = await state_of(open_store, "bob"), await state_of(open_store, "mallory")
    assert (bob.known, bob.merger, bob.counters["looks"].total, mallory.counters) == (True, None, 1, {})


async def test_a_chain_ends_at_the_first_user(open_store: Store, clock: Clock) -> None:
    process = Process(open_store, clock)
    await process.live_before()
    await process.track("second", "looked", "s-1")
    await process.profiles.merge(VISITOR, USER)
    await process.profiles.merge("second", USER)
    await process.profiles.merge(USER, "boss")
    user = await state_of(open_store, USER)
    assert (user.merger, len(user.absorbed), user.counters["looks"].total) == (None, 2, 5)


async def test_who_has_arrived(open_store: Store, clock: Clock) -> None:
    process = Process(open_store, clock)
    await process.live_before()
    await process.profiles.arrive(Caller(VISITOR, known=False))
    await process.profiles.arrive(Caller(USER, visitor=VISITOR))
    await check_merged(open_store)
    with pytest.raises(BadInput, match="known-visitor"):
        await process.profiles.arrive(Caller(VISITOR, known=False))
    await process.profiles.arrive(Caller("somebody-else", known=False))


async def test_asking_for_the_visitor_finds_the_user(open_store: Store, clock: Clock) -> None:
    process = Process(open_store, clock)
    await process.live_before()
    assert (await state_of(open_store, VISITOR)).user == VISITOR
    await process.profiles.merge(VISITOR, USER)
    found = await find(open_store, VISITOR)
    assert found is not None
    assert found.user == USER
    assert await find(open_store, "nobody") is None


async def test_the_log_has_what_happened_and_no_states(memory_store: MemoryStore, clock: Clock) -> None:
    process = Process(memory_store, clock)
    await process.live_before()
    await process.profiles.merge(VISITOR, USER)
    lines = [msgspec.json.decode(line) for log in memory_store.shelf.logs for _, _, _, line in log]
    merges = [line for line in lines if line["event"]["type"] in ("merge", "absorb")]
    assert sorted((line["user"], sorted(line["event"]), line["trace"][-1]["outcome"]) for line in merges) == [
        (USER, ["at", "id", "type", "visitor"], "merged"),
        (VISITOR, ["at", "id", "into", "type"], "merged"),
    ]
    assert {line["event"]["type"] for line in lines} == {"track", "merge", "absorb"}


async def test_an_alarm_of_somebody_who_is_nobodys_visitor_begins_nothing(
    memory_store: MemoryStore, clock: Clock
) -> None:
    process = Process(memory_store, clock)
    await process.live_before()
    await process.runner.submit(VISITOR, Alarm(at=clock()))
    await process.ring()
    assert not process.profiles.is_owed(VISITOR)
