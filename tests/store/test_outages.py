"""What the log says while servers are away: little, and enough."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from turns import turn

from handrail.store import RedisStore, StoreDown
from handrail.store.address import Address
from handrail.store.outages import EVERY, QUIET, Outages
from masters import EVERYSEC, Master
from servers import Serve


class Wire:
    """A connection, as far as it is told of."""

    def __init__(self, url: str = "redis://a:1/0") -> None:
        self.address = Address(url)
        self.is_open = True
        self.missed = self.refused = 0
        self.reason, self.refusal = "the connection was lost", "MISCONF disk full"


class Told:
    """The lines told so far, each without its level."""

    def __init__(self) -> None:
        self.now = 100.0
        self.outages = Outages(lambda: self.now)
        self.lines: list[Any] = []

    def pass_(self, seconds: float, *servers: Wire, missed: int = 0, refused: int = 0) -> list[str]:
        """Look each second; every server misses and refuses that many commands in it."""
        before = len(self.lines)
        for _ in range(int(seconds)):
            self.now += 1
            for server in servers:
                server.missed += missed
                server.refused += refused
            self.outages.look(servers)
        return [line["event"] for line in self.lines[before:]]


@pytest.fixture
def told() -> Iterator[Told]:
    with capture_logs() as lines:
        made = Told()
        made.lines = lines
        yield made


def test_a_minute_away_is_eight_lines(told: Told) -> None:
    server = Wire()
    told.pass_(5, server)
    server.is_open = False
    told.outages.lost(server)
    told.pass_(65, server, missed=40)
    server.is_open = True
    told.outages.back(server)
    told.pass_(20, server)
    first, *middle, last = told.lines
    assert (first["event"], first["store"], first["reason"]) == (
        "the store is away",
        "redis://a:1/0",
        "the connection was lost",
    )
    assert [(line["event"], line["for_s"], line["refused"]) for line in middle] == [
        ("the store is still away", 10.0 * n, 400 * n) for n in range(1, 7)
    ]
    assert (last["event"], last["for_s"], last["refused"]) == ("the store is back", 65.0, 2600)


def test_one_that_comes_and_goes_is_told_of_every_ten_seconds(told: Told) -> None:
    server = Wire()
    for _ in range(30):
        told.outages.lost(server)
        told.pass_(1, server)
        told.outages.back(server)
    assert [line["event"] for line in told.lines] == ["the store is away", "the store is back"] * (30 // int(EVERY))


def test_one_that_was_never_reached_is_told_of(told: Told) -> None:
    server = Wire()
    server.is_open = False
    assert told.pass_(1, server, missed=1) == ["the store is away"]


def test_refusals_are_told_until_there_are_none(told: Told) -> None:
    server = Wire()
    assert told.pass_(21, server, refused=3) == ["the store refuses commands"] * 3
    assert [(line["refused"], line["reason"]) for line in told.lines] == [(n, "MISCONF disk full") for n in (3, 33, 63)]
    assert told.pass_(QUIET - 1, server) == []
    assert told.pass_(2, server) == ["the store refused nothing for 30 s"]
    assert told.pass_(60, server) == []


def test_a_master_that_was_replaced_and_slots_that_were_moved(told: Told) -> None:
    old, new = Wire(), Wire("redis://b:2/0")
    told.outages.lost(old)
    told.pass_(3, old, missed=5)
    told.outages.replaced(old, new, 341)
    line = told.lines[-1]
    assert line["event"] == "another server has taken over; its users get a new epoch"
    assert (line["store"], line["instead_of"], line["buckets"]) == ("redis://b:2/0", "redis://a:1/0", 341)
    assert (line["for_s"], line["refused"]) == (3.0, 15)
    for _ in range(100):
        told.outages.moved(new, old, 1)
    assert told.pass_(20, old, new) == ["slots were moved; their users get a new epoch"]
    assert told.lines[-1]["buckets"] == 100


async def test_a_server_whose_store_is_gone_says_so_once(serve: Serve, tmp_path: Path) -> None:
    with Master(tmp_path / "master", **EVERYSEC) as master:
        store = await RedisStore.connect(master.url)
        client = await serve(store=store)
        with capture_logs() as lines:
            master.kill()
            for number in range(60):
                body = {"userId": f"u{number}", "event": "greeted"}
                assert (await client.post("/v1/track", json=body)).status_code == 503
                await asyncio.sleep(0.05)
            await asyncio.to_thread(master.start)
            async with asyncio.timeout(5):
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await client.aclose()
        await store.close()
    of_store = [line for line in lines if line.get("store")]
    assert [line["event"] for line in of_store] == [
        "the store is away",
        "the store may have lost what was written last; users get a new epoch",
        "the store is back",
    ]
    assert of_store[-1]["refused"] >= 60
    assert [line["event"] for line in lines if line not in of_store] == []


async def test_a_server_that_takes_no_writes_says_why(tmp_path: Path) -> None:
    with Master(tmp_path / "master", **EVERYSEC) as master:
        store = await RedisStore.connect(master.url)
        master.tell("CONFIG", "SET", "maxmemory", "1")
        with capture_logs() as lines:
            for _ in range(3):
                with suppress(StoreDown):
                    await store.commit(turn())
            store._masters.outages.look(store._masters.servers)
        (line,) = lines
        assert (line["event"], line["refused"]) == ("the store refuses commands", 3)
        assert line["reason"].startswith("OOM ")
        await store.close()
