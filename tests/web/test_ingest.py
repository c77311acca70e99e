"""Events over HTTP: what is taken, what is refused and how, and that an answer means that the store has it."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from typing import Any

import httpx2
import pytest
from segment.analytics.client import Client  # type: ignore[import-untyped]

from bearers import SECRET, token
from handrail.store import RedisStore, launch
from handrail.web.ingest import MAX_BODY
from servers import Serve


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    assert "Traceback" not in answer.text
    return body


async def traits(store: RedisStore, user: str) -> dict[str, Any]:
    state = await store.load(user)
    return {} if state is None else state.traits


@pytest.mark.parametrize("path", ["/v1/track", "/v1/t"])
async def test_an_answer_means_that_the_store_has_it(serve: Serve, store: RedisStore, path: str) -> None:
    client = await serve()
    answer = await client.post(path, json={"userId": "ann", "event": "greeted"})
    assert answer.json() == {"success": True}
    assert await traits(store, "ann") == {"greeted": True}


@pytest.mark.parametrize("path", ["identify", "i", "page", "p", "screen", "s", "group", "g", "alias", "a"])
async def test_every_kind_of_call_has_its_paths(serve: Serve, path: str) -> None:
    client = await serve()
    body = {"userId": "ann", "traits": {"plan": "pro"}, "groupId": "acme", "previousId": "anon", "name": "Home"}
    assert (await client.post(f"/v1/{path}", json=body)).json() == {"success": True}


async def test_a_batch_of_several_users_by_known_or_anonymous_id(serve: Serve, store: RedisStore) -> None:
    client = await serve()
    batch = [
        {"type": "identify", "userId": "ann", "anonymousId": None, "traits": {"plan": "pro"}},
        {"type": "track", "userId": None, "anonymousId": "anon-1", "event": "greeted"},
    ]
    assert (await client.post("/v1/batch", json={"batch": batch})).json() == {"success": True}
    assert await traits(store, "ann") == {"plan": "pro"}
    assert await traits(store, "anon-1") == {"greeted": True}


async def test_the_same_message_id_is_applied_once(serve: Serve, store: RedisStore) -> None:
    client = await serve()
    for plan in ("pro", "free"):
        body = {"userId": "ann", "messageId": "m1", "traits": {"plan": plan}}
        assert (await client.post("/v1/identify", json=body)).json() == {"success": True}
    assert await traits(store, "ann") == {"plan": "pro"}


async def test_good_items_of_a_batch_go_on_and_bad_ones_are_listed(serve: Serve, store: RedisStore) -> None:
    client = await serve()
    batch = [
        {"type": "track", "userId": "ann"},
        {"type": "track", "userId": "ann", "event": "greeted"},
        5,
        {"type": "track", "event": "greeted"},
        {"type": "track", "userId": "ann", "event": "x", "properties": {"p": "y" * 40_000}},
        {"type": "track", "userId": "a\u0000", "event": "x"},
    ]
    body = (await client.post("/v1/batch", json={"batch": batch})).json()
    assert body["success"] is True
    assert [(error["index"], error["code"]) for error in body["errors"]] == [
        (0, "bad-field"),
        (2, "bad-field"),
        (3, "no-user"),
        (4, "too-large"),
        (5, "bad-user"),
    ]
    assert all(error["message"] and error["fix"] for error in body["errors"])
    assert await traits(store, "ann") == {"greeted": True}


async def test_a_batch_of_nothing_good_is_a_problem(serve: Serve) -> None:
    client = await serve()
    body = problem(await client.post("/v1/batch", json={"batch": [{"type": "nonsense", "userId": "ann"}]}), 400)
    assert body["errors"][0]["code"] == "unknown-type"


@pytest.mark.parametrize("label", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("packed", [False, True])
async def test_the_body_says_what_it_is_and_the_headers_do_not(
    serve: Serve, store: RedisStore, label: str, packed: bool
) -> None:
    client = await serve()
    body = json.dumps({"batch": [{"type": "track", "userId": "ann", "event": "greeted"}]}).encode()
    answer = await client.post(
        "/v1/batch", content=gzip.compress(body) if packed else body, headers={"Content-Type": label}
    )
    assert answer.json() == {"success": True}
    assert await traits(store, "ann") == {"greeted": True}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"batch": {}}', 400),
        (b'{"batch": null}', 400),
        (b"\x1f\x8bnot gzip at all", 400),
        (gzip.compress(b'{"batch": []}')[:-6], 400),
        (gzip.compress(b"{}") + b"trailing", 400),
        (b" " * (MAX_BODY + 1), 413),
        (gzip.compress(b" " * (MAX_BODY + 1)), 413),
        (gzip.compress(b" " * 50_000_000), 413),
        (gzip.compress(b"") * 20_000, 400),
        (b'{"batch": [' + b"0," * 200_000 + b"0]}", 413),
    ],
)
async def test_bodies_that_are_refused(serve: Serve, body: bytes, status: int) -> None:
    client = await serve()
    answer = await client.post("/v1/batch", content=body)
    assert problem(answer, status)["fix"]
    assert len(answer.content) < 1_000
    assert (await client.get("/healthz")).status_code == 200


async def test_the_write_key_by_basic_auth_header_or_body(serve: Serve) -> None:
    client = await serve(write_key="w")
    event = {"userId": "ann", "event": "x"}
    basic = {"Authorization": f"Basic {b64encode(b'w:').decode()}"}
    assert (await client.post("/v1/track", json=event, headers=basic)).json() == {"success": True}
    assert (await client.post("/v1/track", json=event, headers={"X-Write-Key": "w"})).json() == {"success": True}
    assert (await client.post("/v1/track", json=event | {"writeKey": "w"})).json() == {"success": True}
    for headers in ({}, {"X-Write-Key": "v"}, {"Authorization": "Basic !!"}, {"Authorization": "Basic dg=="}):
        problem(await client.post("/v1/track", json=event, headers=headers), 401)


async def test_without_a_write_key_any_will_do(serve: Serve) -> None:
    client = await serve()
    answer = await client.post("/v1/track", json={"userId": "ann", "event": "x"}, auth=("anything", ""))
    assert answer.json() == {"success": True}


async def test_a_page_posts_with_its_users_token_and_for_that_user_only(serve: Serve, store: RedisStore) -> None:
    client = await serve(client_secret=SECRET, write_key="w")
    bearer = {"Authorization": f"Bearer {token('ann')}"}
    assert (await client.post("/v1/track", json={"event": "greeted"}, headers=bearer)).json() == {"success": True}
    assert await traits(store, "ann") == {"greeted": True}
    problem(await client.post("/v1/track", json={"event": "x", "userId": "bob"}, headers=bearer), 403)
    problem(await client.post("/v1/track", json={"event": "x"}, headers={"Authorization": "Bearer x.y.z"}), 401)


async def test_activity(serve: Serve) -> None:
    client = await serve()
    body = {"userId": "ann", "connection": "c-1", "visible": False, "idle_ms": 5000}
    assert (await client.post("/v1/activity", json=body)).json() == {"success": True}
    problem(await client.post("/v1/activity", json={"userId": "ann"}), 400)


async def test_pages_of_allowed_origins_may_post_and_others_may_not(serve: Serve) -> None:
    client = await serve(origins="https://app.example", client_secret=SECRET)
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/v1/track", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    answer = await client.post("/v1/track", json={}, headers={"Origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    for origin in ("https://evil.example", "null", "http://app.example"):
        refused = await client.post("/v1/track", json={}, headers={"Origin": origin})
        problem(refused, 403)
        assert "access-control-allow-origin" not in refused.headers
        problem(await client.options("/v1/track", headers=asked | {"Origin": origin}), 403)


async def test_what_browser_sdks_ask_before_they_start(serve: Serve) -> None:
    client = await serve()
    settings = (await client.get("/v1/projects/any-key/settings")).json()
    assert settings["integrations"]["Segment.io"]["apiKey"] == "any-key"
    assert settings["integrations"]["Segment.io"]["apiHost"].endswith("/v1")
    assert (await client.get("/sourceConfig/", params={"p": "npm"})).json()["source"]["enabled"] is True


async def test_segments_own_sdk_posts_unmodified(serve: Serve, store: RedisStore) -> None:
    client = await serve(write_key="w")
    failures: list[object] = []
    sdk = Client(
        write_key="w", host=str(client.base_url).rstrip("/"), on_error=lambda *fault: failures.append(fault), gzip=True
    )
    sdk.identify("ann", {"plan": "pro"})
    sdk.track("ann", "greeted", {"n": 1})
    sdk.group("ann", "acme", {"name": "Acme"})
    sdk.page("ann", "Docs", "Pricing")
    await asyncio.to_thread(sdk.join)
    assert failures == []
    known = await traits(store, "ann")
    assert (known["plan"], known["greeted"], known["group"]) == ("pro", True, {"name": "Acme", "id": "acme"})


async def test_a_store_that_is_away_is_told_so_that_the_sender_tries_again(
    serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with launch(tmp_path_factory.mktemp("gone")) as gone:
        lost = await RedisStore.connect(gone.url)
        client = await serve(store=lost)
    answer = await client.post("/v1/track", json={"userId": "ann", "event": "x"}, timeout=20)
    problem(answer, 503)
    assert answer.headers["retry-after"]
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).status_code == 200
    await lost.close()


async def test_errors_are_problems(serve: Serve) -> None:
    client = await serve()
    problem(await client.get("/nowhere"), 404)
    assert "GET" in problem(await client.get("/v1/track"), 405)["detail"]


async def test_segments_own_sdk_makes_a_visitor_a_user(serve: Serve, store: RedisStore) -> None:
    client = await serve(write_key="w")
    failures: list[object] = []
    sdk = Client(write_key="w", host=str(client.base_url).rstrip("/"), on_error=lambda *fault: failures.append(fault))
    sdk.track(anonymous_id="anon-1", event="greeted")
    sdk.identify(user_id="ann", anonymous_id="anon-1", traits={"plan": "pro"})
    sdk.track(anonymous_id="anon-1", event="viewed")
    sdk.track(anonymous_id="anon-2", event="greeted")
    sdk.alias("anon-2", "bob")
    await asyncio.to_thread(sdk.join)
    assert failures == []
    assert await traits(store, "ann") == {"greeted": True, "plan": "pro"}
    assert await traits(store, "bob") == {"greeted": True}
    ann = await store.load("ann")
    assert ann is not None
    assert ann.session is not None
    assert (ann.known, ann.session.events, ann.tracked) == (True, 2, 2)


@pytest.mark.parametrize(
    "call",
    [
        ("identify", {"userId": "ann", "anonymousId": "anon-1"}),
        ("alias", {"userId": "ann", "previousId": "anon-1"}),
        ("batch", {"batch": [{"type": "identify", "userId": "ann", "anonymousId": "anon-1"}]}),
    ],
    ids=lambda call: call[0],
)
async def test_an_answer_means_that_the_store_has_the_merge(
    serve: Serve, store: RedisStore, call: tuple[str, dict[str, Any]]
) -> None:
    client = await serve()
    await client.post("/v1/track", json={"anonymousId": "anon-1", "event": "greeted"})
    for _ in range(2):
        assert (await client.post(f"/v1/{call[0]}", json=call[1])).json() == {"success": True}
        assert await traits(store, "ann") == {"greeted": True}
        assert await traits(store, "anon-1") == {}
    state = await store.load("ann")
    assert state is not None
    assert len(state.absorbed) == 1


@pytest.mark.parametrize("kind", ["track", "page", "group"])
async def test_other_calls_with_both_ids_merge_nothing(serve: Serve, store: RedisStore, kind: str) -> None:
    client = await serve()
    await client.post("/v1/track", json={"anonymousId": "anon-1", "event": "greeted"})
    body = {"userId": "ann", "anonymousId": "anon-1", "event": "seen", "groupId": "acme"}
    await client.post(f"/v1/{kind}", json=body)
    assert await traits(store, "anon-1") == {"greeted": True}


async def test_nobody_takes_over_a_user_by_naming_them(serve: Serve, store: RedisStore) -> None:
    client = await serve()
    await client.post("/v1/track", json={"userId": "ann", "event": "greeted"})
    for call, body in (("identify", {"anonymousId": "ann"}), ("alias", {"previousId": "ann"})):
        answer = await client.post(f"/v1/{call}", json={"userId": "mallory", **body})
        assert answer.json() == {"success": True}
    assert (await traits(store, "ann"), await traits(store, "mallory")) == ({"greeted": True}, {})


async def test_a_page_with_a_token_says_which_visitor_its_user_was(serve: Serve, store: RedisStore) -> None:
    client = await serve(client_secret=SECRET)

    def bearer(user: str, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(user, **claims)}"}

    anonymous, known = bearer("anon-1", anonymous=True), bearer("ann")
    await client.post("/v1/track", json={"event": "greeted"}, headers=anonymous)
    answer = await client.post("/v1/identify", json={"anonymousId": "anon-1"}, headers=known)
    assert answer.json() == {"success": True}
    assert await traits(store, "ann") == {"greeted": True}
