"""F56, F66: which path it is and which key was shown decide; how the address is spelt and what headers say do not."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from bearers import SECRET, token
from raw import UPGRADE, Header, ask
from servers import Serve

KEYS: dict[str, Any] = {
    "address_failures": 0,
    "handshake_rate": 0,
    "admin_key": "admin",
    "write_key": "w",
    "client_secret": SECRET,
    "origins": "https://app.example",
}
PATHS = (
    "/api/tail?follow=false",
    "/api/tail/?follow=false",
    "//api/tail?follow=false",
    "/api//tail?follow=false",
    "/./api/tail?follow=false",
    "/v1/../api/tail?follow=false",
    "/api/../api/tail?follow=false",
    "/%61pi/tail?follow=false",
    "/api%2Ftail?follow=false",
    "/api/tail%00?follow=false",
    "/api/tail;x=1?follow=false",
    "/api/tail%3Ffollow=false",
    "/API/TAIL?follow=false",
    "/api/tail%20?follow=false",
    "/client/..%2f..%2fapi/tail?follow=false",
    "http://evil.example/api/tail?follow=false",
    "/api/users/ann/explain/greet",
    "/api/users/ann%2Fexplain%2Fgreet",
    "/api/users//explain/greet",
    "/api/users/ann/explain/greet/",
    "/api/users/ann/revoke",
    "/api/users/ann/revoke/",
    "/api/users/ann%2frevoke",
    "/api/users/x/explain/y/revoke",
)
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE")
CREDENTIALS: tuple[list[Header], ...] = (
    [],
    [("Authorization", "Bearer wrong")],
    [("Authorization", "Bearer ")],
    [("Authorization", "Bearer adminn")],
    [("Authorization", "Basic YWRtaW46")],
    [("Authorization", "admin")],
    [("Authorization", "Bearer w")],
    [("X-Write-Key", "admin")],
    [("Cookie", "Authorization=Bearer admin")],
    [("Authorization", "Bearer wrong"), ("Authorization", "Bearer admin")],
    [("Authorization", f"Bearer {token('ann')}")],
    [("X-Original-URL", "/healthz"), ("X-Rewrite-URL", "/healthz")],
    [("X-HTTP-Method-Override", "GET"), ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "localhost")],
)
HOSTS = (
    "localhost",
    "evil.example",
    "localhost/api/tail",
    "localhost/healthz?x=",
    "x#/healthz",
    "x?/healthz",
    "user:admin@localhost",
    "[::1",
    "localhost:99999",
    "..",
    "%2f",
    "localhost\thealthz",
    "",
)


async def test_the_admin_api_wants_its_key_however_it_is_asked(serve: Serve) -> None:
    port = (await serve(**KEYS)).base_url.port
    assert port is not None
    wrong, cells = [], 0
    for path, method, shown in product(PATHS, METHODS, CREDENTIALS):
        if shown and method not in ("GET", "POST"):
            continue
        cells += 1
        answer = await ask(port, method, path, shown)
        if answer.status not in (0, 307, 400, 401, 404, 405):
            wrong.append((method, path, shown, answer.status))
        assert b"Traceback" not in answer.body
    right = await ask(port, "GET", PATHS[0], [("Authorization", "Bearer admin")])
    print(json.dumps({"fault": "F66", "cells": cells, "wrong": len(wrong)}))
    assert right.status == 200
    assert not wrong, "\n".join(map(str, wrong))


async def test_the_host_a_caller_names_decides_nothing(serve: Serve) -> None:
    client = await serve(**KEYS)
    port = client.base_url.port
    assert port is not None
    foreign: list[Header] = [("Origin", "https://evil.example")]
    bearer: list[Header] = [("Authorization", f"Bearer {token('ann')}")]
    asked: tuple[tuple[str, str, list[Header], int], ...] = (
        ("GET", "/healthz", [], 200),
        ("GET", "/api/tail?follow=false", [], 401),
        ("POST", "/api/users/ann/revoke", [], 401),
        ("GET", "/nowhere", [], 404),
        ("GET", "/updates", [*UPGRADE, *foreign], 403),
        ("GET", "/updates/sse?token=x", foreign, 403),
        ("GET", "/updates/sse?token=x", [], 401),
        ("POST", "/v1/ticket", foreign + bearer, 403),
        ("POST", "/v1/ticket", [], 401),
        ("POST", "/v1/ticket", bearer, 200),
    )
    wrong, cells = [], 0
    for host, (method, path, headers, status) in product(HOSTS, asked):
        answer = await ask(port, method, path, headers, host=host)
        cells += 1
        if answer.status not in (status, 400):
            wrong.append((host, method, path, answer.status))
        assert b"Traceback" not in answer.body
    print(json.dumps({"fault": "F56", "cells": cells, "wrong": len(wrong)}))
    assert not wrong, "\n".join(map(str, wrong))
