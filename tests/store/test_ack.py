"""What an acknowledgement is worth, level by level."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from turns import turn

from handrail.store import Embedded, RedisStore, StoreDown, StoreUnusable
from masters import ALWAYS, EVERYSEC, Master

OP = "1" * 16


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    with Master(tmp_path / "master", **EVERYSEC) as server:
        yield server


@pytest.fixture
def replica(master: Master, tmp_path: Path) -> Iterator[Master]:
    with Master(tmp_path / "replica", **EVERYSEC) as server:
        server.follow(master)
        yield server


async def test_replicated_means_that_a_replica_has_it(master: Master, replica: Master) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    won = await asyncio.gather(*(store.commit(turn(f"user-{n}", op=OP)) for n in range(200)))
    assert all(won)
    master.kill()
    replica.tell("REPLICAOF", "NO", "ONE")
    await store.close()
    store = await RedisStore.connect(replica.url)
    for n in range(200):
        assert await store.load(f"user-{n}") is not None
    await store.close()


async def test_nothing_is_acknowledged_without_a_replica_nor_when_it_is_sent_again(
    master: Master, replica: Master
) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    assert await store.commit(turn(op=OP))
    replica.kill()
    second = turn(version=2, base=OP, op="2" * 16)
    for _ in range(3):
        with pytest.raises(StoreDown):
            await store.commit(second)
    assert not await store.commit(turn(version=2, base=OP, op="3" * 16)), "it was written, only not confirmed"
    replica.start()
    replica.follow(master)
    assert await store.commit(second), "and can be confirmed"
    await store.close()


async def test_a_store_without_a_replica_says_what_it_lacks(master: Master, replica: Master) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    other = await RedisStore.connect(master.url)
    assert await store.shortfall() is None
    replica.kill()
    async with asyncio.timeout(5):
        while (found := await store.shortfall()) is None:  # noqa: ASYNC110 - Valkey notices by itself
            await asyncio.sleep(0.02)
    assert found.whole
    assert found.text.startswith(
        f"no replica keeps up with redis://127.0.0.1:{master.port}/0, and nothing is acknowledged"
    )
    assert await other.shortfall() is None, "who waits for no replica lacks none"
    replica.start()
    replica.follow(master)
    assert await store.shortfall() is None
    replica.pause()
    async with asyncio.timeout(10):
        while await store.shortfall() is None:  # noqa: ASYNC110 - it is connected, and silent
            await asyncio.sleep(0.1)
    master.kill()
    with pytest.raises(StoreDown):
        await store.shortfall()
    await store.close()
    await other.close()


async def test_a_conflict_needs_no_replica(master: Master, replica: Master) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    await store.commit(turn(op=OP))
    replica.kill()
    assert not await store.commit(turn(version=5))
    await store.close()


async def test_writes_that_leave_together_wait_together(master: Master, replica: Master) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    for _ in range(3):
        await asyncio.gather(*(store.commit(turn(f"user-{n}")) for n in range(50)))
    stats = master.tell("INFO", "commandstats").decode()
    calls = int(stats.partition("cmdstat_wait:calls=")[2].partition(",")[0])
    assert calls <= 6
    await store.close()


async def test_a_forgotten_script_is_confirmed_too(master: Master, replica: Master) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    master.tell("SCRIPT", "FLUSH")
    assert await store.commit(turn(op=OP))
    await store.close()


async def test_with_the_server_gone_a_confirmed_write_fails_at_once(master: Master) -> None:
    store = await RedisStore.connect(master.url, ack="replicated")
    master.kill()
    for _ in range(3):
        with pytest.raises(StoreDown):
            async with asyncio.timeout(1.5):
                await store.commit(turn(op=OP))
    await store.close()


async def test_durable_is_refused_where_answers_come_before_the_disk(master: Master, tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"HANDRAIL_ACK.*answers before it writes.*appendfsync always"):
        await RedisStore.connect(master.url, ack="durable")
    with Master(tmp_path / "always", **ALWAYS) as always:
        store = await RedisStore.connect(always.url, ack="durable")
        assert await store.commit(turn())
        await store.close()
        always.tell("ACL", "SETUSER", "default", "-config")
        with pytest.raises(StoreUnusable, match="hides its settings"):
            await RedisStore.connect(always.url, ack="durable")


async def test_the_embedded_store_is_durable(valkey: Embedded, store: RedisStore) -> None:
    durable = await RedisStore.connect(valkey.url, ack="durable")
    assert await durable.commit(turn())
    await durable.close()
