"""What callers are told while the store is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from handrail.store import RedisStore
from masters import EVERYSEC, Master
from servers import Serve


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    with Master(tmp_path / "master", **EVERYSEC) as server:
        yield server


@pytest.fixture
async def lonely(master: Master) -> AsyncIterator[RedisStore]:
    """A store on a server of its own, which a test may kill."""
    store = await RedisStore.connect(master.url)
    yield store
    await store.close()


@pytest.mark.parametrize("path", ["/api/quarantine", "/api/tail?follow=false", "/api/users/ann/explain/greet"])
async def test_who_reads_is_to_ask_again(serve: Serve, lonely: RedisStore, master: Master, path: str) -> None:
    client = await serve(store=lonely)
    master.kill()
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["detail"] == "The store cannot be reached. Ask again in a moment."


@pytest.mark.parametrize("path", ["/v1/track", "/api/users/ann/revoke"])
async def test_who_writes_is_to_send_the_same_again(
    serve: Serve, lonely: RedisStore, master: Master, path: str
) -> None:
    client = await serve(store=lonely)
    master.kill()
    answer = await client.post(path, json={"userId": "ann", "event": "greeted"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "nothing was accepted. Send the same again" in answer.json()["detail"]
