"""What only a store of many servers can do, or have done to it. The contract is asked of it in test_contract.py."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs
from turns import NOW, job, turn

from clusters import Cluster, Server
from handrail.store import Bell, Commit, RedisStore, StoreDown, StoreUnusable
from handrail.store.keys import ALIVE, BUCKET_COUNT, user_keys

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[RedisStore]:
    opened = await RedisStore.connect(cluster.url)
    yield opened
    await opened.close()


def slot_of(user: str) -> int:
    return key_slot(user_keys(user).state)


def user_on(cluster: Cluster, server: Server) -> str:
    return next(user for user in (f"u{number}" for number in range(10_000)) if cluster.owner(slot_of(user)) is server)


# --- connecting ------------------------------------------------------------------------------------------------------


async def test_a_plain_url_of_any_of_its_nodes_will_do(cluster: Cluster) -> None:
    for server in (cluster.masters[1], next(each for each in cluster.servers if each not in cluster.masters)):
        store = await RedisStore.connect(f"redis://{server.place}")
        for user in "abcdef":
            await store.load(user)
        await store.close()


async def test_a_seed_that_is_away_is_passed_over(cluster: Cluster) -> None:
    store = await RedisStore.connect(f"redis+cluster://127.0.0.1:1,{cluster.servers[2].place}")
    assert await store.commit(turn())
    await store.close()
    with pytest.raises(StoreDown, match=r"127\.0\.0\.1:2/0 cannot be reached"):
        await RedisStore.connect("redis+cluster://127.0.0.1:1,127.0.0.1:2")


async def test_what_is_no_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Server(tmp_path_factory.mktemp("single"))
    try:
        with pytest.raises(
            StoreUnusable, match=r"is not part of a cluster: write redis:// in place of redis\+cluster://"
        ):
            await RedisStore.connect(f"redis+cluster://{server.place}")
    finally:
        server.kill()


async def test_another_number_of_buckets_is_refused(cluster: Cluster) -> None:
    cluster.owner(key_slot(BUCKET_COUNT)).ask("SET", BUCKET_COUNT, 256)
    with pytest.raises(StoreUnusable, match="laid out in 256 buckets"):
        await RedisStore.connect(cluster.url)


async def test_servers_that_are_set_up_to_forget_are_named(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, other = cluster.masters[:2]
    odd.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    other.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    store = await RedisStore.connect(cluster.url)
    await store.close()
    odd.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    other.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    warned = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warned) == 2
    assert any("set maxmemory-policy noeviction" in line and odd.place in line for line in warned)
    assert any("set cluster-require-full-coverage no" in line and other.place in line for line in warned)


async def test_the_rights_that_are_documented_are_enough(cluster: Cluster) -> None:
    [line] = [line for line in OPERATING.read_text("utf-8").splitlines() if line.startswith("ACL SETUSER handrail ")]
    rights = line.replace("PASSWORD", "s3cret").split()[3:]
    for server in cluster.servers:
        assert server.ask("ACL", "SETUSER", "handrail", "reset", *rights) == "OK"
    store = await RedisStore.connect(cluster.url.replace("://", "://handrail:s3cret@"))
    store.listen("ana")
    full = turn(offset=1, frames=1, alarm=NOW, jobs=(job("j"),), log=(b"{}",), seen=(("a", NOW),))
    assert await store.commit(full)
    assert await store.load("ana") is not None
    assert await store.outbox("ana", 0)
    assert await store.due(NOW) == [(NOW, "ana")]
    [claimed] = await store.claim_jobs(NOW, 1000)
    await store.retry_job(claimed, NOW)
    await store.finish_job(claimed)
    await store.enlist("n1", "ana")
    await store.heartbeat("n1", NOW)
    assert await store.enlisted("n1") == ["ana"]
    assert await store.nodes() == {"n1": NOW}
    await store.delist("n1", "ana")
    await store.forget_node("n1")
    assert [line async for line in store.follow(None, 0, live=False)] == [{}]
    await store.close()


# --- what an answer is worth -----------------------------------------------------------------------------------------


async def test_an_answer_waits_for_the_replica_of_its_own_master(cluster: Cluster) -> None:
    store = await RedisStore.connect(cluster.url, ack="replicated")
    users = [user_on(cluster, server) for server in cluster.masters]
    await asyncio.gather(*(confirmed(store, turn(user, op="0" * 16)) for user in users))
    await asyncio.to_thread(cluster.move, slot_of(users[0]))
    await confirmed(store, turn(users[0], version=2, base="0" * 16, op="1" * 16))
    masters = cluster.masters
    for replica in (server for server in cluster.servers if server not in masters):
        replica.signal(signal.SIGSTOP)
    with pytest.raises(StoreDown, match="no replica had the write"):
        await store.commit(turn(users[1], version=2, base="0" * 16, op="2" * 16))
    await store.close()


async def confirmed(store: RedisStore, commit: Commit) -> None:
    """The commit, sent again until a replica has it too, however busy the machine."""
    async with asyncio.timeout(5):
        while True:
            try:
                assert await store.commit(commit)
                return
            except StoreDown:
                await asyncio.sleep(0.05)


async def test_every_master_must_write_to_disk_where_answers_are_to_be_durable(cluster: Cluster) -> None:
    with pytest.raises(StoreUnusable, match=r"durable \(HANDRAIL_ACK\), and redis://127\.0\.0\.1:\d+/0 answers before"):
        await RedisStore.connect(cluster.url, ack="durable")


async def test_the_history_of_a_user_is_that_of_the_master(cluster: Cluster, store: RedisStore) -> None:
    users = [user_on(cluster, server) for server in cluster.masters]
    for user in users:
        await store.commit(turn(user))
    before = [store.lineage(user) for user in users]
    assert len(set(before)) == 3
    await asyncio.to_thread(cluster.move, slot_of(users[0]))
    other = await RedisStore.connect(cluster.url)
    for user in users:
        await store.load(user)
        assert store.lineage(user) == other.lineage(user)
    assert store.lineage(users[0]) != before[0]
    assert [store.lineage(user) for user in users[1:]] == before[1:]
    await other.close()


# --- where things lie ------------------------------------------------------------------------------------------------


async def test_servers_that_forgot_the_scripts_are_told_again(cluster: Cluster, store: RedisStore) -> None:
    await store.commit(turn())
    for server in cluster.masters:
        server.ask("SCRIPT", "FLUSH")
    assert all(await asyncio.gather(*(store.commit(turn(f"u{number}")) for number in range(30))))


async def test_a_user_is_found_at_every_step_of_a_move(cluster: Cluster, store: RedisStore) -> None:
    other = await RedisStore.connect(cluster.url)
    commit = turn(version=1, offset=1, frames=1, alarm=NOW, seen=(("a", NOW),), log=(b"{}",))
    await store.commit(commit)
    loop, found = asyncio.get_running_loop(), []

    def look() -> None:
        asyncio.run_coroutine_threadsafe(see(), loop).result(5)

    async def see() -> None:
        loaded = await store.load("ana")
        assert loaded is not None
        found.append((loaded.version, loaded.seen, await store.outbox("ana", 0)))

    await asyncio.to_thread(cluster.move, slot_of("ana"), pause=look)
    assert len(found) == 6  # before, and after each of its keys
    assert found == [(1, {"a": NOW}, list(commit.frames))] * 6
    for each in (other, store):
        assert await each.due(NOW) == [(NOW, "ana")]
        assert len([line async for line in each.follow(None, 0, live=False)]) == 1
    assert await other.commit(turn(version=2, offset=2, frames=1))
    await other.close()


async def test_a_commit_while_its_slot_is_moved_happens_once_it_can(cluster: Cluster, store: RedisStore) -> None:
    await store.commit(turn(version=1, offset=1, frames=1))
    commits: list[asyncio.Task[bool]] = []
    loop = asyncio.get_running_loop()

    def commit() -> None:
        if not commits:
            loop.call_soon_threadsafe(lambda: commits.append(loop.create_task(store.commit(turn(version=2, offset=1)))))
            time.sleep(0.2)

    await asyncio.to_thread(cluster.move, slot_of("ana"), pause=commit)
    assert await commits[0]
    loaded = await store.load("ana")
    assert loaded is not None
    assert loaded.version == 2


async def test_bells_ring_on_after_their_slot_has_moved(cluster: Cluster, store: RedisStore) -> None:
    other = await RedisStore.connect(cluster.url)
    heard: asyncio.Queue[Bell] = asyncio.Queue()
    missed = asyncio.Event()
    store.on_bell(heard.put_nowait)
    store.on_reconnect(missed.set)
    store.listen("ana")
    await store.ping()
    assert not missed.is_set()
    await asyncio.to_thread(cluster.move, slot_of("ana"))
    async with asyncio.timeout(2):
        await missed.wait()
    await store.ping()
    await other.commit(turn(version=1, offset=1, frames=1))
    async with asyncio.timeout(2):
        assert await heard.get() == Bell("ana", 1, "n1", "e1")
    await other.close()


# --- servers that are away -------------------------------------------------------------------------------------------


async def test_a_server_that_hangs_holds_up_nobody_elses_users(cluster: Cluster, store: RedisStore) -> None:
    victim = next(each for each in cluster.masters if each is not cluster.owner(key_slot(ALIVE)))
    gone, *there = [user_on(cluster, server) for server in sorted(cluster.masters, key=lambda each: each is not victim)]
    for user in (gone, *there):
        await store.commit(turn(user, alarm=NOW, jobs=(job(f"j-{user}", user=user),)))
        await store.enlist("n1", user)
    before = store.lineage(gone)
    with capture_logs() as lines:
        await hang(store, victim, gone, there)
        store._masters.outages.look(store._masters.servers)
    assert not [line for line in lines if "slots were moved" in line["event"]], (
        "the map was only read for the first time"
    )
    assert store.lineage(gone) != before
    away, taken = [line for line in lines if line.get("log_level") == "warning"]
    assert (away["event"], away["store"]) == ("the store is away", f"redis://{victim.place}/0")
    assert taken["event"] == "another server has taken over; its users get a new epoch"
    assert taken["instead_of"] == away["store"]
    assert taken["store"] in {f"redis://{each.place}/0" for each in cluster.servers if each is not victim}
    assert taken["refused"] >= 1
    assert taken["for_s"] > 1


async def hang(store: RedisStore, victim: Server, gone: str, there: list[str]) -> None:
    """Until another server has taken over."""
    victim.signal(signal.SIGSTOP)
    with pytest.raises(StoreDown):
        await store.load(gone)
    start = time.monotonic()
    assert {user for _, user in await store.due(NOW)} == set(there)
    assert {found.user for found in await store.claim_jobs(NOW, 60_000)} == set(there)
    for user in there:
        assert await store.load(user) is not None
        assert await store.commit(turn(user, version=2))
        await store.enlist("n2", user)
    await store.heartbeat("n2", NOW)
    assert await store.ping() < 0.5
    assert time.monotonic() - start < 0.5
    with pytest.raises(StoreDown):
        await store.enlisted("n1")  # not known whole
    async with asyncio.timeout(8):
        while True:
            try:
                assert await store.load(gone) is not None
                break
            except StoreDown:
                await asyncio.sleep(0.05)
    assert [found.user for found in await store.claim_jobs(NOW, 1000)] == [gone]
