"""When the data behind a store may be others than those that were acknowledged, and when they certainly are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from turns import turn

from handrail.store import RedisStore, StoreDown, StoreUnusable, launch
from masters import ALWAYS, EVERYSEC, Master

LINEAGE = "hr:{nodes}:lineage"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = await RedisStore.connect(url)
    try:
        yield store
    finally:
        await store.close()


async def lineage_at(url: str) -> str:
    async with opened(url) as store:
        return store.lineage("ana")


async def until_known(store: RedisStore, before: str) -> str:
    """The lineage once it is another."""
    async with asyncio.timeout(5):
        while store.lineage("ana") == before:  # noqa: ASYNC110 - the store notices by itself
            await asyncio.sleep(0.01)
    return store.lineage("ana")


async def fault_of(asked: Awaitable[object]) -> str:
    try:
        await asked
    except StoreDown as fault:
        return str(fault)
    return ""


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    with Master(tmp_path / "master", **EVERYSEC) as server:
        yield server


async def test_the_embedded_store_keeps_its_lineage_when_it_is_restarted(tmp_path: Path) -> None:
    with launch(tmp_path / "data") as embedded:
        before = await lineage_at(embedded.url)
        async with opened(embedded.url) as store:
            back = asyncio.Event()
            store.on_reconnect(back.set)
            os.kill(embedded.pid, signal.SIGKILL)
            async with asyncio.timeout(5):
                await back.wait()
            assert store.lineage("ana") == before
    with launch(tmp_path / "data") as embedded:
        assert await lineage_at(embedded.url) == before
    with launch(tmp_path / "other") as embedded:
        assert await lineage_at(embedded.url) != before


async def test_a_backup_of_the_embedded_store_that_was_put_back_is_another_history(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    with launch(data) as embedded:
        before = await lineage_at(embedded.url)
    shutil.copytree(data, backup)
    with launch(data) as embedded:
        assert await lineage_at(embedded.url) == before
        async with opened(embedded.url) as store:
            await store.commit(turn())
    put_back = []
    for name in ("", "appendonlydir"):  # the whole folder, or the data in it
        shutil.rmtree(data / name)
        shutil.copytree(backup / name, data / name)
        with launch(data) as embedded:
            put_back.append(await lineage_at(embedded.url))
    assert len({before, *put_back}) == 3
    with launch(data) as embedded:
        assert await lineage_at(embedded.url) == put_back[-1]


async def test_files_of_the_embedded_store_that_were_cut_are_another_history(tmp_path: Path) -> None:
    with launch(tmp_path) as embedded:
        before = await lineage_at(embedded.url)
        [newest] = (tmp_path / "appendonlydir").glob("*.incr.aof")
        length = newest.stat().st_size
        async with opened(embedded.url) as store:
            await store.commit(turn())
    os.truncate(newest, length)
    with launch(tmp_path) as embedded:
        assert await lineage_at(embedded.url) != before
    with launch(tmp_path) as embedded:
        after = await lineage_at(embedded.url)
        async with opened(embedded.url) as store:
            await store.commit(turn("ben"))
    whole = newest.read_bytes()
    newest.write_bytes(whole[:length] + b"no command" + whole[length + 10 :])
    with pytest.raises(StoreUnusable, match="is damaged"):
        launch(tmp_path)
    newest.write_bytes(whole)  # it was mended, which may have cost something
    with launch(tmp_path) as embedded:
        assert await lineage_at(embedded.url) != after


async def test_a_server_that_may_forget_has_another_after_each_restart(master: Master) -> None:
    before = await lineage_at(master.url)
    assert await lineage_at(master.url) == before
    master.restart()
    after = await lineage_at(master.url)
    assert after != before
    master.restart()
    assert await lineage_at(master.url) not in (before, after)


async def test_a_server_that_hides_its_settings_counts_as_one_that_may_forget(tmp_path: Path) -> None:
    with Master(tmp_path / "hidden", **ALWAYS) as master:
        master.tell("ACL", "SETUSER", "default", "-config")
        before = await lineage_at(master.url)
        master.restart()
        master.tell("ACL", "SETUSER", "default", "-config")
        assert await lineage_at(master.url) != before


async def test_a_server_that_writes_before_it_answers_keeps_its_own(tmp_path: Path) -> None:
    with Master(tmp_path / "always", **ALWAYS) as master:
        before = await lineage_at(master.url)
        master.restart()
        assert await lineage_at(master.url) == before
        master.tell("DEL", LINEAGE)  # what an operator does who put a backup back
        assert await lineage_at(master.url) != before


async def test_data_taken_away_under_an_open_connection_are_noticed(master: Master) -> None:
    async with opened(master.url) as store:
        before, back = store.lineage("ana"), asyncio.Event()
        store.on_reconnect(back.set)
        master.tell("FLUSHALL")
        assert await until_known(store, before) != before
        async with asyncio.timeout(5):
            await back.wait()


async def test_a_promoted_replica_is_another_history(master: Master, tmp_path: Path) -> None:
    with Master(tmp_path / "replica", **EVERYSEC) as replica:
        before = await lineage_at(master.url)
        replica.follow(master)
        with pytest.raises(StoreDown, match="is a replica"):
            await RedisStore.connect(replica.url)
        master.kill()
        replica.tell("REPLICAOF", "NO", "ONE")
        after = await lineage_at(replica.url)
        assert after != before
        assert await lineage_at(replica.url) == after


async def test_a_master_that_became_a_replica_is_left(master: Master, tmp_path: Path) -> None:
    with Master(tmp_path / "other", **EVERYSEC) as other:
        async with opened(master.url) as store:
            await store.commit(turn())
            master.tell("REPLICAOF", "127.0.0.1", other.port)
            with pytest.raises(StoreDown):
                await store.commit(turn(version=2))
            async with asyncio.timeout(5):
                while "is a replica" not in await fault_of(store.ping()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


async def test_what_waited_for_a_connection_does_not_go_to_other_data(master: Master) -> None:
    async with opened(master.url) as store:
        before = store.lineage("ana")
        master.kill()
        async with asyncio.timeout(5):
            while store._masters.servers[0].is_open:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        master.start()
        committed = 0
        async with asyncio.timeout(5):
            while store.lineage("ana") == before:
                with contextlib.suppress(StoreDown):
                    await store.commit(turn("ben"))
                    committed += 1
                await asyncio.sleep(0.005)
        assert not committed
