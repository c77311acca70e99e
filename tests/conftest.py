"""Fixtures that several parts' tests share. Everything is real: the Valkey is the one that ships."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from handrail.store import Embedded, MemoryStore, RedisStore, launch
from handrail.store.embedded import ask


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with launch(tmp_path_factory.mktemp("valkey")) as embedded:
        yield embedded


@pytest.fixture
async def store(valkey: Embedded) -> AsyncIterator[RedisStore]:
    """A store that is empty."""
    assert ask(Path(valkey.url.removeprefix("unix://")), b"FLUSHALL\r\n") == b"+OK\r\n"
    opened = await RedisStore.connect(valkey.url)
    yield opened
    await opened.close()


@pytest.fixture
def memory_store() -> MemoryStore:
    return MemoryStore()
