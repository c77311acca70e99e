"""A server that Sentinels watch; what a failover costs is in tests/faults."""

from __future__ import annotations

import asyncio
import signal

import pytest
from structlog.testing import capture_logs
from turns import turn

from clusters import Watched
from handrail.store import RedisStore, StoreDown, StoreUnusable


async def test_the_sentinels_say_where_the_master_is(watched_pair: Watched) -> None:
    dead_first = watched_pair.url.replace("://", "://127.0.0.1:1,")
    for number, url in enumerate((watched_pair.url, dead_first, f"{watched_pair.url}/3"), 1):
        store = await RedisStore.connect(url)
        assert await store.commit(turn(f"ana{number}"))
        await store.close()
    assert watched_pair.master.ask("DBSIZE") == 4  # two users, the number of buckets, the lineage
    assert "db3:keys=3" in watched_pair.master.ask("INFO", "keyspace")


async def test_a_name_that_no_sentinel_watches(watched_pair: Watched) -> None:
    with pytest.raises(StoreDown, match="no Sentinel names a master of 'foot'"):
        await RedisStore.connect(watched_pair.url.replace("/hand", "/foot"))


async def test_sentinels_that_are_all_away() -> None:
    with pytest.raises(StoreDown) as told:
        await RedisStore.connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2/hand")
    assert str(told.value) == (
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/hand/0 cannot be reached "
        "(no Sentinel names a master of 'hand', or none answers without a password)"
    )


async def test_a_server_is_no_sentinel(watched_pair: Watched) -> None:
    with pytest.raises(StoreDown, match="it is no Sentinel: write their hosts and ports"):
        await RedisStore.connect(f"redis+sentinel://{watched_pair.master.place}/hand")


async def test_a_sentinel_is_no_store(watched_pair: Watched) -> None:
    with pytest.raises(StoreUnusable, match=r"is a Sentinel: write redis\+sentinel://host:port/SERVICE"):
        await RedisStore.connect(f"redis://{watched_pair.sentinels[0].place}")


async def test_a_replica_is_not_written_to(watched_pair: Watched) -> None:
    replica = next(server for server in watched_pair.servers if server is not watched_pair.master)
    with pytest.raises(StoreDown, match="it is a replica, which takes no writes"):
        await RedisStore.connect(f"redis://{replica.place}")


async def test_a_failover_is_told_in_three_lines(watched_pair: Watched) -> None:
    store = await RedisStore.connect(watched_pair.url)
    with capture_logs() as lines:
        watched_pair.master.signal(signal.SIGKILL)
        async with asyncio.timeout(10):
            while True:
                try:
                    await store.ping()
                    break
                except StoreDown:
                    await asyncio.sleep(0.05)
    away, epoch, back = lines
    assert (away["event"], away["store"]) == ("the store is away", f"{watched_pair.url}/0")
    assert epoch["event"] == "the store may have lost what was written last; users get a new epoch"
    assert (back["event"], back["at"]) == ("the store is back", watched_pair.master.place)
    assert back["for_s"] > 0.5
    assert back["refused"] >= 1
    await store.close()
