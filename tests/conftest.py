"""Fixtures that several parts' tests share. Everything is real: the Valkey is the one that ships."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import settings

from clusters import Cluster, Watched, clustered, watched
from handrail.store import Embedded, MemoryStore, RedisStore, Store, launch
from handrail.store.embedded import ask
from nodes import Clock, Node, Start, run_node
from servers import GREET, Serve, served

settings.register_profile("handrail", deadline=None)  # the machine may have other things to do: nothing here is timed
settings.load_profile("handrail")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with launch(tmp_path_factory.mktemp("valkey")) as embedded:
        yield embedded


@pytest.fixture
def empty_valkey(valkey: Embedded) -> Embedded:
    assert ask(Path(valkey.url.removeprefix("unix://")), b"FLUSHALL\r\n") == b"+OK\r\n"
    return valkey


@pytest.fixture
async def store(empty_valkey: Embedded) -> AsyncIterator[RedisStore]:
    """A store that is empty."""
    opened = await RedisStore.connect(empty_valkey.url)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def six_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(six_servers: Cluster) -> Cluster:
    """Three masters and three replicas, all up and empty; a test may kill any of them."""
    six_servers.mend()
    six_servers.clear()
    return six_servers


@pytest.fixture(scope="session")
def three_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("sentinels")) as pair:
        yield pair


@pytest.fixture
def watched_pair(three_sentinels: Watched) -> Watched:
    """A master, its replica and three Sentinels, all up and empty; a test may stop or kill either server."""
    three_sentinels.mend()
    assert three_sentinels.master.ask("FLUSHALL") == "OK"
    return three_sentinels


@pytest.fixture
def memory_store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def start(valkey: Embedded, store: RedisStore, clock: Clock) -> AsyncIterator[Start]:
    """Starts processes of the live server on one empty store: `await start("t-a")`."""
    async with AsyncExitStack() as stack:

        async def begin(name: str = "t-a", **options: Any) -> Node:
            own = await RedisStore.connect(valkey.url)
            stack.push_async_callback(own.close)
            return await stack.enter_async_context(run_node(own, clock, name, **options))

        yield begin


@pytest.fixture
async def node(start: Start) -> Node:
    return await start()


@pytest.fixture
async def serve(store: RedisStore, tmp_path: Path) -> AsyncIterator[Serve]:
    """Whole servers on the empty store."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "greet.yaml").write_text(GREET)
    async with AsyncExitStack() as stack:

        class Starter:
            folder = tmp_path / "rules"

            async def __call__(self, *, store: Store = store, **settings: Any) -> httpx2.AsyncClient:
                return await stack.enter_async_context(served(store, self.folder, **settings))

        yield Starter()
