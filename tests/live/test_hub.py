"""What can go wrong between a commit and a page: lost bells, lost data, old positions, readers that fall behind."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection

from handrail.core.events import Track
from handrail.core.frames import Prompt, encode
from handrail.live.hub import CHECK_EVERY, expired
from handrail.store import Commit, Embedded, MemoryStore
from handrail.store.embedded import ask
from handrail.store.keys import user_keys
from nodes import Clock, Node, Start, eventually, greet, hear, run_node, say, until


async def track(node: Node, name: str, *numbers: int, padding: str = "") -> None:
    for begin in range(0, len(numbers), 100):
        events = [
            Track(id=f"{name}-{n}", name=name, at=0, properties={"n": f"{n}{padding}"})
            for n in numbers[begin : begin + 100]
        ]
        await asyncio.gather(*(node.runner.submit("ada", event) for event in events))


async def test_a_lost_bell_is_made_up_for_within_a_few_ticks(start: Start) -> None:
    a, b = await start("t-a"), await start("t-b")
    await b.live.presence.beat()
    await a.live.presence.beat()
    async with a.dial() as client:
        await greet(client, "ada")
        await a.runner.drain()
        a.store.unlisten("ada")  # from here on it is deaf
        await asyncio.sleep(0.05)
        await track(b, "greeted", 1, 2)
        for _ in range(CHECK_EVERY):
            await a.live.hub.tick()
        assert [(await hear(client, "content"))["offset"] for _ in range(2)] == [1, 2]
        a.store.listen("ada")


async def test_a_single_process_does_not_compare_positions(node: Node) -> None:
    await node.live.presence.beat()
    asked: list[Any] = []
    position = node.store.position
    node.store.position = lambda *given: asked.append(given) or position(*given)  # type: ignore[method-assign, func-returns-value]
    async with node.dial() as client:
        await greet(client, "ada")
        await node.runner.drain()
        for _ in range(CHECK_EVERY):
            await node.live.hub.tick()
    assert asked == []


async def test_an_epoch_that_changed_unheard_is_noticed_though_the_offset_is_the_same(start: Start) -> None:
    a, b = await start("t-a"), await start("t-b")
    async with a.dial() as client:
        first = await greet(client, "ada")
        await a.runner.drain()
        state = await b.store.load("ada")
        assert state is not None
        other = replace(state, version=state.version + 1, epoch="another")
        await b.store.commit(Commit(state=other, expected=state.version, base=state.op, op="0" * 15 + "1"))
        a.live.hub._check_all = True
        await a.live.hub.tick()
        again = await hear(client, "welcome")
        assert (again["epoch"], again["offset"], again["recovered"]) == ("another", first["offset"], False)


async def test_after_reconnecting_to_the_store_positions_are_compared(start: Start, valkey: Embedded) -> None:
    a, b = await start("t-a"), await start("t-b")
    async with a.dial() as client:
        await greet(client, "ada")
        await a.runner.drain()
        ask(_socket(valkey), b"CLIENT KILL TYPE pubsub\r\n")
        await track(b, "greeted", 1)
        async with asyncio.timeout(5):
            while True:
                await a.live.hub.tick()
                try:
                    async with asyncio.timeout(0.05):
                        message = await hear(client, "content")
                        break
                except TimeoutError:
                    continue
        assert message["offset"] == 1


async def test_lost_data_are_told_by_a_second_welcome(node: Node, valkey: Embedded) -> None:
    async with node.dial() as client:
        first = await greet(client, "ada")
        await track(node, "greeted", 1)
        await hear(client, "content")
        ask(_socket(valkey), b"FLUSHALL\r\n")
        await track(node, "puzzled", 2)
        second = await hear(client)
        assert (second["type"], second["recovered"], second["offset"]) == ("welcome", False, 1)
        assert second["epoch"] != first["epoch"]
        assert second["slots"] == {}
        assert [prompt["message"] for prompt in second["prompts"]] == ["help"]
        await track(node, "greeted", 3)
        assert (await hear(client))["offset"] == 2


async def test_data_that_vanish_while_nothing_happens_are_told_to_everybody(start: Start, valkey: Embedded) -> None:
    a, b = await start("t-a"), await start("t-b")
    async with a.dial() as one, b.dial() as two:
        first = await greet(one, "ada")
        await a.runner.drain()
        await greet(two, "ada")
        await track(a, "greeted", 1)
        assert (await hear(one, "content"))["offset"] == (await hear(two, "content"))["offset"] == 1
        ask(_socket(valkey), b"FLUSHALL\r\n")
        welcomes = [await _welcomed_again(a, one), await _welcomed_again(b, two)]
        assert [(welcome["recovered"], welcome["slots"]) for welcome in welcomes] == [(False, {}), (False, {})]
        connections = [connection for node in (a, b) for connection in node.live.hub.connections()]
        await eventually(lambda: _present(a), {connection.id for connection in connections})
        for node in (a, b):  # so that others find them should this process die
            await eventually(partial(node.store.enlisted, node.runner.node), ["ada"])
        stored = await b.store.load("ada")
        assert stored is not None
        assert stored.epoch != first["epoch"]
        await until(lambda: {connection.epoch for connection in connections} == {stored.epoch})


async def _present(node: Node) -> set[str]:
    """The connections that the store knows of."""
    state = await node.store.load("ada")
    return set() if state is None else set(state.connections)


async def test_the_same_data_in_another_history_are_shown_in_a_new_epoch_that_the_store_has(
    clock: Clock, memory_store: MemoryStore
) -> None:
    other = MemoryStore(memory_store.shelf)
    async with run_node(memory_store, clock, "t-a") as a, run_node(other, clock, "t-b") as b:
        async with a.dial() as one, b.dial() as two:
            first = await greet(one, "ada")
            await a.runner.drain()
            await greet(two, "ada")
            await track(a, "greeted", 1)
            await hear(one, "content")
            await hear(two, "content")
            memory_store.shelf.lineage = "another"
            a.live.hub._reconnected()
            b.live.hub._reconnected()
            welcomes = [await _welcomed_again(a, one), await _welcomed_again(b, two)]
        async with a.dial() as again:
            resumed = await greet(again, "ada", epoch=first["epoch"], offset=1)
        stored = await memory_store.load("ada")
    assert stored is not None
    assert {welcome["epoch"] for welcome in (*welcomes, resumed)} == {stored.epoch}
    assert stored.epoch != first["epoch"]
    assert [welcome["recovered"] for welcome in (*welcomes, resumed)] == [False] * 3
    assert all(welcome["slots"]["top"]["title"] == "Hello 1" for welcome in welcomes)


async def _welcomed_again(node: Node, client: ClientConnection) -> dict[str, Any]:
    """The next welcome, with the watching done by hand."""
    heard = asyncio.ensure_future(hear(client, "welcome"))
    while not heard.done():
        await node.live.hub.tick()
        await asyncio.wait([heard], timeout=0.05)
    return heard.result()


async def test_a_position_older_than_what_is_kept_gets_a_snapshot(node: Node) -> None:
    async with node.dial() as client:
        first = await greet(client, "ada")
    await track(node, "greeted", *range(1_500))
    async with node.dial() as client:
        again = await greet(client, "ada", epoch=first["epoch"], offset=1)
    assert (again["recovered"], again["offset"]) == (False, 1_500)
    assert again["slots"]["top"]["title"] == "Hello 1499"


async def test_a_reader_that_fell_behind_reads_on_from_the_store_and_misses_nothing(node: Node) -> None:
    async with node.dial(max_queue=1) as client:
        await greet(client, "ada")
        client.transport.pause_reading()
        await track(node, "greeted", *range(800), padding="x" * 4_000)
        (connection,) = node.live.hub.connections()
        assert connection.stale
        assert sum(len(out.data) for out in connection._pending) < 2 * 64 * 1024
        client.transport.resume_reading()
        offsets = [(await hear(client, "content"))["offset"] for _ in range(800)]
    assert offsets == list(range(1, 801))


async def test_a_reader_that_fell_behind_what_is_kept_gets_a_snapshot(node: Node) -> None:
    async with node.dial(max_queue=1) as client:
        await greet(client, "ada")
        client.transport.pause_reading()
        await track(node, "greeted", *range(1_600), padding="x" * 4_000)
        client.transport.resume_reading()
        last, welcomes = 0, 0
        while last < 1_600:
            message = await hear(client, "content", "welcome")
            assert message["type"] == "welcome" or message["offset"] == last + 1
            welcomes += message["type"] == "welcome"
            last = message["offset"]
    assert welcomes == 1


async def test_leaving_the_last_connection_stops_listening(node: Node) -> None:
    async with node.dial() as one, node.dial() as two:
        await greet(one, "ada")
        await greet(two, "ada")
        await two.close()
        await eventually(lambda: _connections(node), 1)
        assert await node.store.enlisted("t-a") == ["ada"]
        await say(one, "track", id="e", name="greeted")
        await hear(one, "ack")
    await eventually(lambda: node.store.enlisted("t-a"), [])
    assert not node.live.hub.has("ada")


async def test_many_users_come_and_go_at_once(start: Start) -> None:
    nodes = [await start("t-a"), await start("t-b")]

    async def visit(number: int) -> None:
        async with nodes[number % 2].dial() as client:
            await greet(client, f"user-{number % 10}")
            await say(client, "track", id=f"e{number}", name="greeted", properties={"n": number})
            while (await hear(client, "ack"))["up_to"] != f"e{number}":
                pass

    await asyncio.gather(*(visit(number) for number in range(100)))
    for node in nodes:
        await eventually(lambda node=node: node.store.enlisted(node.runner.node), [])  # type: ignore[misc]
        await node.runner.drain()
    for user in range(10):
        state = await nodes[0].runner.read(f"user-{user}")
        assert state.connections == {}
        assert state.offset == 10


async def _connections(node: Node) -> int:
    return len(node.live.hub.connections())


def _socket(valkey: Embedded) -> Path:
    return Path(valkey.url.removeprefix("unix://"))


@pytest.mark.parametrize(
    ("until", "over"), [(None, False), ("2027-01-15T08:00:00.001Z", False), ("2027-01-15T08:00:00.000Z", True)]
)
def test_prompts_expire(until: str | None, over: bool) -> None:
    prompt = Prompt(offset=1, id="p", message="m", kind="modal", expires_at=until)
    assert expired(encode(prompt), Clock().now) is over
    assert not expired(b'{"type":"withdraw"}', Clock().now)


@pytest.mark.parametrize("more", [b"", b',"expires_at":"soon"', b',"expires_at":7'])
async def test_a_prompt_that_is_none_is_an_end_that_is_told(start: Start, more: bytes) -> None:
    node = await start("t-a")
    async with node.dial() as client:
        await greet(client, "ada")
        await node.runner.drain()
        [connection] = node.live.hub.connections()
        whole = encode(Prompt(offset=1, id="p", message="help", kind="modal", title="", body="", trigger="t"))
        less = whole.replace(b',"expires_at":null', b"")[:-1]
        forged = less + more + b"}" if more else b'{"type":"prompt","offset":1}'
        key = user_keys("ada").outbox
        await node.store._ask(key, "XADD", key, "1-0", "m", forged)  # type: ignore[attr-defined]
        connection.stale = True
        node.live.hub.greeted(connection)
        assert (await hear(client, "error"))["code"] == "corrupt-state"
