"""The whole product on a Redis Cluster: two servers, users on every master, messages, timers, webhooks, resuming."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
from receivers import receiving
from redis.crc import key_slot
from websockets.asyncio.client import connect

from clusters import Cluster
from handrail.store import RedisStore
from handrail.store.keys import user_keys
from nodes import greet, hear
from servers import served

RULES = """\
trigger: greet
when: {event: greeted}
then:
  - content: {slot: top, message: hello}
---
trigger: write
when: {delay: {after: {event: greeted}, for: 1s}}
then:
  - prompt: offer
  - webhook: letter
---
message: hello
kind: inline
title: "Hello {{ event.properties.n }}"
---
message: offer
kind: modal
title: May I help?
---
webhook: letter
url: INBOX
body: {user: "{{ user.id }}"}
"""
USERS = [f"user-{number}" for number in range(12)]


async def test_everything_works_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    assert len({cluster.owner(key_slot(user_keys(user).state)).port for user in USERS}) == 3
    async with AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(receiving())
        (tmp_path / "rules.yaml").write_text(RULES.replace("INBOX", f"{inbox.url}/mail"))
        here, there = [await serve(stack, cluster, tmp_path) for _ in range(2)]
        await asyncio.gather(*(live_through(user, here, there) for user in USERS))
        await inbox.wait("/mail", len(USERS))
    assert sorted(received.body for received in inbox.got) == sorted(b'{"user":"%b"}' % user.encode() for user in USERS)


async def serve(stack: AsyncExitStack, cluster: Cluster, rules: Path) -> httpx2.AsyncClient:
    store = await RedisStore.connect(cluster.url)
    stack.push_async_callback(store.close)
    return await stack.enter_async_context(served(store, rules, webhook_allow_private=True))


def dial(server: httpx2.AsyncClient) -> connect:
    url = str(server.base_url).replace("http", "ws", 1).rstrip("/")
    return connect(f"{url}/updates", subprotocols=["handrail.v1"], compression=None, proxy=None)  # type: ignore[list-item]


async def tell(server: httpx2.AsyncClient, user: str, number: int) -> None:
    event = {"userId": user, "event": "greeted", "messageId": f"{user}-{number}", "properties": {"n": number}}
    assert (await server.post("/v1/track", json=event)).status_code == 200


async def live_through(user: str, here: httpx2.AsyncClient, there: httpx2.AsyncClient) -> None:
    """What happens at one server shows at the other, at once and when its time has come, and after coming back."""
    async with dial(here) as client:
        welcome = await greet(client, user)
        await tell(there, user, 1)
        assert (await hear(client, "content"))["block"]["title"] == "Hello 1"
        shown = await hear(client, "prompt")
        assert shown["title"] == "May I help?"
    await tell(there, user, 1)  # known already
    await tell(there, user, 2)
    async with dial(there) as client:
        back = await greet(client, user, epoch=welcome["epoch"], offset=shown["offset"])
        assert (back["recovered"], back["offset"]) == (True, shown["offset"])
        assert (await hear(client, "content"))["block"]["title"] == "Hello 2"
