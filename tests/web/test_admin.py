"""The admin API's door, revoking, and the tickets of pages."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from bearers import SECRET, token
from handrail.store import RedisStore
from servers import Serve
from test_app import events, until

ADMIN = {"Authorization": "Bearer admin"}


def bearer(user: str, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, **claims)}"}


async def ticket(client: httpx2.AsyncClient, user: str = "ann", **claims: Any) -> str:
    answer = await client.post("/v1/ticket", headers=bearer(user, **claims))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["expires_in"] == 30
    return str(answer.json()["ticket"])


async def test_a_ticket_opens_one_stream(serve: Serve) -> None:
    client = await serve(client_secret=SECRET)
    shown = await ticket(client)
    async with events(client, f"/updates/sse?ticket={shown}&tab=t1") as stream:
        welcome = await until(stream, "welcome")
        assert 590 <= welcome["token_expires_in"] <= 600
        again = await client.get(f"/updates/sse?ticket={shown}")
        assert (again.status_code, again.json()["type"]) == (401, "urn:handrail:problem:bad-ticket")
        await client.post("/v1/track", json={"event": "greeted"}, headers=bearer("ann"))


async def test_a_ticket_is_its_users_and_says_which_visitor_they_were(serve: Serve, store: RedisStore) -> None:
    client = await serve(client_secret=SECRET, write_key="w")
    await client.post("/v1/track", json={"anonymousId": "anon-1", "event": "greeted"}, auth=("w", ""))
    assert (await client.get(f"/updates/sse?ticket={await ticket(client)}&user_id=bob")).status_code == 401
    async with events(client, f"/updates/sse?ticket={await ticket(client)}&anonymous_id=anon-1") as stream:
        await until(stream, "welcome")
    state = await store.load("ann")
    assert state is not None
    assert state.traits == {"greeted": True}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic YW5uOg=="}])
async def test_without_a_good_token_there_is_no_ticket(serve: Serve, headers: dict[str, str]) -> None:
    client = await serve(client_secret=SECRET)
    answer = await client.post("/v1/ticket", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="handrail"')


async def test_where_no_tokens_are_needed_there_are_no_tickets(serve: Serve) -> None:
    answer = await (await serve()).post("/v1/ticket")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:handrail:problem:no-tickets")


async def test_revoking_over_http_ends_tokens_tickets_and_streams(serve: Serve) -> None:
    here = await serve(client_secret=SECRET, admin_key="admin")
    there = await serve(client_secret=SECRET, admin_key="admin")
    old, unused = bearer("ann"), await ticket(here)
    async with events(there, f"/updates/sse?ticket={await ticket(here)}") as stream:
        await until(stream, "welcome")
        answer = await here.post("/api/users/ann/revoke", headers=ADMIN)
        assert (await until(stream, "bye"))["code"] == 4500
    least = answer.json()["min_iat"]
    assert answer.json() == {"user": "ann", "min_iat": least}
    for client in (here, there):
        for refused in (
            await client.post("/v1/ticket", headers=old),
            await client.post("/v1/track", json={"event": "greeted"}, headers=old),
            await client.get(f"/updates/sse?ticket={unused}"),
        ):
            assert refused.status_code == 401
        fine = await client.post("/v1/track", json={"event": "greeted"}, headers=bearer("ann", iat=least))
        assert fine.status_code == 200


async def test_who_was_never_seen_can_be_revoked(serve: Serve) -> None:
    client = await serve(client_secret=SECRET)
    old = bearer("new/one ☃")
    answer = await client.post("/api/users/new/one%20%E2%98%83/revoke")
    assert answer.json()["user"] == "new/one ☃"
    assert (await client.post("/v1/ticket", headers=old)).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YWRtaW46"}])
async def test_revoking_wants_the_admin_key(serve: Serve, headers: dict[str, str]) -> None:
    client = await serve(admin_key="admin")
    assert (await client.post("/api/users/ann/revoke", headers=headers)).status_code == 401
    assert (await client.get("/api/users/ann/revoke", headers=ADMIN)).status_code == 405


async def test_without_a_key_no_page_elsewhere_can_use_the_admin_api(serve: Serve) -> None:
    client = await serve()
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await client.post("/api/users/ann/revoke", headers=headers)).status_code == 403
        assert (await client.get("/api/tail?follow=false", headers=headers)).status_code == 403
    assert (await client.post("/api/users/ann/revoke", headers={"Origin": "http://localhost:1"})).status_code == 200
