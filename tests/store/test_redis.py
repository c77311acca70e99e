"""What only a store behind a socket can do, or have done to it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from turns import NOW, job, turn

from handrail.store import Bell, BreakerOpen, CorruptState, Embedded, RedisStore, StoreDown, StoreUnusable, launch
from handrail.store.embedded import ask
from handrail.store.heads import Head, mark_of, write_head
from handrail.store.keys import BUCKET_KEYS, bucket_of, user_keys
from handrail.store.pipeline import pack

HEAD = write_head(Head(1, 0, "", mark_of("e")))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Embedded]:
    """A server that the test may harm."""
    with launch(tmp_path / "data") as embedded:
        yield embedded


def path_of(embedded: Embedded) -> Path:
    return Path(unquote(embedded.url.removeprefix("unix://")))


def tell(embedded: Embedded, *command: Any) -> bytes:
    return ask(path_of(embedded), pack(command))


async def until_up(store: RedisStore, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await store.ping()
                return
            except StoreDown:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def between(target: Path, at: Path, swallow: asyncio.Event) -> AsyncIterator[str]:
    """A proxy in front of a server: once `swallow` is set, answers are dropped and then the connection is cut."""
    tasks: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        while data := await reader.read(65536):
            if answers and swallow.is_set():
                break
            writer.write(data)
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_unix_connection(target)
        asking = asyncio.ensure_future(forward(reader, down, False))
        tasks.add(asking)
        await forward(up, writer, True)
        down.transport.abort()

    server = await asyncio.start_unix_server(serve, at)
    async with server:
        yield f"unix://{at}"
    await asyncio.gather(*tasks)


# --- connecting ------------------------------------------------------------------------------------------------------


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(StoreDown, match=r"nothing\.sock cannot be reached"):
        await RedisStore.connect(f"unix://{tmp_path}/nothing.sock")


@pytest.mark.parametrize("url", ["http://localhost", "", "redis"])
async def test_a_url_of_another_kind(url: str) -> None:
    with pytest.raises(StoreUnusable, match="URL"):
        await RedisStore.connect(url)


async def test_another_number_of_buckets_is_refused(store: RedisStore, valkey: Embedded) -> None:
    tell(valkey, "SET", "hr:{nodes}:buckets", 256)
    with pytest.raises(StoreUnusable, match=r"laid out in 256 buckets .* uses 1024"):
        await RedisStore.connect(valkey.url)


async def test_a_password_and_a_database(own: Embedded) -> None:
    tell(own, "ACL", "SETUSER", "handrail", "on", ">s3cret/", "~hr:*", "&hr:*", "+@all")
    store = await RedisStore.connect(f"unix://handrail:s3cret%2F@{path_of(own)}?db=3")
    await store.commit(turn())
    await store.close()
    assert tell(own, "INFO", "keyspace").count(b"db3:keys=3") == 1
    with pytest.raises(StoreDown, match="another password") as refused:
        await RedisStore.connect(f"unix://handrail:wr0ng@{path_of(own)}")
    assert "wr0ng" not in str(refused.value)


async def test_over_tcp(own: Embedded, unused_tcp_port: int) -> None:
    tell(own, "CONFIG", "SET", "bind", "127.0.0.1")
    assert tell(own, "CONFIG", "SET", "port", unused_tcp_port) == b"+OK\r\n"
    store = await RedisStore.connect(f"redis://127.0.0.1:{unused_tcp_port}/0")
    assert await store.commit(turn())
    await store.close()


# --- what lies in it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "blob", [b"", b"garbage", HEAD + b"\x93\x01\x02\x03", HEAD + b"\x80", b"hr2:" + HEAD[4:] + b"\x80", b"\xff" * 80]
)
async def test_garbage_in_place_of_a_state(store: RedisStore, valkey: Embedded, blob: bytes) -> None:
    tell(valkey, "SET", user_keys("ana").state, blob)
    with pytest.raises(CorruptState, match="u:ana:s"):
        await store.load("ana")
    assert await store.commit(turn("ben"))


@pytest.mark.parametrize("name", ["state", "outbox", "seen"])
async def test_a_user_key_of_another_type(store: RedisStore, valkey: Embedded, name: str) -> None:
    await store.commit(turn(version=1, offset=1, frames=1, seen=(("a", NOW),)))
    key = getattr(user_keys("ana"), name)
    tell(valkey, "DEL", key)
    tell(valkey, "LPUSH", key, "x")
    with pytest.raises(CorruptState, match="ana"):
        await store.commit(turn(version=2, offset=2, frames=1, seen=(("b", NOW),)))
    if name != "state":
        assert tell(valkey, "GETRANGE", user_keys("ana").state, 4, 19) == b"$16\r\n0000000000000001\r\n"


@pytest.mark.parametrize("name", ["timers", "hooks", "hookdata", "log"])
async def test_a_bucket_key_of_another_type_tears_nothing(store: RedisStore, valkey: Embedded, name: str) -> None:
    tell(valkey, "SET", getattr(BUCKET_KEYS[bucket_of("ana")], name), "x")
    full = turn(version=1, offset=1, frames=1, alarm=NOW, jobs=(job("j"),), log=(b"{}",), seen=(("a", NOW),))
    with pytest.raises(CorruptState):
        await store.commit(full)
    assert await store.load("ana") is None
    assert await store.outbox("ana", 0) == []
    await store.due(NOW)  # the other buckets are read all the same
    await store.claim_jobs(NOW, 1000)


async def test_webhook_calls_of_one_bucket_that_cannot_be_read_hold_up_no_others(
    store: RedisStore, valkey: Embedded
) -> None:
    for user in ("ana", "bob"):
        assert await store.commit(turn(user, jobs=(job(f"j-{user}", user=user),)))
    key = BUCKET_KEYS[bucket_of("ana")].hookdata
    tell(valkey, "DEL", key)
    tell(valkey, "SET", key, "rubbish")
    assert [each.id for each in await store.claim_jobs(NOW, 1_000)] == ["j-bob"]
    assert store.counts.totals["unreadable.bucket"] == 1


async def test_rubbish_on_the_bell_is_passed_over(store: RedisStore, valkey: Embedded) -> None:
    heard: asyncio.Queue[Bell] = asyncio.Queue()
    store.on_bell(heard.put_nowait)
    store.listen("ana")
    await store.ping()
    for rubbish in (b"", b"\x80\x04cos\nsystem\n", b"\x93\x01\x02\x03", b'["ana",1,"n"]'):
        assert tell(valkey, "SPUBLISH", BUCKET_KEYS[bucket_of("ana")].bell, rubbish) == b":1\r\n"
    await store.commit(turn(version=1, offset=1, frames=1))
    async with asyncio.timeout(5):
        assert await heard.get() == Bell("ana", 1, "n1", "e1")


async def test_an_outbox_whose_state_was_lost_does_not_come_back(store: RedisStore, valkey: Embedded) -> None:
    await store.commit(turn(version=1, offset=5, frames=5, seen=(("a", NOW),)))
    tell(valkey, "DEL", user_keys("ana").state)
    assert await store.commit(turn(version=1, offset=1, frames=1))
    assert await store.outbox("ana", 0) == [(1, b'{"type":"content","offset":1}')]


async def test_an_outbox_ages(store: RedisStore, valkey: Embedded) -> None:
    await store.commit(turn(version=1, offset=1, frames=1, seen=(("a", NOW),)))
    for key in (user_keys("ana").outbox, user_keys("ana").seen):
        left = int(tell(valkey, "PTTL", key)[1:])
        assert 23 * 3_600_000 < left <= 24 * 3_600_000
        tell(valkey, "DEL", key)
    assert await store.commit(turn(version=2, offset=2, frames=1))
    assert await store.outbox("ana", 0) == [(2, b'{"type":"content","offset":2}')]


async def test_all_that_a_commit_touches_lies_in_one_slot(store: RedisStore, valkey: Embedded) -> None:
    full = turn(version=1, offset=1, frames=1, alarm=NOW, jobs=(job("j"),), log=(b"{}",), seen=(("a", NOW),))
    await store.commit(full)
    listed = {key for key in ask(path_of(valkey), b"KEYS *\r\n").split(b"\r\n") if key.startswith(b"hr:")}
    tags = {key.partition(b"{")[2].partition(b"}")[0] for key in listed}
    assert tags <= {b"b%04d" % bucket_of("ana"), b"nodes"}


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_forgot_the_scripts_is_told_again(store: RedisStore, valkey: Embedded) -> None:
    await store.commit(turn(version=1, jobs=(job("j"),)))
    assert tell(valkey, "SCRIPT", "FLUSH") == b"+OK\r\n"
    assert await store.commit(turn(version=2))
    tell(valkey, "SCRIPT", "FLUSH")
    [claimed] = await store.claim_jobs(NOW, 1000)
    tell(valkey, "SCRIPT", "FLUSH")
    await store.finish_job(claimed)


async def test_a_hung_server_fails_fast_and_is_found_again(own: Embedded) -> None:
    store = await RedisStore.connect(own.url)
    await store.commit(turn())
    os.kill(own.pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            start = time.monotonic()
            calls = [store.load("ana"), store.commit(turn(version=2)), store.ping(), store.due(NOW)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - start <= 1.5
            assert all(isinstance(result, StoreDown) for result in results)
    finally:
        os.kill(own.pid, signal.SIGCONT)
    await until_up(store, 2.0)
    loaded = await store.load("ana")
    assert loaded is not None
    await store.close()


async def test_the_breaker_opens_while_a_server_hangs_and_closes_by_itself(own: Embedded) -> None:
    store = await RedisStore.connect(own.url)
    os.kill(own.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(6):
            while not isinstance(await fault_of(store.ping()), BreakerOpen):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        start = time.monotonic()
        for _ in range(50):
            assert isinstance(await fault_of(store.load("ana")), BreakerOpen)
        assert time.monotonic() - start < 0.5
    finally:
        os.kill(own.pid, signal.SIGCONT)
    async with asyncio.timeout(2):
        while not store._masters.servers[0].is_open:  # noqa: ASYNC110 - nobody asks for anything
            await asyncio.sleep(0.01)
    assert await store.load("ana") is None
    await store.close()


async def test_a_pause_that_ends_a_little_early_is_not_the_last(own: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """As uvloop has it, which counts whole milliseconds; with the breaker open nobody else wakes the connection."""
    loop = asyncio.get_running_loop()
    exactly = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda wait, *call, **more: exactly(max(wait - 0.01, 0), *call, **more))
    store = await RedisStore.connect(own.url)
    os.kill(own.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(6):
            while not isinstance(await fault_of(store.ping()), BreakerOpen):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(2.5)  # some tries of its own, each of which has to be followed by another
    finally:
        os.kill(own.pid, signal.SIGCONT)
    async with asyncio.timeout(2.5):
        while not store._masters.servers[0].is_open:  # noqa: ASYNC110 - nobody asks for anything
            await asyncio.sleep(0.01)
    await store.close()


async def fault_of(asked: Awaitable[object]) -> StoreDown | None:
    try:
        await asked
    except StoreDown as fault:
        return fault
    return None


async def test_what_was_committed_survives_kill_9(own: Embedded) -> None:
    store = await RedisStore.connect(own.url)
    for version in range(1, 51):
        assert await store.commit(turn(version=version, offset=version, frames=1, alarm=NOW + version))
    killed = own.pid
    os.kill(killed, signal.SIGKILL)
    await until_up(store)
    assert own.pid != killed
    loaded = await store.load("ana")
    assert loaded is not None
    assert (loaded.version, loaded.offset) == (50, 50)
    assert len(await store.outbox("ana", 0)) == 50
    assert await store.due(NOW + 100) == [(NOW + 50, "ana")]
    assert await store.commit(turn(version=51, offset=50))
    await store.close()


async def test_bells_ring_again_after_the_connection_was_lost(own: Embedded) -> None:
    store, other = await RedisStore.connect(own.url), await RedisStore.connect(own.url)
    heard: asyncio.Queue[Bell] = asyncio.Queue()
    back = asyncio.Event()
    store.on_bell(heard.put_nowait)
    store.on_reconnect(back.set)
    store.listen("ana")
    await store.ping()
    assert not back.is_set()
    assert tell(own, "CLIENT", "KILL", "TYPE", "pubsub") == b":1\r\n"
    async with asyncio.timeout(2):
        await back.wait()
    await store.ping()
    await other.commit(turn(version=1, offset=1, frames=1))
    async with asyncio.timeout(2):
        assert await heard.get() == Bell("ana", 1, "n1", "e1")
    await store.close()
    await other.close()


async def test_a_lost_answer_is_not_sent_again(valkey: Embedded, store: RedisStore, tmp_path: Path) -> None:
    swallow = asyncio.Event()
    async with between(path_of(valkey), tmp_path / "p.sock", swallow) as url:
        far = await RedisStore.connect(url)
        assert await far.commit(turn(version=1))
        swallow.set()
        with pytest.raises(StoreDown):
            await far.commit(turn(version=2, offset=1, frames=1, seen=(("a", NOW),)))
        swallow.clear()
        loaded = await far.load("ana")
        assert loaded is not None
        assert (loaded.version, loaded.seen) == (2, {"a": NOW})  # it did happen, and the ids tell
        assert not await far.commit(turn(version=2, offset=1, frames=1, seen=(("a", NOW),)))
        await far.close()
    assert len(await store.outbox("ana", 0)) == 1


async def test_a_commit_sent_again_after_a_lost_answer_has_its_answer(
    valkey: Embedded, store: RedisStore, tmp_path: Path
) -> None:
    lost = 40
    swallow = asyncio.Event()
    async with between(path_of(valkey), tmp_path / "p.sock", swallow) as url:
        far = await RedisStore.connect(url)
        for version in range(1, lost + 1):
            ops = [f"{number:016x}" if number else "" for number in (version - 1, version)]
            commit = turn(version=version, offset=version, frames=1, base=ops[0], op=ops[1])
            swallow.set()
            with pytest.raises(StoreDown):
                await far.commit(commit)
            swallow.clear()
            await until_up(far)
            assert await far.commit(commit)
        await far.close()
    assert [offset for offset, _ in await store.outbox("ana", 0)] == list(range(1, lost + 1))


async def test_an_answer_that_is_not_the_protocol(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(babble, tmp_path / "web.sock"):
        with pytest.raises(StoreDown, match="not its protocol"):
            await RedisStore.connect(f"unix://{tmp_path}/web.sock")


async def test_a_full_server_refuses_whole_commits(own: Embedded) -> None:
    store = await RedisStore.connect(own.url)
    await store.commit(turn(version=1))
    tell(own, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreDown, match="OOM"):
        await store.commit(turn(version=2, offset=1, frames=1, alarm=NOW))
    tell(own, "CONFIG", "SET", "maxmemory", "0")
    assert await store.outbox("ana", 0) == []
    assert await store.due(NOW) == []
    assert await store.commit(turn(version=2, offset=1, frames=1))
    await store.close()


async def test_closing_fails_those_who_wait(own: Embedded) -> None:
    store = await RedisStore.connect(own.url)
    waiting = asyncio.ensure_future(store.load("ana"))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreDown, match="closed"):
        await waiting
    with pytest.raises(StoreDown):
        await store.ping()


async def test_no_commit_is_lost_or_torn_when_the_server_is_killed_under_load(own: Embedded) -> None:
    store = await RedisStore.connect(own.url)
    stop = asyncio.Event()
    unsure = 0

    async def commit_on(user: str) -> None:
        nonlocal unsure
        version = 0
        while not stop.is_set():
            more = {"alarm": NOW + version, "seen": ((f"e{version + 1}", NOW),)}
            try:
                assert await store.commit(turn(user, version=version + 1, offset=version + 1, frames=1, **more))
                version += 1
            except StoreDown:
                unsure += 1
                await until_up(store)
                loaded = await store.load(user)
                stored = loaded.version if loaded else 0
                assert stored in (version, version + 1), "an answered commit is gone"
                version = stored
        loaded = await store.load(user)
        assert loaded is not None
        assert (loaded.version, loaded.offset, len(loaded.seen)) == (version, version, min(version, 2_000))
        assert (await store.outbox(user, version - 1))[0][0] == version
        assert (NOW + version - 1, user) in await store.due(NOW + version, [bucket_of(user)])

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for n in range(20):
            group.create_task(commit_on(f"user-{n}"))
        for _ in range(4):
            await asyncio.sleep(0.1)  # some load, not a deadline
            os.kill(own.pid, signal.SIGKILL)
            await until_up(store)
        stop.set()
    assert unsure
    await store.close()
