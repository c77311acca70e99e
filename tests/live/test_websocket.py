"""The live connection over real WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from echoing import HANDSHAKE, TEXT, frame
from handrail.core.events import Track
from handrail.core.state import State
from handrail.edge.frames import frame_text
from handrail.identity import Identity
from handrail.live.visit import UNSETTLED
from handrail.live.websocket import Updates
from handrail.store import Commit, MemoryStore, StoreDown, StoreUnusable
from nodes import Clock, Node, Start, eventually, greet, hear, run_node, say, until

SECRET = "a-secret-that-is-long-enough-for-tests"


async def test_welcome_track_content_and_ack(node: Node) -> None:
    async with node.dial() as client:
        assert client.subprotocol == "handrail.v1"
        welcome = await greet(client, "ada")
        assert (welcome["offset"], welcome["recovered"], welcome["prompts"]) == (0, False, [])
        assert welcome["session"] is None
        await say(client, "track", id="e1", name="greeted", properties={"n": 1})
        content = await hear(client)
        ack = await hear(client)
    assert (content["type"], content["offset"], content["block"]["title"]) == ("content", 1, "Hello 1")
    assert ack == {"type": "ack", "up_to": "e1"}


async def test_the_same_event_twice_is_applied_once_and_acknowledged_twice(node: Node) -> None:
    async with node.dial() as client:
        await greet(client, "ada")
        await say(client, "track", id="e1", name="greeted")
        await hear(client, "ack")
        await say(client, "track", id="e1", name="greeted")
        assert (await hear(client))["type"] == "ack"
    state = await node.runner.read("ada")
    assert state.offset == 1


async def test_every_tab_of_the_user_hears_it_and_nobody_else(node: Node) -> None:
    async with node.dial() as one, node.dial() as two, node.dial() as other:
        await greet(one, "ada", tab="1")
        await greet(two, "ada", tab="2")
        await greet(other, "bob")
        await say(one, "track", id="e1", name="puzzled")
        first, second = await hear(one, "prompt"), await hear(two, "prompt")
        assert first == second
        await say(two, "track", id="e2", name="prompt_dismissed", properties={"prompt": first["id"]})
        assert (await hear(one, "withdraw"))["reason"] == "dismissed"
        await say(other, "ping")
        assert (await hear(other))["type"] == "pong"


async def test_an_event_at_one_process_reaches_a_connection_at_another(start: Start) -> None:
    a, b = await start("t-a"), await start("t-b")
    async with a.dial() as client:
        await greet(client, "ada")
        await until(lambda: bool(a.live.users()))
        for number in range(20):
            await b.runner.submit("ada", Track(id=f"b{number}", name="greeted", at=0, properties={"n": number}))
        heard = [await hear(client, "content") for _ in range(20)]
    assert [message["offset"] for message in heard] == list(range(1, 21))
    assert [message["block"]["title"] for message in heard] == [f"Hello {n}" for n in range(20)]


async def test_resume_replays_what_was_missed_in_order(node: Node) -> None:
    async with node.dial() as client:
        welcome = await greet(client, "ada")
        await say(client, "track", id="e0", name="greeted")
        await hear(client, "content")
    for number in range(1, 400):
        await node.runner.submit("ada", Track(id=f"e{number}", name="greeted", at=0, properties={"n": number}))
    async with node.dial() as client:
        again = await greet(client, "ada", epoch=welcome["epoch"], offset=1)
        assert (again["recovered"], again["offset"], again["slots"], again["flow"]) == (True, 1, {}, None)
        heard = [await hear(client, "content") for _ in range(399)]
    assert [message["offset"] for message in heard] == list(range(2, 401))


async def test_resume_leaves_out_prompts_that_expired(node: Node, clock: Clock) -> None:
    async with node.dial() as client:
        welcome = await greet(client, "ada")
    await node.runner.submit("ada", Track(id="e1", name="hurried", at=clock()))
    await node.runner.submit("ada", Track(id="e2", name="greeted", at=clock()))
    clock.now += 11_000
    async with node.dial() as client:
        again = await greet(client, "ada", epoch=welcome["epoch"], offset=0)
        assert again["recovered"]
        assert (await hear(client))["offset"] == 2


@pytest.mark.parametrize("position", [{"epoch": "other", "offset": 1}, {"offset": 99}, {"offset": 0, "epoch": ""}, {}])
async def test_a_position_that_cannot_be_continued_gets_a_snapshot(node: Node, position: dict[str, Any]) -> None:
    async with node.dial() as client:
        welcome = await greet(client, "ada")
        await say(client, "track", id="e1", name="greeted", properties={"n": 7})
        await hear(client, "ack")
        await say(client, "track", id="e2", name="puzzled")
        prompt = await hear(client, "prompt")
    async with node.dial() as client:
        again = await greet(client, "ada", **{"epoch": welcome["epoch"], **position} if position else {})
    assert (again["recovered"], again["offset"]) == (False, 2)
    assert again["slots"]["top"]["title"] == "Hello 7"
    assert again["prompts"] == [prompt]


BAD: list[tuple[str | bytes, str]] = [
    ("{", "bad-json"),
    ("nul", "bad-json"),
    ("[]", "bad-field"),
    ("{}", "bad-field"),
    ('{"type": "trak", "id": "x"}', "unknown-type"),
    ('{"type": 7}', "bad-field"),
    ('{"type": "track", "id": "x"}', "bad-field"),
    ('{"type": "track", "id": 7, "name": "n"}', "bad-field"),
    ('{"type": "track", "id": "", "name": "n"}', "bad-field"),
    ('{"type": "track", "id": "%s", "name": "n"}' % ("x" * 129), "too-large"),
    ('{"type": "track", "id": "x", "name": "n", "at": "yesterday"}', "bad-time"),
    ('{"type": "track", "id": "x", "name": "n", "at": "2099-01-01T00:00:00Z"}', "far-future"),
    ('{"type": "track", "id": "x", "name": "segment_entered"}', "reserved-name"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"__proto__": 1}}', "bad-field"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": "\\u0000"}}', "bad-field"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": 9007199254740993}}', "too-large"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": NaN}}', "bad-json"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": 1e999}}', "bad-field"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": %s}}' % ("[" * 20 + "]" * 20), "too-large"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": %s}}' % ("[" * 9_000), "too-large"),
    ('{"type": "track", "id": "x", "name": "n", "properties": {"a": "%s"}}' % ("x" * 17_000), "too-large"),
    ('{"type": "activity", "idle_ms": -1}', "bad-field"),
    ('{"type": "consent", "purposes": {"behaviour": "yes"}}', "bad-field"),
    ('{"type": "hello", "user_id": "ada"}', "already-welcomed"),
    (b"\x00\x01", "binary-frame"),
]


async def test_bad_input_gets_an_error_each_and_the_connection_goes_on(node: Node) -> None:
    async with node.dial() as client:
        await say(client, "track", id="early", name="greeted")
        assert (await hear(client))["code"] == "hello-first"
        await client.send('{"type": "hello", "user_id": "a\\u0000b"}')
        assert (await hear(client))["code"] == "bad-user"
        await greet(client, "ada")
        for data, code in BAD:
            await client.send(data)
            error = await hear(client)
            assert (error["type"], error["code"]) == ("error", code), data
            assert error["message"].endswith((".", "?"))
            assert error["fix"].endswith(".")
        await say(client, "track", id="fine", name="greeted")
        assert (await hear(client, "ack"))["up_to"] == "fine"


async def test_errors_say_which_event_and_what_is_near(node: Node) -> None:
    async with node.dial() as client:
        await greet(client, "ada")
        await client.send('{"type": "trak", "id": "e1"}')
        error = await hear(client)
        assert "Did you mean 'track'?" in error["message"]
        assert error["id"] == "e1"
        await say(client, "track", id="e2", name="n", properties={"a": {"b": [1, {"prototype": 1}]}})
        error = await hear(client)
        assert error["message"] == "properties.a.b[1].prototype has a key that is not allowed."
        assert error["id"] == "e2"


async def test_a_message_beyond_the_frame_limit_closes_the_connection(node: Node) -> None:
    async with node.dial() as client:
        await greet(client, "ada")
        await client.send("x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_bad_token_means_stay_away(start: Start, clock: Clock) -> None:
    node = await start("t-a", gate=Identity(clock, secret=SECRET))
    async with node.dial() as client:
        await say(client, "hello", user_id="ada")
        assert (await hear(client))["code"] == "bad-token"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4500


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", "http://127.0.0.1.example"])
async def test_other_origins_are_refused_before_the_handshake(node: Node, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(node.url, origin=origin, proxy=None)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403


async def test_leaving_is_recorded(node: Node) -> None:
    async with node.dial() as client:
        welcome = await greet(client, "ada")
        await say(client, "track", id="e1", name="greeted")
        await hear(client, "ack")
        assert list((await node.runner.read("ada")).connections) == [welcome["connection"]]
        assert await node.store.enlisted("t-a") == ["ada"]
    await until(lambda: not node.live.users())
    await node.runner.drain()
    assert (await node.runner.read("ada")).connections == {}
    await eventually(lambda: node.store.enlisted("t-a"), [])


async def test_who_does_not_say_hello_is_sent_away(node: Node) -> None:
    node.live.websocket = Updates(node.live.desk, hello_within=0.05)
    async with node.dial() as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4003


async def test_what_a_commit_brings_leaves_in_one_write(node: Node) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HANDSHAKE + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame(TEXT, b'{"type":"hello","user_id":"ada"}'))
    assert b'"welcome"' in await reader.read(65_536)
    writer.write(frame(TEXT, b'{"type":"track","id":"e1","name":"greeted"}'))
    told = await reader.read(65_536)
    writer.close()
    assert b'"type":"content"' in told
    assert told.endswith(frame_text(b'{"type":"ack","up_to":"e1"}'))


async def test_somebody_new_is_let_in_by_one_commit(start: Start) -> None:
    node, other = await start("t-a"), await start("t-b")
    async with node.dial() as client:
        welcome = await greet(client, "ada")
        await node.runner.drain()
        state = await node.runner.read("ada")
        assert (state.version, state.epoch, list(state.connections)) == (1, welcome["epoch"], [welcome["connection"]])
        await say(client, "track", id="e1", name="greeted")
        assert [(await hear(client))["type"] for _ in range(2)] == ["content", "ack"]
    await asyncio.gather(*(_meet(where, f"user-{number}") for number in range(20) for where in (node, other)))


async def _meet(node: Node, user: str) -> None:
    """Two processes may meet somebody new at the same moment: both are told the epoch that lasts."""
    async with node.dial() as client:
        welcome = await greet(client, user)
        stored = await node.store.load(user)
        assert stored is not None
        assert stored.epoch == welcome["epoch"]
        await say(client, "track", id=f"e-{node.runner.node}", name="greeted")
        await hear(client, "ack")


class Refusing(MemoryStore):
    async def enlist(self, node: str, user: str) -> None:
        raise StoreUnusable("the store refused a command: NOPERM")


async def test_a_store_that_refuses_has_them_come_back_later(clock: Clock) -> None:
    async with run_node(Refusing(), clock, "t-a") as node, node.dial() as client:
        await say(client, "hello", user_id="ada")
        assert (await hear(client))["code"] == "store-down"
        assert (await hear(client))["code"] == 4004
        with pytest.raises(ConnectionClosed):
            await client.recv()


class Away(MemoryStore):
    away = False

    async def commit(self, commit: Commit) -> bool:
        if self.away:
            raise StoreDown
        return await super().commit(commit)

    async def load(self, user: str) -> State | None:
        if self.away:
            raise StoreDown
        return await super().load(user)


async def test_what_cannot_be_stored_waits_unacknowledged_and_the_connection_stays(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handrail.runner.DEADLINE", 0.1)
    monkeypatch.setattr("handrail.live.visit.AGAIN", (0.01, 0.02))
    store = Away()
    async with run_node(store, clock, "t-a") as node, node.dial() as client:
        await greet(client, "ada")
        await say(client, "track", id="e1", name="greeted")
        await hear(client, "ack")
        store.away = True
        await say(client, "track", id="e2", name="greeted", properties={"n": 2})
        assert (await hear(client, "error", "ack"))["code"] == "store-down"
        await say(client, "track", id="e3", name="greeted", properties={"n": 3})
        await say(client, "ping")
        assert (await hear(client))["type"] == "pong", "the connection is open, nothing is acknowledged"
        assert await store.outbox("ada", 1) == []
        store.away = False
        while (message := await hear(client))["type"] != "ack" or message["up_to"] != "e3":
            assert message["type"] in ("content", "ack")
    titles = [msgspec.json.decode(data)["block"]["title"] for _, data in await store.outbox("ada", 0)]
    assert titles == ["Hello ", "Hello 2", "Hello 3"], "in the order in which they were sent"


async def test_who_sends_more_than_may_wait_is_sent_away(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handrail.runner.DEADLINE", 0.1)
    store = Away()
    async with run_node(store, clock, "t-a") as node, node.dial() as client:
        await greet(client, "ada")
        await node.runner.drain()
        store.away = True
        await say(client, "track", id="first", name="greeted")
        await hear(client, "error")
        for number in range(UNSETTLED):
            await say(client, "track", id=f"e{number}", name="greeted")
        assert (await hear(client, "bye"))["code"] == 4004


async def test_who_says_hello_while_the_store_is_away_is_sent_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handrail.runner.DEADLINE", 0.1)
    store = Away()
    async with run_node(store, clock, "t-a") as node:
        async with node.dial() as client:
            store.away = True
            await say(client, "hello", user_id="ada")
            error, bye = await hear(client), await hear(client)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert (error["code"], bye["code"]) == ("store-down", 4004)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4004
        await until(lambda: not node.live.users())
        store.away = False
        async with node.dial() as client:
            await greet(client, "ada")
            await say(client, "track", id="e2", name="greeted")
            assert (await hear(client, "ack"))["up_to"] == "e2"
            await node.runner.drain()
            await node.live.presence.beat()  # pays the debt of the departure that was not stored
            assert len((await node.runner.read("ada")).connections) == 1


async def test_draining_says_goodbye_and_turns_newcomers_away(node: Node) -> None:
    async with node.dial() as client:
        await greet(client, "ada")
        draining = asyncio.create_task(node.live.drain())
        bye = await hear(client, "bye")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        await draining
    assert bye["code"] == 4001
    assert 0 <= bye["reconnect_ms"] < 2_100
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    with pytest.raises(InvalidStatus) as refused:
        await node.dial()
    assert refused.value.response.status_code == 503
    assert (await node.runner.read("ada")).connections == {}


async def test_a_thousand_events_of_one_connection_are_all_acknowledged(node: Node) -> None:
    async with node.dial() as client:
        await greet(client, "ada")
        for number in range(1_000):
            await say(client, "track", id=f"e{number}", name="greeted", properties={"n": number})
        while (await hear(client, "ack"))["up_to"] != "e999":
            pass
    assert (await node.runner.read("ada")).offset == 1_000


async def test_a_reader_that_takes_nothing_is_cut_and_costs_little(start: Start) -> None:
    node = await start("t-a", stall=0.2)
    async with node.dial(max_queue=1) as client, node.dial() as healthy:
        await greet(client, "ada")
        await greet(healthy, "ada")
        client.transport.pause_reading()
        for begin in range(0, 600, 100):
            events = [
                Track(id=f"e{n}", name="greeted", at=0, properties={"n": f"{n}" + "x" * 8_000})
                for n in range(begin, begin + 100)
            ]
            await asyncio.gather(*(node.runner.submit("ada", event) for event in events))
        for _ in range(600):
            await hear(healthy, "content")
        assert len(node.live.hub.connections()) == 2
        await asyncio.sleep(0.25)
        await node.live.hub.tick()
        await until(lambda: len(node.live.hub.connections()) == 1)
        client.transport.abort()


async def test_the_handshake_tells_of_the_device_and_a_trusted_header_of_the_country(node: Node) -> None:
    agent = "Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X) AppleWebKit/605.1.15 Version/16.5 Mobile/15E148 Safari/604.1"
    headers = {"CF-IPCountry": "DE"}
    async with node.dial(user_agent_header=agent, additional_headers=headers) as client:
        await greet(client, "ada")
        await say(client, "track", id="e1", name="greeted", context={"location": "here", "device": {"type": "ios"}})
        await hear(client, "ack")
    state = await node.runner.read("ada")
    assert (state.location, state.device) == ({}, {"type": "mobile", "os": "iOS"})
    node.live.desk.country_header = "CF-IPCountry"
    async with node.dial(user_agent_header=agent, additional_headers=headers) as client:
        await greet(client, "bob")
        await say(client, "track", id="e1", name="greeted", context={"location": {"city": "Halle"}})
        await hear(client, "ack")
    state = await node.runner.read("bob")
    assert (state.location, state.device["type"]) == ({"city": "Halle"}, "tablet")
