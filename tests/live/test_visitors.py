"""A visitor who becomes a user, over real connections: what each of their pages is told, and what an old id sees."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bearers import SECRET, token
from handrail.core.events import Connected, Merge
from handrail.identity import Identity
from handrail.profiles import Profiles
from nodes import Node, Start, eventually, hear, say

NOW = 1_800_000_000_000


async def visit(client: ClientConnection, visitor: str = "anon-1") -> None:
    """Look around without being known, with a prompt on the screen and a slot filled."""
    await say(client, "hello", anonymous_id=visitor)
    await hear(client, "welcome")
    for number, name in enumerate(("greeted", "puzzled")):
        await say(client, "track", id=f"v-{number}", name=name, properties={"n": 1})
    await hear(client, "prompt")
    await hear(client, "ack")


async def refused(client: ClientConnection, **hello: object) -> dict[str, str]:
    await say(client, "hello", **hello)
    error = await hear(client)
    with pytest.raises(ConnectionClosed) as closed:
        await hear(client)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4504
    return error


async def test_who_says_hello_as_a_user_finds_what_they_saw_as_a_visitor(node: Node) -> None:
    async with node.dial() as anonymous, node.dial() as known:
        await visit(anonymous)
        await say(known, "hello", user_id="ada", anonymous_id="anon-1")
        welcome = await hear(known, "welcome")
        assert welcome["slots"]["top"]["title"] == "Hello 1"
        [prompt] = welcome["prompts"]
        withdrawn = await hear(anonymous)
        assert (withdrawn["type"], withdrawn["id"], withdrawn["reason"]) == ("withdraw", prompt["id"], "merged")
        await say(known, "track", id="d", name="prompt_dismissed", properties={"prompt": prompt["id"]})
        assert (await hear(known))["type"] == "withdraw"


async def test_a_page_that_is_still_a_visitors_is_shown_nothing_of_the_user(node: Node) -> None:
    async with node.dial() as anonymous, node.dial() as known:
        await visit(anonymous)
        await say(known, "hello", user_id="ada", anonymous_id="anon-1")
        await hear(known, "welcome")
        await hear(anonymous, "withdraw")
        await say(known, "track", id="g", name="greeted", properties={"n": 2})
        await say(known, "track", id="d", name="prompt_dismissed", properties={"message": "help"})
        await hear(known, "ack")
        await say(anonymous, "track", id="late", name="greeted", properties={"n": 3})
        assert await hear(anonymous) == {"type": "ack", "up_to": "late"}
        shown = [(await hear(known, "content"))["block"]["title"]]
        assert shown == ["Hello 3"]
        await say(anonymous, "ping")
        assert (await hear(anonymous))["type"] == "pong"


async def test_a_visitors_page_that_lost_its_place_is_sent_away_instead_of_being_shown_anything(node: Node) -> None:
    async with node.dial() as anonymous:
        await visit(anonymous)
        await Profiles(node.runner).merge("anon-1", "ada")
        assert (await hear(anonymous))["type"] == "withdraw"
        for connection in node.live.hub.connections():
            connection.lost = True
            node.live.hub.greeted(connection)
        assert (await hear(anonymous))["code"] == "known-visitor"
        with pytest.raises(ConnectionClosed):
            await hear(anonymous)


async def test_an_old_anonymous_id_is_turned_away_for_good_and_told_what_to_do(start: Start) -> None:
    one, two = await start("t-a"), await start("t-b")
    async with one.dial() as anonymous:
        await visit(anonymous)
    async with one.dial() as known:
        await say(known, "hello", user_id="ada", anonymous_id="anon-1")
        await hear(known, "welcome")
    for node in (one, two):
        async with node.dial() as again:
            error = await refused(again, anonymous_id="anon-1")
            assert (error["code"], error["fix"]) == (
                "known-visitor",
                "Connect as the user, or with a new anonymous id.",
            )
        async with httpx2.AsyncClient(trust_env=False) as browser:
            answer = await browser.get(f"http://127.0.0.1:{node.port}/updates/sse?anonymous_id=anon-1")
        assert (answer.status_code, answer.json()["type"]) == (410, "urn:handrail:problem:known-visitor")
        await eventually(lambda node=node: node.store.enlisted(node.runner.node), [])  # type: ignore[misc]
    async with two.dial() as fresh:
        await say(fresh, "hello", anonymous_id="anon-2")
        assert (await hear(fresh, "welcome"))["slots"] == {}


async def test_who_becomes_a_user_while_being_let_in_is_turned_away(node: Node) -> None:
    read = node.runner.read
    merged = asyncio.Event()

    async def slow(user: str) -> object:
        state = await read(user)
        if user == "anon-1" and not merged.is_set():
            merged.set()
            await Profiles(node.runner).merge("anon-1", "ada")
        return state

    async with node.dial() as anonymous:
        await visit(anonymous)
    node.runner.read = slow  # type: ignore[method-assign,assignment]
    async with node.dial() as client:
        await refused(client, anonymous_id="anon-1")
    assert merged.is_set()


async def test_an_id_that_was_merged_and_is_a_users_after_all_gets_a_profile_of_its_own(node: Node) -> None:
    async with node.dial() as anonymous:
        await visit(anonymous, "bob")
    await Profiles(node.runner).merge("bob", "mallory")
    async with node.dial() as client:
        await say(client, "hello", user_id="bob")
        welcome = await hear(client, "welcome")
        assert (welcome["slots"], welcome["prompts"], welcome["recovered"]) == ({}, [], False)
        await say(client, "track", id="1", name="greeted", properties={"n": 9})
        assert (await hear(client, "content"))["block"]["title"] == "Hello 9"


async def test_a_merge_that_another_process_began_is_finished_by_the_timers(start: Start, node: Node) -> None:
    async with node.dial() as anonymous:
        await visit(anonymous)
    await Profiles(node.runner).recognise("ada")
    await node.runner.submit("anon-1", Merge(id="m", at=node.runner.clock(), into="ada"))
    await node.live.timers.turn()
    await node.runner.drain()
    assert (await node.runner.read("ada")).slots == {}
    node.runner.clock.now += 5_000  # type: ignore[attr-defined]
    await node.live.timers.turn()
    await node.runner.drain()
    assert list((await node.runner.read("ada")).slots) == ["top"]
    assert "anon-1" not in [user for _, user in await node.store.due(2**52)]


async def test_where_tokens_are_needed_a_visitor_has_one_that_says_so(start: Start) -> None:
    gate = Identity(lambda: NOW, secret=SECRET)
    node = await start(gate=gate)
    async with node.dial() as anonymous:
        await say(anonymous, "hello", token=token("anon-1", now=NOW, anonymous=True))
        await hear(anonymous, "welcome")
        await say(anonymous, "track", id="1", name="greeted", properties={"n": 1})
        await hear(anonymous, "ack")
    async with node.dial() as bare:
        await say(bare, "hello", anonymous_id="anon-1")
        assert (await hear(bare))["code"] == "bad-token"
    async with node.dial() as known:
        await say(known, "hello", token=token("ada", now=NOW), anonymous_id="anon-1")
        assert (await hear(known, "welcome"))["slots"]["top"]["title"] == "Hello 1"
    async with node.dial() as anonymous:
        await refused(anonymous, token=token("anon-1", now=NOW, anonymous=True))


async def test_a_token_without_that_claim_makes_its_user_known(start: Start) -> None:
    node = await start(gate=Identity(lambda: NOW, secret=SECRET))
    async with node.dial() as client:
        await say(client, "hello", token=token("bob", now=NOW))
        await hear(client, "welcome")
        await say(client, "track", id="1", name="greeted")
        await hear(client, "ack")
    await Profiles(node.runner).merge("bob", "mallory")
    assert (await node.runner.read("bob")).merger is None


async def test_a_connection_counts_for_the_user_only(node: Node) -> None:
    await Profiles(node.runner).merge("anon-1", "ada")
    event = Connected(id="c", at=node.runner.clock(), connection="c-1", node="t-a")
    outcome = await Profiles(node.runner).submit("anon-1", event, known=False)
    assert (outcome.heir, (await node.runner.read("ada")).connections) == ("ada", {})
