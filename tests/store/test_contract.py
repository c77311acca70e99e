"""What every store does, asked of each: one server, a cluster, memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from turns import DAY, NOW, job, turn

from handrail.core.frames import Block, Prompt
from handrail.core.state import SEEN_MAX, Connection, OnScreen, Session, State, Tally, Wait
from handrail.store import Bell, Commit, MemoryStore, RedisStore, Store
from handrail.store.heads import mark_of
from handrail.store.keys import bucket_of

OP = "1" * 16
Open = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["redis", "cluster", "memory"])
async def another(request: pytest.FixtureRequest, memory_store: MemoryStore) -> AsyncIterator[Open]:
    """Opens further stores on the same data, as further processes do."""
    opened: list[Store] = []
    url = ""
    if request.param == "cluster":
        url = request.getfixturevalue("cluster").url
    elif request.param == "redis":
        url = request.getfixturevalue("empty_valkey").url

    async def open_store() -> Store:
        opened.append(await RedisStore.connect(url) if url else MemoryStore(memory_store.shelf))
        return opened[-1]

    yield open_store
    for each in opened:
        await each.close()


@pytest.fixture
async def any_store(another: Open) -> Store:
    return await another()


# --- state -----------------------------------------------------------------------------------------------------------


async def test_a_user_never_seen_has_no_state(any_store: Store) -> None:
    assert await any_store.load("nobody") is None


async def test_a_state_comes_back_as_it_went_in(any_store: Store) -> None:
    prompt = Prompt(offset=1, id="p1", message="hello", kind="modal", title="Grüße", style={"size": 2})
    state = State(
        user="ana:{b0001}\n ☃",
        epoch="e1",
        version=1,
        offset=1,
        first_seen=NOW,
        traits={"plan": "trial", "n": 1, "f": 1.5, "none": None, "list": [1, "a"]},
        segments=("new",),
        session=Session("s1", NOW, events=3),
        connections={"c1": Connection("n1", visible=False)},
        counters={"uses": Tally(2, (NOW, NOW + 1), {"x": NOW})},
        slots={"hero": Block(message="m", title="t")},
        prompt=OnScreen(prompt, expires=NOW + 5, shown=True),
        waits=(Wait(due=NOW + 1, trigger="later", name="signed_up", properties={"a": {"b": 1}}),),
        fired={"later": (NOW,)},
    )
    commit = Commit(state=state, expected=0, frames=((1, b"{}"),), seen=(("ev-1", NOW),), now=NOW)
    assert await any_store.commit(commit)
    loaded = await any_store.load(state.user)
    assert loaded is not None
    assert loaded.seen == {"ev-1": NOW}
    loaded.seen = {}
    assert loaded == state


async def test_of_many_users_the_states_come_without_ids(any_store: Store) -> None:
    for user in ("ana", "ben"):
        await any_store.commit(turn(user, op=OP, seen=((f"{user}-1", NOW),)))
    bare = await any_store.load_bare(["ana", "nobody", "ben"])
    assert [(state.user, state.version, state.op, dict(state.seen)) for state in bare] == [
        ("ana", 1, OP, {}),
        ("ben", 1, OP, {}),
    ]
    assert await any_store.load_bare([]) == []


async def test_a_commit_that_was_handed_over_can_be_asked_for(any_store: Store) -> None:
    async def hand_over(commit: Commit) -> bool:
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        any_store.write(commit, told.set_result)
        return await told

    await hand_over(first := turn(version=1, offset=1, frames=1, op=OP))
    assert await any_store.commit(first), "written now, or found written"
    written = await hand_over(second := turn(version=2, offset=1, base=OP, op="2" * 16))
    assert written or isinstance(any_store, MemoryStore)
    assert await any_store.commit(second)
    assert not await hand_over(turn(version=2, offset=1, base=OP, op="3" * 16))
    assert await any_store.position("ana") == (mark_of("e1"), 1)


async def test_stores_share_no_values(any_store: Store) -> None:
    commit = turn(traits={"tags": ["a"]})
    await any_store.commit(commit)
    commit.state.traits["tags"].append("b")
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert loaded.traits == {"tags": ["a"]}


async def test_a_commit_on_another_version_changes_nothing(any_store: Store) -> None:
    assert await any_store.commit(turn(version=1))
    assert await any_store.commit(turn(version=2, alarm=NOW, seen=(("a", NOW),)))
    stale = turn(version=2, offset=1, frames=1, jobs=(job("j"),), seen=(("b", NOW),), log=(b"{}",))
    assert not await any_store.commit(stale)
    assert not await any_store.commit(turn(version=1))
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert (loaded.version, loaded.offset, loaded.seen) == (2, 0, {"a": NOW})
    assert await any_store.outbox("ana", 0) == []
    assert await any_store.due(NOW) == [(NOW, "ana")]
    assert await any_store.claim_jobs(NOW, 1000) == []


async def test_of_concurrent_commits_one_wins(another: Open) -> None:
    stores = [await another() for _ in range(4)]
    for version in range(1, 20):
        won = await asyncio.gather(*(store.commit(turn(version=version)) for store in stores))
        assert sum(won) == 1


async def test_the_same_commit_again_is_written_once_and_well(any_store: Store) -> None:
    full = turn(version=1, offset=2, frames=2, alarm=NOW, jobs=(job("j"),), seen=(("a", NOW),), op=OP)
    for _ in range(3):
        assert await any_store.commit(full)
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert (loaded.version, loaded.offset, loaded.op) == (1, 2, OP)
    assert [offset for offset, _ in await any_store.outbox("ana", 0)] == [1, 2]
    assert len(await any_store.claim_jobs(NOW, 1000)) == 1
    assert await any_store.commit(turn(version=2, offset=2, base=OP, op="2" * 16))


async def test_a_commit_that_others_wrote_upon_is_not_known_again(any_store: Store) -> None:
    first = turn(version=1, offset=1, frames=1, op=OP)
    assert await any_store.commit(first)
    assert await any_store.commit(turn(version=2, offset=1, base=OP, op="2" * 16))
    assert not await any_store.commit(first)
    assert len(await any_store.outbox("ana", 0)) == 1


async def test_another_commit_of_the_same_version_is_not_taken_for_this_one(any_store: Store) -> None:
    assert await any_store.commit(turn(version=1, op=OP))
    assert not await any_store.commit(turn(version=1, op="2" * 16))
    assert not await any_store.commit(turn(version=1))


async def test_a_commit_builds_on_the_very_commit_it_names(any_store: Store) -> None:
    """A version may come again with other content, after a server lost its last writes."""
    assert await any_store.commit(turn(version=1, op=OP))
    assert not await any_store.commit(turn(version=2, base="2" * 16, op="3" * 16))
    assert not await any_store.commit(turn(version=2, op="3" * 16))
    assert await any_store.commit(turn(version=2, base=OP, op="3" * 16))


async def test_a_commit_without_an_op_is_never_known_again(any_store: Store) -> None:
    assert await any_store.commit(turn(version=1))
    assert not await any_store.commit(turn(version=1))


async def test_stores_on_the_same_data_have_one_lineage(another: Open) -> None:
    one, two = await another(), await another()
    assert one.lineage("ana") == two.lineage("ana") != ""


# --- outbox ----------------------------------------------------------------------------------------------------------


async def test_the_outbox_gives_what_follows_an_offset_in_order(any_store: Store) -> None:
    await any_store.commit(turn(version=1, offset=3, frames=3))
    await any_store.commit(turn(version=2, offset=3))
    await any_store.commit(turn(version=3, offset=12, frames=9))
    assert [offset for offset, _ in await any_store.outbox("ana", 0)] == list(range(1, 13))
    assert await any_store.outbox("ana", 10) == [
        (11, b'{"type":"content","offset":11}'),
        (12, b'{"type":"content","offset":12}'),
    ]
    assert await any_store.outbox("ana", 12) == []
    assert await any_store.outbox("ana", 99) == []
    assert [offset for offset, _ in await any_store.outbox("ana", 2, limit=2)] == [3, 4]


async def test_the_outbox_keeps_about_the_last_thousand(any_store: Store) -> None:
    for version in range(1, 6):
        await any_store.commit(turn(version=version, offset=version * 500, frames=500))
    kept = [offset for offset, _ in await any_store.outbox("ana", 0, limit=5000)]
    assert kept == list(range(kept[0], 2501))
    assert 1000 <= len(kept) <= 1200


@pytest.mark.parametrize(
    "wrong",
    [
        turn(version=2, offset=4, frames=1),  # a gap
        turn(version=2, offset=2, frames=1),  # again
        turn(version=2, offset=3, frames=0),  # the state ahead of the messages
        turn(version=2, offset=1, frames=0),  # and behind
    ],
)
async def test_messages_that_do_not_continue_are_refused_as_a_bug(any_store: Store, wrong: Commit) -> None:
    await any_store.commit(turn(version=1, offset=2, frames=2))
    with pytest.raises(AssertionError, match="REFUSED"):
        await any_store.commit(wrong)
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert loaded.version == 1
    assert len(await any_store.outbox("ana", 0)) == 2


# --- event ids -------------------------------------------------------------------------------------------------------


async def test_event_ids_are_kept_oldest_first(any_store: Store) -> None:
    await any_store.commit(turn(version=1, seen=(("b", NOW), ("a", NOW + 1))))
    await any_store.commit(turn(version=2, seen=(("ü", NOW - 1),)))
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert list(loaded.seen.items()) == [("ü", NOW - 1), ("b", NOW), ("a", NOW + 1)]


async def test_event_ids_are_forgotten_after_a_day(any_store: Store) -> None:
    await any_store.commit(turn(version=1, seen=(("old", NOW), ("new", NOW + 1))))
    await any_store.commit(turn(version=2, seen=(("newer", NOW + DAY),), now=NOW + DAY + 1))
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert list(loaded.seen) == ["new", "newer"]


async def test_of_many_event_ids_the_newest_are_kept(any_store: Store) -> None:
    await any_store.commit(turn(version=1, seen=tuple((f"e{n:05}", NOW + n) for n in range(SEEN_MAX + 5))))
    loaded = await any_store.load("ana")
    assert loaded is not None
    assert list(loaded.seen) == [f"e{n:05}" for n in range(5, SEEN_MAX + 5)]


# --- alarms ----------------------------------------------------------------------------------------------------------


async def test_alarms_are_set_moved_and_removed(any_store: Store) -> None:
    await any_store.commit(turn(version=1, alarm=NOW))
    assert await any_store.due(NOW - 1) == []
    assert await any_store.due(NOW) == [(NOW, "ana")]
    await any_store.commit(turn(version=2, alarm=NOW + 500))
    assert await any_store.due(NOW + 499) == []
    assert await any_store.due(NOW + 500) == [(NOW + 500, "ana")]
    await any_store.commit(turn(version=3))
    assert await any_store.due(NOW + DAY) == []


async def test_due_alarms_by_bucket(any_store: Store) -> None:
    users = [f"user-{n}" for n in range(50)]
    for n, user in enumerate(users):
        await any_store.commit(turn(user, alarm=NOW - n))
    assert sorted(await any_store.due(NOW)) == sorted((NOW - n, user) for n, user in enumerate(users))
    bucket = bucket_of("user-7")
    mine = [user for user in users if bucket_of(user) == bucket]
    assert {user for _, user in await any_store.due(NOW, [bucket])} == set(mine)
    assert await any_store.due(NOW, []) == []


async def test_due_alarms_are_limited_a_bucket_oldest_first(any_store: Store) -> None:
    bucket = bucket_of("x")
    users = [user for user in (f"u{n}" for n in range(20_000)) if bucket_of(user) == bucket][:5]
    for n, user in enumerate(users):
        await any_store.commit(turn(user, alarm=NOW - n))
    assert await any_store.due(NOW, [bucket], limit=3) == [(NOW - n, users[n]) for n in (4, 3, 2)]


# --- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_job_is_claimed_once_until_its_lease_ends(another: Open) -> None:
    one, two = await another(), await another()
    await one.commit(turn(jobs=(job("j1"), job("j2", NOW + 50))))
    assert await one.claim_jobs(NOW - 1, 1000) == []
    assert await one.claim_jobs(NOW, 1000) == [job("j1")]
    assert await two.claim_jobs(NOW + 999, 1000) == [job("j2", NOW + 50)]
    assert await two.claim_jobs(NOW + 1000, 1000) == [job("j1")]


async def test_a_finished_job_is_gone(any_store: Store) -> None:
    await any_store.commit(turn(jobs=(job("j1"),)))
    [claimed] = await any_store.claim_jobs(NOW, 1000)
    await any_store.finish_job(claimed)
    assert await any_store.claim_jobs(NOW + DAY, 1000) == []
    await any_store.retry_job(claimed, NOW)
    assert await any_store.claim_jobs(NOW + DAY, 1000) == []


async def test_a_retried_job_comes_again_one_attempt_further(any_store: Store) -> None:
    await any_store.commit(turn(jobs=(job("j1"),)))
    [claimed] = await any_store.claim_jobs(NOW, 60_000)
    await any_store.retry_job(claimed, NOW + 5000)
    assert await any_store.claim_jobs(NOW + 4999, 1000) == []
    [again] = await any_store.claim_jobs(NOW + 5000, 1000)
    assert (again.attempt, again.due, again.id, again.body) == (1, NOW + 5000, "j1", claimed.body)


async def test_one_attempt_is_counted_once_whoever_retries_it(another: Open) -> None:
    one, two = await another(), await another()
    await one.commit(turn(jobs=(job("j1"),)))
    [slow] = await one.claim_jobs(NOW, 1000)
    [quick] = await two.claim_jobs(NOW + 1000, 1000)
    await two.retry_job(quick, NOW + 9000)
    await one.retry_job(slow, NOW + 2000)
    assert await one.claim_jobs(NOW + 8999, 1000) == []
    assert [found.attempt for found in await one.claim_jobs(NOW + 9000, 1000)] == [1]


async def test_a_job_id_is_queued_once(any_store: Store) -> None:
    await any_store.commit(turn(version=1, jobs=(job("j1"),)))
    await any_store.commit(turn(version=2, jobs=(job("j1", NOW + 1), job("j2"))))
    assert {found.id: found.due for found in await any_store.claim_jobs(NOW + 1, 1000)} == {"j1": NOW, "j2": NOW}


async def test_jobs_of_all_users_come_by_due_time_and_no_more_than_asked(any_store: Store) -> None:
    for n in range(30):
        await any_store.commit(turn(f"user-{n}", jobs=(job(f"j{n}", NOW - n, f"user-{n}"),)))
    assert [found.id for found in await any_store.claim_jobs(NOW, 1000, limit=4)] == ["j29", "j28", "j27", "j26"]
    assert len(await any_store.claim_jobs(NOW, 1000)) == 26


# --- bells -----------------------------------------------------------------------------------------------------------


async def test_a_bell_is_heard_by_every_store_that_listens(another: Open) -> None:
    here, there, deaf = await another(), await another(), await another()
    heard: asyncio.Queue[tuple[str, Bell]] = asyncio.Queue()
    for name, store in (("here", here), ("there", there), ("deaf", deaf)):
        store.on_bell(lambda bell, name=name: heard.put_nowait((name, bell)))  # type: ignore[misc]
    here.listen("ana")
    there.listen("ana")
    deaf.listen("someone else")
    await there.ping()  # what was asked before it is done
    await here.commit(turn(version=1, offset=2, frames=2))
    await there.commit(turn(version=2, offset=2))  # no message, no bell
    await there.commit(turn(version=3, offset=3, frames=1, node="n2"))
    async with asyncio.timeout(5):
        bells = [await heard.get() for _ in range(4)]
    expected = [Bell("ana", 2, "n1", "e1"), Bell("ana", 3, "n2", "e1")]
    assert [bell for name, bell in bells if name == "here"] == expected
    assert [bell for name, bell in bells if name == "there"] == expected
    assert heard.empty()


async def test_listening_is_counted(any_store: Store) -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    any_store.on_bell(lambda bell: heard.put_nowait(bell.offset))
    any_store.listen("ana")
    any_store.listen("ana")
    any_store.unlisten("ana")
    await any_store.commit(turn(version=1, offset=1, frames=1))
    async with asyncio.timeout(5):
        assert await heard.get() == 1
    any_store.unlisten("ana")
    await any_store.commit(turn(version=2, offset=2, frames=1))
    any_store.listen("ana")
    await any_store.commit(turn(version=3, offset=3, frames=1))
    async with asyncio.timeout(5):
        assert await heard.get() == 3


async def test_what_a_hearer_does_wrong_harms_nobody(any_store: Store) -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    any_store.on_bell(lambda bell: 1 // 0)  # type: ignore[arg-type]
    any_store.on_bell(lambda bell: heard.put_nowait(bell.offset))
    any_store.listen("ana")
    await any_store.commit(turn(version=1, offset=1, frames=1))
    async with asyncio.timeout(5):
        assert await heard.get() == 1
    assert await any_store.load("ana") is not None
    assert [type(complaint) for complaint in complaints] == [ZeroDivisionError]


# --- the event log ---------------------------------------------------------------------------------------------------


async def test_the_log_of_a_user_is_followed_live(another: Open) -> None:
    writer, reader = await another(), await another()
    neighbour = next(user for user in (f"u{n}" for n in range(50_000)) if bucket_of(user) == bucket_of("ana"))
    await writer.commit(turn(version=1, log=(b'{"n":0}',), now=NOW - 1))
    await writer.commit(turn(neighbour, log=(b'{"n":-1}',)))
    await writer.commit(turn(version=2, log=(b'{"n":1}', b'{"n":2}')))
    lines = reader.follow("ana", NOW)
    async with asyncio.timeout(5):
        assert [await anext(lines), await anext(lines)] == [{"n": 1}, {"n": 2}]
        waiting = asyncio.ensure_future(anext(lines))
        await writer.commit(turn(neighbour, version=2, log=(b'{"n":-2}',)))
        await writer.commit(turn(version=3, log=(b'{"n":3}',)))
        assert await waiting == {"n": 3}
    await lines.aclose()  # type: ignore[attr-defined]


async def test_the_log_of_all_users_is_read_to_its_end(another: Open) -> None:
    writer, reader = await another(), await another()
    assert [line async for line in reader.follow(None, 0, live=False)] == []
    for number in range(30):
        await writer.commit(turn(f"u{number}", log=(b'{"n":%d}' % number,), now=NOW + number))
    await writer.commit(turn("u3", version=2, log=tuple(b'{"n":%d}' % n for n in range(100, 160)), now=NOW + 40))
    lines = [line["n"] async for line in reader.follow(None, NOW + 20, live=False)]
    assert sorted(lines) == [*range(20, 30), *range(100, 160)]
    assert [line["n"] async for line in reader.follow("u3", 0, live=False)] == [3, *range(100, 160)]
    live = reader.follow(None, NOW + 50)
    waiting = asyncio.ensure_future(anext(live))
    await writer.commit(turn("u99", log=(b'{"n":99}',), now=NOW + 50))
    async with asyncio.timeout(5):
        assert await waiting == {"n": 99}
    await live.aclose()  # type: ignore[attr-defined]


# --- processes -------------------------------------------------------------------------------------------------------


async def test_whoever_holds_somebody_is_among_the_processes(any_store: Store) -> None:
    await any_store.enlist("n1", "ana")
    assert await any_store.nodes() == {"n1": 0}
    assert not await any_store.heartbeat("n1", NOW)
    await any_store.enlist("n1", "ben")
    assert await any_store.nodes() == {"n1": NOW}
    assert await any_store.heartbeat("n2", NOW)


async def test_processes_and_whom_they_hold(any_store: Store) -> None:
    await any_store.heartbeat("n1", NOW)
    await any_store.heartbeat("n2", NOW)
    await any_store.heartbeat("n1", NOW + 1)
    assert await any_store.nodes() == {"n1": NOW + 1, "n2": NOW}
    for user in ("zoë", "ana", "ana", "ben"):
        await any_store.enlist("n1", user)
    await any_store.delist("n1", "ben")
    await any_store.delist("n3", "ben")
    assert await any_store.enlisted("n1") == ["ana", "zoë"]
    assert await any_store.enlisted("n2") == []
    await any_store.forget_node("n1")
    assert await any_store.enlisted("n1") == []
    assert await any_store.nodes() == {"n2": NOW}


async def test_ping(any_store: Store) -> None:
    assert 0 <= await any_store.ping() < 1


# --- who may come in -------------------------------------------------------------------------------------------------


async def test_what_is_kept_under_a_ticket_is_taken_once(another: Open) -> None:
    here, there = await another(), await another()
    await here.keep_ticket("t1", b"one", 60_000)
    await here.keep_ticket("t2", b"two", 60_000)
    assert await there.take_ticket("t1") == b"one"
    assert await here.take_ticket("t1") is None
    assert await here.take_ticket("t2") == b"two"


async def test_what_is_announced_is_told_to_every_process_from_its_mark_on(another: Open) -> None:
    here, there = await another(), await another()
    assert await there.announced() == []
    for user in ("ada", "bob ☃", "ada"):
        await here.announce(user)
    told = await there.announced()
    assert [user for _, user in told] == ["ada", "bob ☃", "ada"]
    assert await here.announced(told[0][0]) == told[1:]
    assert await here.announced(told[-1][0]) == []
