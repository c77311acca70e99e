"""F33 and F28, live: what kills processes is set aside after three tries, what cannot be read is its owner's alone."""

from __future__ import annotations

import asyncio
import pickle
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import msgspec
import pytest
from crashing import DEADLY
from fleet import fleet, tell
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from handrail.guard import TRIES
from handrail.live.connection import CORRUPT_STATE
from handrail.store import Embedded, RedisStore, launch
from handrail.store.embedded import ask
from handrail.store.keys import BUCKET_KEYS, bucket_of, user_keys
from nodes import Start, greet, say
from servers import Serve


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_f33_an_event_that_kills_is_set_aside_after_three_tries(tmp_path: Path, workers: int) -> None:
    with launch(tmp_path / "store") as store, fleet(tmp_path, store.url, workers) as servers:
        assert servers.post("bea", "greeted", "b1")
        began = time.monotonic()
        taken = servers.post("ada", DEADLY, "poison")
        seconds = round(time.monotonic() - began, 1)
        others = [servers.post(user, "greeted", f"{user}-2") for user in ("ada", "bea", "cleo")]
        again = servers.post("ada", DEADLY, "poison")
        entries, deaths = servers.quarantine(), servers.deaths
        tell(
            {"fault": "F33", "workers": workers, "deaths": deaths, "set_aside": len(entries), "taken_after_s": seconds}
        )
        assert (taken, deaths, again, others) == (True, TRIES, True, [True] * 3)
        assert [(entry["user"], entry["kind"], entry["id"]) for entry in entries] == [("ada", "track", "poison")]
        assert "a process died" in entries[0]["reason"]
        assert servers.ends == TRIES or workers > 1


def test_f33_an_alarm_that_kills_is_set_aside_after_three_tries(tmp_path: Path) -> None:
    with launch(tmp_path / "store") as store, fleet(tmp_path, store.url, 1) as servers:
        assert servers.post(DEADLY, "begun", "e1")
        entries = servers.quarantine()
        tell({"fault": "F33", "what": "alarm", "deaths": servers.deaths, "set_aside": len(entries)})
        assert (servers.ends, servers.deaths, [entry["kind"] for entry in entries]) == (TRIES, TRIES, ["alarm"])
        assert servers.post("bea", "greeted", "b1")
        assert servers.ends == TRIES


GARBAGE = {
    "bad bytes": b"\xff\x00\xfe" * 20,
    "pickle": pickle.dumps({"user": "ada"}),
    "JSON": b"%032d" % 1 + b'{"user": "ada"}',
    "another version in front": None,
    "empty": b"",
}


def tell_store(valkey: Embedded, *words: bytes) -> bytes:
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return ask(Path(valkey.url.removeprefix("unix://")), command)


def spoil(valkey: Embedded, user: str, how: bytes | None) -> None:
    key = user_keys(user).state
    if how is None:
        tell_store(valkey, b"SETRANGE", key, b"0", b"%016d" % 77)
    else:
        tell_store(valkey, b"SET", key, how)


@pytest.mark.parametrize("how", GARBAGE.values(), ids=GARBAGE)
async def test_f28_what_cannot_be_read_is_its_owners_alone(serve: Serve, valkey: Embedded, how: bytes | None) -> None:
    client = await serve()
    await track(client, "ada")
    spoil(valkey, "ada", how)
    client = await serve()  # which does not have the state in memory
    for _ in range(3):
        answer = await client.post("/v1/track", json={"userId": "ada", "event": "greeted"})
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:handrail:problem:corrupt-state")
    batch = [{"type": "track", "userId": user, "event": "greeted"} for user in ("ada", "bea")]
    mixed = (await client.post("/v1/batch", json={"batch": batch})).json()
    assert [(error["index"], error["code"]) for error in mixed["errors"]] == [(0, "corrupt-state")]
    assert (await client.get("/api/users/ada/explain/greet")).status_code == 500
    (entry,) = (await client.get("/api/quarantine")).json()["entries"]
    assert (entry["user"], entry["kind"]) == ("ada", "state")
    assert user_keys("ada").state.decode() in entry["reason"]
    tell_store(valkey, b"DEL", user_keys("ada").state)  # how the operator mends it
    await track(client, "ada")
    assert (await client.get("/readyz")).status_code == 200


async def track(client: httpx2.AsyncClient, user: str) -> None:
    assert (await client.post("/v1/track", json={"userId": user, "event": "greeted"})).status_code == 200


async def test_f28_a_page_of_such_a_user_is_told_and_sent_away(start: Start, valkey: Embedded) -> None:
    node = await start()
    tell_store(valkey, b"SET", user_keys("ada").state, pickle.dumps([1]))
    async with node.dial() as client:
        await say(client, "hello", user_id="ada")
        assert msgspec.json.decode(await client.recv())["code"] == "corrupt-state"
        assert await last_code(client) == CORRUPT_STATE
    async with node.dial() as client:
        await greet(client, "bea")


async def last_code(client: ClientConnection) -> int | None:
    """How the connection is closed, after whatever still comes."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(30):
            while True:
                await client.recv()
    return client.close_code


OUTBOXES: dict[str, tuple[bytes, ...]] = {
    "wrong type": (b"SET", b"x"),
    "no message": (b"XADD", b"1-0", b"m", b"\x80\x04pickle"),
    "in another's place": (b"XADD", b"1-0", b"m", b'{"type":"content","offset":9}'),
}


@pytest.mark.parametrize("words", OUTBOXES.values(), ids=OUTBOXES)
async def test_f28_an_outbox_that_cannot_be_read_ends_its_owners_connections_only(
    start: Start, valkey: Embedded, words: tuple[bytes, ...]
) -> None:
    node, other = await start("t-a"), await start("t-b")
    async with node.dial() as client, other.dial() as elsewhere, other.dial() as bystander:
        await greet(client, "ada")
        await greet(elsewhere, "ada")
        await greet(bystander, "bea")
        await say(client, "track", id="e1", name="greeted")
        async with asyncio.timeout(5):
            while b"e1" not in await client.recv(decode=False):
                pass
        key = user_keys("ada").outbox
        tell_store(valkey, b"DEL", key)
        tell_store(valkey, words[0], key, *words[1:])
        (page,) = [each for each in other.live.hub.connections() if each.user == "ada"]
        async with asyncio.timeout(10):
            while not page.closing:  # it may be reading still what was there before
                page.stale, page.cursor = True, 0
                other.live.hub._check_all = True
                await other.live.hub.tick()
                await asyncio.sleep(0.02)
        assert await last_code(elsewhere) == CORRUPT_STATE
        await say(bystander, "ping")
        assert msgspec.json.decode(await bystander.recv())["type"] == "pong"
    assert other.runner.counts.totals["set_aside.state"] == 1


async def test_f28_lists_are_read_around_what_is_none_of_ours(store: RedisStore, valkey: Embedded) -> None:
    bucket = BUCKET_KEYS[bucket_of("ada")]
    for name in (b"\xff\xfe", b"of another bucket"):
        tell_store(valkey, b"ZADD", bucket.timers, b"1", name)
    tell_store(valkey, b"ZADD", bucket.timers, b"inf", b"ada", b"2", b"ada")
    for line in (b"{", b"[1]", b"\x80\x04pickle"):
        tell_store(valkey, b"XADD", bucket.log, b"*", b"user", b"ada", b"at", b"5", b"line", line)
    tell_store(valkey, b"XADD", bucket.log, b"*", b"other", b"fields")
    tell_store(valkey, b"XADD", bucket.log, b"*", b"user", b"ada", b"at", b"5", b"line", b'{"n":1}')
    tell_store(valkey, b"HSET", bucket.hookdata, b"j", b"0000\x80\x04pickle")
    tell_store(valkey, b"ZADD", bucket.hooks, b"1", b"j")
    assert await store.due(10) == [(2, "ada")]
    assert [line async for line in store.follow("ada", 0, live=False)] == [{"n": 1}]
    assert await store.claim_jobs(10, 1_000) == []
    tell({"fault": "F28", "kinds": len(GARBAGE) + len(OUTBOXES) + len(store.counts.totals), "crashes": 0})
    assert store.counts.totals == {"unreadable.timer": 2, "unreadable.line": 4, "unreadable.job": 1}
