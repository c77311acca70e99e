"""The server as composed: what comes in one way goes out another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2

from servers import Serve

PROMPT = """\
trigger: greet
when: {event: greeted}
then: [{prompt: hello}]
---
message: hello
kind: toast
title: Hello
"""
SEGMENT = """\
segment: paying
if: user.traits.plan == 'pro'
---
trigger: thank
when: {enters: paying}
then: [{prompt: thanks}]
---
message: thanks
kind: toast
title: Thank you
"""
MAIL = """\
trigger: write
when: {event: greeted}
then: [{webhook: letter}]
---
webhook: letter
url: INBOX
channel: email
body: {user: demo-ann, to: Ann, subject: Hello, text: Hello}
"""
WITHIN = 10.0


@asynccontextmanager
async def events(client: httpx2.AsyncClient, path: str) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """The (type, data) of a stream of server-sent events."""

    async def read() -> AsyncGenerator[tuple[str, Any], None]:
        kind = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)

    async with client.stream("GET", path, timeout=WITHIN) as answer, aclosing(read()) as stream:
        yield stream


async def until(stream: AsyncIterator[tuple[str, Any]], kind: str) -> Any:
    async with asyncio.timeout(WITHIN):
        async for found, data in stream:
            if found == kind:
                return data
    raise AssertionError(f"the stream ended without a {kind}")


async def test_an_event_at_one_server_shows_at_another(serve: Serve) -> None:
    (serve.folder / "greet.yaml").write_text(PROMPT)
    here, there = await serve(), await serve()
    async with events(here, "/updates/sse?user_id=ann") as stream:
        assert (await until(stream, "welcome"))["recovered"] is False
        await there.post("/v1/track", json={"userId": "ann", "event": "greeted"})
        assert (await until(stream, "prompt"))["message"] == "hello"


async def test_changed_rules_are_applied_at_once_to_who_is_connected(serve: Serve) -> None:
    client = await serve()
    await client.post("/v1/identify", json={"userId": "ann", "traits": {"plan": "pro"}})
    async with events(client, "/updates/sse?user_id=ann") as stream:
        await until(stream, "welcome")
        (serve.folder / "paying.yaml").write_text(SEGMENT)
        assert (await until(stream, "prompt"))["message"] == "thanks"


async def test_the_country_is_told_by_the_header_that_was_set(serve: Serve) -> None:
    (serve.folder / "greet.yaml").write_text(PROMPT.replace("then:", "if: user.location.country == 'AT'\nthen:"))
    client = await serve(country_header="X-Country")
    client.headers["X-Country"] = "AT"
    async with events(client, "/updates/sse?user_id=ann") as stream:
        await until(stream, "welcome")
        await client.post("/v1/track", json={"userId": "ann", "event": "greeted"})
        assert (await until(stream, "prompt"))["message"] == "hello"


async def test_an_activity_posted_for_a_stream_is_the_streams(serve: Serve) -> None:
    client = await serve()
    async with events(client, "/updates/sse?user_id=ann") as stream:
        connection = (await until(stream, "welcome"))["connection"]
        body = {"userId": "ann", "connection": connection, "visible": False, "idle_ms": 0}
        assert (await client.post("/v1/activity", json=body)).json() == {"success": True}


async def test_webhooks_reach_the_demos_inbox_which_is_as_private_as_the_server(serve: Serve) -> None:
    client = await serve(demo=True)
    (serve.folder / "mail.yaml").write_text(MAIL.replace("INBOX", str(client.base_url.join("/demo/inbox"))))
    async with asyncio.timeout(WITHIN):
        while (await client.get("/readyz")).json()["rules"]["triggers"] < 2:
            continue
    async with events(client, "/demo/feed?user_id=demo-ann") as stream:
        await client.post("/v1/track", json={"userId": "ann", "event": "greeted"})
        assert (await until(stream, "mail"))["subject"] == "Hello"


async def test_the_demo_is_where_it_is_switched_on(serve: Serve) -> None:
    client = await serve(demo=True)
    assert (await client.get("/")).headers["location"] == "/demo"
    assert (await client.get("/demo")).status_code == 200
    assert (await (await serve()).get("/demo")).status_code == 404


async def test_the_demos_pages_answer_mistakes_as_problems(serve: Serve) -> None:
    client = await serve(demo=True)
    for body, status in ((b"x" * 20_000, 413), (b"{}", 400)):
        answer = await client.post("/demo/inbox", content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (await client.get("/demo/feed?user_id=ann")).headers["content-type"] == "application/problem+json"
