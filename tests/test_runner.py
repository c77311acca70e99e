"""Taking turns: batches, one commit each, conflicts, a store that goes away, faulty rules, what is told and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from handrail.core.engine import FOLLOWS
from handrail.core.events import Alarm, Connected, Identify, Known, Merge, Track
from handrail.core.program import Program
from handrail.core.state import State
from handrail.quarantine import REST
from handrail.queues import BATCH
from handrail.runner import Runner
from handrail.store import BreakerOpen, Commit, Embedded, MemoryStore, RedisStore, Shelf, StoreDown
from handrail.store.protocol import Store
from handrail.turns import Committed
from nodes import PROGRAM, Clock, program_of


class Watched(MemoryStore):
    """The store in memory, with its commits counted, and able to be away."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        super().__init__(shelf)
        self.commits: list[Commit] = []
        self.away = 0  # commits that fail before they are written
        self.mute = 0  # commits that are written and whose reply is lost

    async def commit(self, commit: Commit) -> bool:
        if self.away:
            self.away -= 1
            raise StoreDown
        await asyncio.sleep(0)
        before = self.shelf.states.get(commit.state.user)
        done = await super().commit(commit)
        if self.shelf.states.get(commit.state.user) != before:
            self.commits.append(commit)
        if self.mute:
            self.mute -= 1
            raise StoreDown
        return done


class Usual(Watched):
    """One that takes commits without a coroutine of the runner's, too."""

    def write(self, commit: Commit, told: Callable[[bool], None]) -> None:
        def tell(task: asyncio.Task[bool]) -> None:
            told(task.exception() is None and task.result())

        asyncio.get_running_loop().create_task(self.commit(commit)).add_done_callback(tell)


class Desk:
    """A runner on a store, and what it told."""

    def __init__(self, store: Store, program: Program = PROGRAM, node: str = "t-a") -> None:
        self.clock = Clock()
        self.told: list[Committed] = []
        self.runner = Runner(store, lambda _user: program, self.clock, node, self.told.append)

    def track(self, name: str, identity: str) -> asyncio.Future[Any]:
        event = Track(id=identity, name=name, at=self.clock(), properties={"n": identity})
        return self.runner.submit("ada", event)


@pytest.fixture(params=[Usual, Watched], ids=["usual", "any"])
def watched(request: pytest.FixtureRequest) -> Watched:
    """Every promise holds for the turn of two callbacks as for that of a coroutine."""
    watched: Watched = request.param()
    return watched


@pytest.fixture
def desk(watched: Watched) -> Desk:
    return Desk(watched)


async def test_an_event_is_committed_before_anybody_is_told(desk: Desk, watched: Watched) -> None:
    outcome = await desk.track("greeted", "e1")
    assert {type(effect).__name__ for effect in outcome.effects} == {"Decision", "Push"}
    assert not outcome.duplicate
    (commit,) = watched.commits
    assert (commit.expected, commit.state.version, commit.state.offset) == (0, 1, 1)
    assert [offset for offset, _ in commit.frames] == [1]
    assert commit.seen == (("e1", desk.clock()),)
    assert [(told.user, told.state, told.frames, told.alarm) for told in desk.told] == [
        ("ada", commit.state, commit.frames, commit.alarm)
    ]
    line = msgspec.json.decode(commit.log[0])
    assert (line["user"], line["event"]["type"], line["event"]["name"]) == ("ada", "track", "greeted")
    assert [decision["trigger"] for decision in line["decisions"]] == ["greet"]
    assert [(entry["trigger"], entry["outcome"]) for entry in line["trace"]] == [("greet", "fired")]


async def test_what_arrives_while_a_write_is_under_way_joins_the_next(desk: Desk, watched: Watched) -> None:
    first = desk.track("greeted", "e0")
    await asyncio.sleep(0)
    rest = [desk.track("greeted", f"e{n}") for n in range(1, 100)]
    await asyncio.gather(first, *rest)
    assert [len(commit.seen) for commit in watched.commits] == [1, 99]
    assert [offset for commit in watched.commits for offset, _ in commit.frames] == list(range(1, 101))
    assert (await desk.runner.read("ada")).version == 2


PATIENT = program_of("""
trigger: nag
when: {delay: {after: {event: started}, for: 5m}}
then: [{set: {nagged: true}}]
cancel_on: [{event: finished}]
""")


async def test_a_later_event_of_the_batch_calls_off_what_would_have_fallen_due_after_it(watched: Watched) -> None:
    desk = Desk(watched, PATIENT)

    def ago(minutes: int, name: str, identity: str) -> asyncio.Future[Any]:
        at = desk.clock() - minutes * 60_000
        return desk.runner.submit("ada", Track(id=identity, name=name, at=at))

    await asyncio.gather(ago(30, "started", "e1"), ago(28, "finished", "e2"), ago(28, "finished", "e2"))
    assert len(watched.commits) == 1
    assert watched.commits[0].state.traits == {}
    await asyncio.gather(ago(0, "started", "e3"), ago(28, "finished", "e2"))
    assert watched.commits[1].state.waits
    desk.clock.now += 6 * 60_000
    await asyncio.gather(ago(0, "other", "e4"), ago(28, "finished", "e2"))
    assert watched.commits[2].state.traits == {"nagged": True}, "a duplicate at the end keeps time from nothing"
    assert watched.commits[2].alarm is not None
    assert watched.commits[2].alarm > desk.clock()


async def test_a_queue_longer_than_a_batch_is_decided_as_one(watched: Watched) -> None:
    desk = Desk(watched, PATIENT)
    at = desk.clock() - 3_600_000
    events = [("started", 0), *((f"other-{n}", 1) for n in range(BATCH - 1)), ("finished", 2)]
    tracks = [Track(id=name, name=name, at=at + minute * 60_000) for name, minute in events]
    await asyncio.gather(*(desk.runner.submit("ada", track) for track in tracks))
    assert len(watched.commits) == 2
    assert watched.commits[1].state.traits == {}


async def test_a_queue_that_comes_event_by_event_is_decided_as_one(watched: Watched) -> None:
    desk = Desk(watched, PATIENT)

    async def take(name: str, *, minutes_ago: int) -> int:
        await desk.runner.submit(
            "ada", Track(id=f"{name}-{minutes_ago}", name=name, at=desk.clock() - minutes_ago * 60_000)
        )
        alarm = watched.commits[-1].alarm
        assert alarm is not None
        return alarm

    alarm = await take("started", minutes_ago=30)
    assert alarm == desk.clock() + FOLLOWS, "what fell due since then waits for what may follow"
    desk.clock.now += FOLLOWS - 1
    await take("finished", minutes_ago=28)
    await take("started", minutes_ago=20)
    assert watched.commits[-1].state.traits == {}
    desk.clock.now += FOLLOWS
    await desk.runner.submit("ada", Alarm(at=desk.clock()))
    assert watched.commits[-1].state.traits == {"nagged": True}


async def test_an_id_is_applied_once_within_a_batch_and_after_it(desk: Desk, watched: Watched) -> None:
    outcomes = await asyncio.gather(*(desk.track("greeted", "same") for _ in range(3)))
    again = await desk.track("greeted", "same")
    assert [outcome.duplicate for outcome in [*outcomes, again]] == [False, True, True, True]
    assert len(watched.commits) == 1
    assert watched.commits[0].state.offset == 1


async def test_an_id_is_applied_once_by_two_processes(memory_store: MemoryStore) -> None:
    one, two = Desk(memory_store, node="t-a"), Desk(MemoryStore(memory_store.shelf), node="t-b")
    outcomes = await asyncio.gather(*(desk.track("greeted", f"e{n}") for n in range(50) for desk in (one, two)))
    assert sum(outcome.duplicate for outcome in outcomes) == 50
    assert (await one.runner.read("ada")).offset == 50


async def test_after_a_conflict_the_event_is_decided_on_the_stored_state(memory_store: MemoryStore) -> None:
    one, two = Desk(memory_store), Desk(MemoryStore(memory_store.shelf))
    await one.track("greeted", "e1")
    await two.track("greeted", "e2")
    await one.track("greeted", "e3")
    assert [told.state.offset for told in one.told] == [1, 3]
    assert [told.frames[0][0] for told in one.told] == [1, 3]


async def test_while_the_store_is_away_the_event_waits(desk: Desk, watched: Watched) -> None:
    watched.away = 2
    outcome = await desk.track("greeted", "e1")
    assert not outcome.duplicate
    assert len(watched.commits) == 1


async def test_a_write_whose_reply_was_lost_happens_once_and_has_its_first_outcome(
    desk: Desk, watched: Watched
) -> None:
    watched.mute = 2
    outcome = await desk.track("greeted", "e1")
    assert not outcome.duplicate
    assert outcome.effects
    (commit,) = watched.commits
    assert [(told.state, told.frames) for told in desk.told] == [(commit.state, commit.frames)]
    assert len(await watched.outbox("ada", 0)) == 1


async def test_where_others_wrote_upon_a_write_whose_reply_was_lost_the_ids_tell(watched: Watched) -> None:
    one, two = Desk(watched), Desk(MemoryStore(watched.shelf), node="t-b")
    watched.mute = 1
    mine = one.track("greeted", "e1")
    while watched.mute:  # noqa: ASYNC110 - the store has it from here on, and the runner pauses
        await asyncio.sleep(0)
    await two.track("greeted", "e2")
    assert (await mine).duplicate
    assert [told.state.offset for told in one.told] == [2], "what is there is told all the same"
    assert len(await watched.outbox("ada", 0)) == 2


async def test_when_the_store_stays_away_the_event_fails_and_may_come_again(
    desk: Desk, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handrail.runner.DEADLINE", -1.0)
    watched.away = 1
    with pytest.raises(StoreDown):
        await desk.track("greeted", "e1")
    assert not desk.told
    assert not (await desk.track("greeted", "e1")).duplicate


async def test_a_fresh_user_keeps_its_epoch_from_the_welcome_on(desk: Desk, watched: Watched) -> None:
    state = await desk.runner.read("ada")
    watched.away = 1
    await desk.track("greeted", "e1")
    assert (await desk.runner.read("ada")).epoch == state.epoch


async def test_lost_data_begin_a_new_epoch(desk: Desk, watched: Watched) -> None:
    await desk.track("greeted", "e1")
    before = desk.told[-1].state
    watched.shelf.states.clear()
    watched.shelf.outboxes.clear()
    watched.shelf.seen.clear()
    await desk.track("greeted", "e2")
    after = desk.told[-1].state
    assert (after.version, after.offset) == (1, 1)
    assert after.epoch != before.epoch


async def test_another_history_of_the_store_is_another_epoch_written_with_the_next_commit(
    desk: Desk, watched: Watched
) -> None:
    await desk.track("greeted", "e1")
    before = desk.told[-1].state
    watched.shelf.lineage = "another"
    await desk.track("greeted", "e2")
    after = desk.told[-1].state
    assert after.epoch != before.epoch
    assert (after.lineage, after.offset, after.version) == ("another", 2, 2), "what is there goes on"
    await desk.track("greeted", "e3")
    assert desk.told[-1].state.epoch == after.epoch


async def test_the_current_state_is_in_an_epoch_that_the_store_has(watched: Watched) -> None:
    one, two = Desk(watched), Desk(MemoryStore(watched.shelf), node="t-b")
    await one.track("greeted", "e1")
    watched.shelf.lineage = "another"
    states = await asyncio.gather(one.runner.current("ada"), two.runner.current("ada"))
    stored = await watched.load("ada")
    assert stored is not None
    assert {state.epoch for state in states} == {stored.epoch}
    assert stored.epoch != one.told[0].state.epoch
    assert (await one.runner.current("ben")).epoch == (await one.runner.current("ben")).epoch


async def test_two_processes_that_meet_somebody_new_at_once_are_in_one_epoch(watched: Watched) -> None:
    one, two = Desk(watched), Desk(MemoryStore(watched.shelf), node="t-b")
    states = await asyncio.gather(one.runner.current("eve"), two.runner.current("eve"))
    stored = await watched.load("eve")
    assert stored is not None
    assert {state.epoch for state in states} == {stored.epoch}


async def test_a_turn_decided_in_one_history_is_not_written_in_another(desk: Desk, watched: Watched) -> None:
    await desk.track("greeted", "e1")
    watched.away = 1
    waiting = desk.track("greeted", "e2")
    while watched.away:  # noqa: ASYNC110 - from here on the runner pauses
        await asyncio.sleep(0)
    epoch = desk.told[0].state.epoch
    watched.shelf.lineage = "another"
    await waiting
    assert desk.told[-1].state.epoch != epoch


async def test_a_version_that_comes_again_is_not_taken_for_the_one_before(watched: Watched) -> None:
    one, two = Desk(watched), Desk(MemoryStore(watched.shelf), node="t-b")
    await one.track("greeted", "e1")
    lost = dict(watched.shelf.states)
    await one.track("greeted", "e2")
    watched.shelf.states.update(lost)  # the server came back without its last write
    watched.shelf.outboxes["ada"].pop()
    del watched.shelf.seen["ada"]["e2"]
    await two.track("puzzled", "e3")
    assert two.told[-1].state.version == one.told[-1].state.version
    await one.track("greeted", "e4")
    last = one.told[-1].state
    assert last.prompt is not None, "it builds on what the store has"
    assert last.offset == 3


async def test_a_visitor_who_became_a_user_keeps_the_epoch_their_user_knows(desk: Desk, watched: Watched) -> None:
    await desk.track("greeted", "e1")
    await desk.runner.submit("ben", Known(at=desk.clock()))
    await desk.runner.submit("ada", Merge(id="m", at=desk.clock(), into="ben"))
    before = await desk.runner.read("ada")
    watched.shelf.lineage = "another"
    after = await desk.runner.current("ada")
    assert (after.epoch, after.lineage) == (before.epoch, "another")


async def test_the_epoch_of_a_first_commit_that_was_lost_does_not_come_again() -> None:
    """It was written and told by a bell before the data were gone, so some page may stand at an offset of it."""

    class Wiped(Watched):
        async def commit(self, commit: Commit) -> bool:
            done = await super().commit(commit)
            if len(self.commits) == 1 and self.shelf.lineage != "another":
                self.shelf.states.clear()
                self.shelf.lineage = "another"
                raise StoreDown
            return done

    store = Wiped()
    await Desk(store).track("greeted", "e1")
    first, second = (commit.state for commit in store.commits)
    assert (first.offset, second.offset, second.lineage) == (1, 1, "another")
    assert first.epoch != second.epoch


class Hung(MemoryStore):
    """A store that does not answer: each call fails after a second, as a hung server's does."""

    async def commit(self, commit: Commit) -> bool:
        await asyncio.sleep(1.05)
        raise StoreDown

    async def load(self, user: str) -> State | None:
        await asyncio.sleep(1.05)
        raise StoreDown


async def test_while_the_store_hangs_everybody_has_an_answer_within_a_second_and_a_half() -> None:
    desk = Desk(Hung())
    loop = asyncio.get_running_loop()

    async def ask(number: int) -> float:
        await asyncio.sleep(number * 0.2)
        start = loop.time()
        with pytest.raises(StoreDown):
            await desk.track("greeted", f"e{number}")
        return loop.time() - start

    assert max(await asyncio.gather(*(ask(number) for number in range(8)))) <= 1.5


async def test_an_open_breaker_is_not_asked_twice(
    desk: Desk, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def load(_user: str) -> None:
        nonlocal asked
        asked += 1
        raise BreakerOpen

    monkeypatch.setattr(watched, "load", load)
    with pytest.raises(StoreDown):
        await desk.track("greeted", "e1")
    assert asked == 1


class Confirming(Watched):
    """A store whose acknowledgements wait for a second copy."""

    confirms = True


async def test_where_acknowledgements_wait_for_a_copy_a_duplicate_is_confirmed_by_a_commit() -> None:
    desk = Desk(store := Confirming())
    await desk.track("greeted", "e1")
    assert (await desk.track("greeted", "e1")).duplicate
    assert [commit.state.version for commit in store.commits] == [1, 2]
    assert store.commits[1].frames == ()


async def test_a_duplicate_is_one_only_if_the_store_still_has_it(watched: Watched) -> None:
    desk = Desk(watched)
    await desk.track("greeted", "e1")
    assert (await desk.track("greeted", "e1")).duplicate
    for kept in (watched.shelf.states, watched.shelf.seen, watched.shelf.outboxes):
        kept.clear()
    assert not (await desk.track("greeted", "e1")).duplicate
    stored = await watched.load("ada")
    assert stored is not None
    assert "e1" in stored.seen


class Faulty:
    """A program whose triggers on one event name cannot be evaluated."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._program, name)
        return Trap(value) if name == "counters_by_event" else value


class Trap(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        if key == "event:poison":
            raise ZeroDivisionError
        return super().get(key, default)


async def test_an_event_that_cannot_be_decided_is_set_aside_alone(watched: Watched) -> None:
    program: Any = Faulty(PROGRAM)
    desk = Desk(watched, program)
    first = desk.track("greeted", "e0")
    await asyncio.sleep(0)
    before, poison, after = desk.track("greeted", "e1"), desk.track("poison", "e2"), desk.track("greeted", "e3")
    await asyncio.gather(first, before, after)
    assert "ZeroDivisionError" in (await poison).set_aside
    assert [len(commit.log) for commit in watched.commits] == [1, 2]
    (kept,) = await watched.quarantine()
    assert (kept.user, kept.kind, kept.id, msgspec.json.decode(kept.event)["name"]) == ("ada", "track", "e2", "poison")
    assert (await desk.track("poison", "e2")).duplicate  # sent again, it is acknowledged and nothing more


async def test_an_alarm_that_cannot_be_decided_rings_again_much_later(
    desk: Desk, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.runner.submit("ada", Connected(id="c", at=desk.clock(), connection="c-1", node="t-a"))
    desk.clock.now += 180_000
    monkeypatch.setattr("handrail.core.engine.elapse", lambda *_, **__: 1 / 0)
    assert (await desk.runner.submit("ada", Alarm(at=desk.clock()))).set_aside
    assert watched.commits[-1].alarm == desk.clock() + REST
    assert [entry.kind for entry in await watched.quarantine()] == ["alarm"]


async def test_an_alarm_always_moves_its_timer_and_is_logged_only_if_it_did_something(
    desk: Desk, watched: Watched
) -> None:
    await desk.track("greeted", "e1")
    await desk.runner.submit("ada", Alarm(at=desk.clock()))
    assert len(watched.commits) == 2
    assert watched.commits[1].log == ()
    assert watched.commits[1].alarm == watched.commits[0].alarm


async def test_the_alarm_written_is_the_idle_deadline(desk: Desk, watched: Watched) -> None:
    event = Connected(id="c", at=desk.clock(), connection="c-1", node="t-a")
    await desk.runner.submit("ada", event)
    assert watched.commits[0].alarm == desk.clock() + 180_000
    assert await watched.due(desk.clock() + 180_000) == [(desk.clock() + 180_000, "ada")]


async def test_webhook_calls_become_jobs_of_the_same_commit(watched: Watched) -> None:
    program = program_of(
        """
trigger: mail
when: {event: asked}
then: [{webhook: hook, data: {n: 1}}]
---
webhook: hook
url: https://example.com/hook
"""
    )
    desk = Desk(watched, program)
    await desk.track("asked", "e1")
    (job,) = watched.commits[0].jobs
    assert (job.user, job.webhook, job.created) == ("ada", "hook", desk.clock())
    assert msgspec.json.decode(job.body)
    assert [claimed.id for claimed in await watched.claim_jobs(desk.clock(), 1_000)] == [job.id]


async def test_many_users_at_once_on_the_real_store(store: RedisStore, valkey: Embedded) -> None:
    other = await RedisStore.connect(valkey.url)
    one, two = Desk(store, node="t-a"), Desk(other, node="t-b")
    futures = [
        desk.runner.submit(f"user-{n % 20}", Identify(id=f"e{n}", at=desk.clock(), traits={f"t{n // 20}": n}))
        for n in range(400)
        for desk in (one, two)
    ]
    outcomes = await asyncio.gather(*futures)
    assert sum(outcome.duplicate for outcome in outcomes) == 400
    for user in range(20):
        state = await one.runner.read(f"user-{user}")
        assert state.traits == {f"t{n}": n * 20 + user for n in range(20)}
        assert len(state.seen) == 20
    await other.close()


async def test_what_came_meanwhile_is_decided_when_the_usual_turn_ends() -> None:
    desk = Desk(store := Usual())
    tasks = len(asyncio.all_tasks())
    first = desk.track("greeted", "e0")
    for _ in range(2):
        await asyncio.sleep(0)
    rest = [desk.track("greeted", f"e{number}") for number in range(1, 4)]
    assert len(asyncio.all_tasks()) == tasks + 1, "that of the store in this test"
    await asyncio.gather(first, *rest)
    assert [[name for name, _ in commit.seen] for commit in store.commits] == [["e0"], ["e1", "e2", "e3"]]


@pytest.mark.parametrize("kind", [Usual, Watched])
async def test_a_listener_that_raises_fails_the_senders_and_not_those_who_come_after(kind: type[Watched]) -> None:
    desk = Desk(store := kind())
    await desk.track("greeted", "e0")
    hearers = desk.runner._hearers
    hearers.append(lambda commit: setattr(commit, "nothing", None))
    with pytest.raises(AttributeError):
        await desk.track("greeted", "e1")
    hearers.pop()
    assert (await desk.track("greeted", "e1")).duplicate, "it was written"
    assert not (await desk.track("greeted", "e2")).duplicate
    assert len(store.commits) == 3


async def test_the_real_store_is_written_to_without_a_task(store: RedisStore) -> None:
    desk = Desk(store)
    await desk.track("greeted", "e0")
    commits: list[Commit] = []
    write = store.write

    def noted(commit: Commit, told: Callable[[bool], None]) -> None:
        commits.append(commit)
        write(commit, told)

    store.write = noted  # type: ignore[method-assign]
    tasks = asyncio.all_tasks()
    done = [desk.track("greeted", "e1"), desk.track("greeted", "e2")]
    while not done[1].done():
        assert asyncio.all_tasks() == tasks
        await asyncio.sleep(0)
    stored = await store.load("ada")
    assert stored is not None
    assert (stored.version, stored.op, list(stored.seen)) == (2, commits[0].op, ["e0", "e1", "e2"])
    assert [offset for told in desk.told for offset, _ in told.frames] == [1, 2, 3]


async def test_whatever_else_the_real_store_answers_is_found_out(store: RedisStore, valkey: Embedded) -> None:
    desk, other = Desk(store), Desk(store, node="t-b")
    await desk.track("greeted", "e0")
    await store._ask(b"hr:{nodes}:x", "SCRIPT", "FLUSH")
    assert not (await desk.track("greeted", "e1")).duplicate
    assert not (await other.track("greeted", "e2")).duplicate, "another process has written"
    assert (await other.track("greeted", "e1")).duplicate
    assert not (await desk.track("greeted", "e3")).duplicate
    assert desk.runner.counts.totals["conflicts"] == 1
    stored = await store.load("ada")
    assert stored is not None
    assert (stored.version, list(stored.seen)) == (4, ["e0", "e1", "e2", "e3"])


async def test_drain_waits_for_what_was_submitted(desk: Desk, watched: Watched) -> None:
    futures = [desk.runner.submit(f"u{n}", Identify(id=f"e{n}", at=0, traits={})) for n in range(10)]
    await desk.runner.drain()
    assert all(future.done() for future in futures)
    assert len(watched.commits) == 10


async def test_an_alarm_may_be_decided_without_the_ids_of_events(watched: Watched) -> None:
    """And nothing that was applied is applied again, whether or not somebody reads the whole state meanwhile."""
    first = Desk(watched)
    await first.track("greeted", "e1")
    for version, reads in enumerate((False, True), 2):
        desk = Desk(watched, node=f"t-{version}")
        bare = (await desk.runner.read_bare(["ada", "nobody"]))["ada"]
        assert not bare.seen
        if reads:
            await desk.runner.read("ada")
        ringing = desk.runner.submit("ada", Alarm(at=desk.clock()), bare=bare)
        again = desk.track("greeted", "e1")
        await ringing
        assert (await again).duplicate
        assert (await desk.track("greeted", "e1")).duplicate
        assert [commit.state.version for commit in desk.told] == [version]
    assert watched.shelf.seen["ada"].keys() == {"e1"}


async def test_what_is_read_while_an_alarm_is_written_keeps_its_ids(watched: Watched) -> None:
    await Desk(watched).track("greeted", "e1")
    desk = Desk(watched, node="t-b")
    bare = (await desk.runner.read_bare(["ada"]))["ada"]
    ringing = desk.runner.submit("ada", Alarm(at=desk.clock()), bare=bare)
    await asyncio.sleep(0)
    assert (await desk.runner.read("ada")).version == 1
    await ringing
    known = desk.runner.recall("ada")
    assert known is not None
    assert (known.version, set(known.seen)) == (2, {"e1"})
    assert (await desk.track("greeted", "e1")).duplicate


async def test_an_alarm_of_a_bare_state_that_is_no_longer_the_latest_is_decided_anew(watched: Watched) -> None:
    first, second = Desk(watched), Desk(watched, node="t-b")
    await first.track("greeted", "e1")
    bare = (await second.runner.read_bare(["ada"]))["ada"]
    await first.track("greeted", "e2")
    await second.runner.submit("ada", Alarm(at=second.clock()), bare=bare)
    assert second.told[-1].state.version == 3
    assert second.told[-1].state.seen.keys() == {"e1", "e2"}
    assert (await second.track("greeted", "e2")).duplicate


async def test_a_visitor_who_is_being_merged_is_read_whole(watched: Watched) -> None:
    desk = Desk(watched)
    await desk.track("greeted", "e1")
    await desk.runner.submit("ada", Merge(id="m", at=desk.clock(), into="ben"))
    assert await Desk(watched).runner.read_bare(["ada"]) == {}


async def test_a_turn_that_is_cancelled_leaves_nobody_waiting(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(watched)
    reached = asyncio.Event()

    async def load(_user: str) -> None:
        reached.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(watched, "load", load)
    first = desk.track("greeted", "e1")
    await reached.wait()
    behind = desk.track("greeted", "e2")
    draining = asyncio.create_task(desk.runner.drain())
    await asyncio.sleep(0)
    for task in list(desk.runner._tasks):
        task.cancel()
    await asyncio.wait_for(draining, 5)
    assert first.cancelled()
    assert behind.cancelled()
