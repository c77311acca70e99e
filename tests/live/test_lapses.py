"""Tokens that are renewed, expire or are revoked while connections are open."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bearers import SECRET, token
from handrail.core.events import Revoke
from handrail.identity import Identity
from handrail.live.connection import BAD_TOKEN
from handrail.store import StoreDown
from handrail.store.keys import user_keys
from handrail.web.admin import revoke
from nodes import Clock, Node, Start, eventually, hear, say, until
from test_app import events
from test_app import until as heard


@pytest.fixture
async def node(start: Start, clock: Clock) -> Node:
    return await start("t-a", gate=Identity(clock, secret=SECRET))


def page(node: Node) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{node.port}", trust_env=False)


async def enter(client: ClientConnection, clock: Clock, user: str = "ada", **claims: Any) -> dict[str, Any]:
    await say(client, "hello", token=token(user, now=clock(), **claims))
    return await hear(client, "welcome")


async def consume(client: ClientConnection) -> None:
    async with asyncio.timeout(5):
        while True:
            await client.recv()


async def close_code(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        await consume(client)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def test_the_welcome_says_how_long_the_token_is_good(node: Node, clock: Clock) -> None:
    async with node.dial() as client:
        assert (await enter(client, clock))["token_expires_in"] == 600


async def test_without_tokens_nothing_expires(start: Start, clock: Clock) -> None:
    node = await start("t-a")
    async with node.dial() as client:
        await say(client, "hello", user_id="ada")
        assert (await hear(client))["token_expires_in"] is None
        clock.now += 10**9
        node.live.lapses.close_expired()
        await say(client, "token", token="whatever")
        assert await hear(client) == {"type": "renewed", "token_expires_in": None}


async def test_a_connection_ends_a_while_after_its_token(node: Node, clock: Clock) -> None:
    async with node.dial() as client, node.dial() as renewed:
        await enter(client, clock)
        await enter(renewed, clock)
        clock.now += 600_000 + 29_000
        node.live.lapses.close_expired()
        await say(client, "ping")
        assert (await hear(client))["type"] == "pong"
        await say(renewed, "token", token=token("ada", now=clock()))
        assert await hear(renewed) == {"type": "renewed", "token_expires_in": 600}
        clock.now += 1_000
        node.live.lapses.close_expired()
        assert [(await hear(client))["type"] for _ in range(2)] == ["error", "bye"]
        assert await close_code(client) == BAD_TOKEN
        await say(renewed, "ping")
        assert await hear(renewed, "pong")


async def test_what_is_said_with_a_token_that_is_over_is_not_taken(node: Node, clock: Clock) -> None:
    async with node.dial() as client:
        await enter(client, clock)
        clock.now += 630_000
        await say(client, "track", id="e1", name="greeted")
        assert (await hear(client))["code"] == "token-expired"
        assert await close_code(client) == BAD_TOKEN
    assert "e1" not in (await node.runner.read("ada")).seen


@pytest.mark.parametrize(
    "bad", [{"user": "bob"}, {"anonymous": True}, {"secret": SECRET[::-1]}, {"exp": 1}, {"exp": "soon"}]
)
async def test_a_newer_token_that_is_refused_ends_nothing(node: Node, clock: Clock, bad: dict[str, Any]) -> None:
    async with node.dial() as client:
        await enter(client, clock)
        await say(client, "token", token=token(**{"user": "ada", "now": clock(), **bad}))
        assert (await hear(client))["code"] == "token-refused"
        await say(client, "track", id="e1", name="looked")
        assert (await hear(client, "ack"))["up_to"] == "e1"
        clock.now += 630_000
        node.live.lapses.close_expired()
        assert await close_code(client) == BAD_TOKEN


async def test_revoking_ends_what_the_user_has_open_everywhere_and_nobody_elses(start: Start, clock: Clock) -> None:
    gate = Identity(clock, secret=SECRET)
    here, there = await start("t-a", gate=gate), await start("t-b", gate=gate)
    shown = token("ada", now=clock())
    async with here.dial() as near, there.dial() as far, there.dial() as other:
        await enter(near, clock)
        await enter(far, clock)
        await enter(other, clock, "bob")
        async with page(there) as client, events(client, f"/updates/sse?token={shown}") as stream:
            await heard(stream, "welcome")
            clock.now += 5_000
            await revoke(here.runner, "ada")
            assert await close_code(near) == BAD_TOKEN
            await there.live.lapses.learn()
            assert await close_code(far) == BAD_TOKEN
            assert (await heard(stream, "error"))["code"] == "token-revoked"
            assert (await heard(stream, "bye"))["code"] == BAD_TOKEN
        await say(other, "ping")
        assert (await hear(other))["type"] == "pong"
        for node in (here, there):
            async with page(node) as client, node.dial() as again:
                assert (await client.get(f"/updates/sse?token={shown}")).status_code == 401
                await say(again, "hello", token=shown)
                assert (await hear(again))["code"] == "token-revoked"
                assert await close_code(again) == BAD_TOKEN
            clock.now += 1_000
            async with node.dial() as again:
                assert (await enter(again, clock))["type"] == "welcome"
        await until(lambda: here.live.users() == [] and there.live.users() == ["bob"])
        await eventually(lambda: here.store.enlisted("t-a"), [])


async def test_an_old_token_cannot_renew_and_an_old_socket_cannot_send(node: Node, clock: Clock) -> None:
    old = token("ada", now=clock())
    clock.now += 5_000
    async with node.dial() as client:
        await enter(client, clock)
        connection = node.live.hub.connections_of("ada")[0]
        await node.runner.submit("ada", Revoke(at=clock() - 2_000))
        await say(client, "token", token=old)
        assert (await hear(client))["code"] == "token-refused"
        connection.issued = clock() - 3_000  # as if the process had not looked yet
        await say(client, "track", id="e1", name="greeted")
        assert (await hear(client))["code"] == "token-revoked"
        assert await close_code(client) == BAD_TOKEN
    assert "e1" not in (await node.runner.read("ada")).seen


async def test_a_revocation_is_looked_at_again_when_the_store_was_away(
    node: Node, start: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await start("t-b")
    async with node.dial() as client:
        await enter(client, clock)
        await revoke(other.runner, "ada")

        async def away(_user: str) -> None:
            raise StoreDown

        with monkeypatch.context() as broken:
            broken.setattr(node.runner, "read", away)
            with pytest.raises(StoreDown):
                await node.live.lapses.learn()
        await node.live.lapses.learn()
        assert await close_code(client) == BAD_TOKEN


async def test_revoking_ends_connections_that_needed_no_token_but_lets_them_come_again(
    start: Start, clock: Clock
) -> None:
    node = await start("t-a")
    async with node.dial() as client:
        await say(client, "hello", user_id="ada")
        await hear(client, "welcome")
        await revoke(node.runner, "ada")
        assert await close_code(client) == BAD_TOKEN
    clock.now += 1
    async with node.dial() as client:
        await say(client, "hello", user_id="ada")
        assert (await hear(client))["type"] == "welcome"


async def test_a_state_that_cannot_be_read_hides_no_other_revocation(start: Start, clock: Clock) -> None:
    gate = Identity(clock, secret=SECRET)
    here, there = await start("t-a", gate=gate), await start("t-b", gate=gate)
    async with there.dial() as broken, there.dial() as far:
        await enter(broken, clock, "bob")
        await enter(far, clock)
        await there.runner.drain()
        clock.now += 5_000
        await revoke(here.runner, "bob")
        await revoke(here.runner, "ada")
        key = user_keys("bob").state
        await here.store._ask(key, "SET", key, "rubbish")  # type: ignore[attr-defined]
        await there.live.lapses.learn()
        assert await close_code(far) == BAD_TOKEN
