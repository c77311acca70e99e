"""F54: pages of other origins, whatever they call themselves, get in nowhere."""

from __future__ import annotations

import json

from bearers import SECRET, token
from raw import UPGRADE, Header, ask
from servers import Serve

LISTED = "https://app.example, https://xn--bcher-kva.example, http://app.example:8080"
Cell = tuple[list[Header], bool]  # and whether it may come in
GOOD = ("https://app.example", "https://xn--bcher-kva.example", "http://app.example:8080")
BAD: tuple[str | bytes, ...] = (
    "https://evil.example",
    "null",
    "",
    "*",
    "file://",
    "about:blank",
    "http://app.example",
    "https://app.example:443",
    "https://app.example:8443",
    "https://app.example:8080",
    "http://app.example:80",
    "https://app.example:",
    "https://app.example.",
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://evilapp.example",
    "https://sub.app.example",
    "https://example",
    "https://APP.example",
    "HTTPS://app.example",
    "https://app.example/",
    "https://app.example/path",
    "https://app.example#x",
    "https://app.example?x",
    "https://user:pw@app.example",
    "https://app.example@evil.example",
    "https://app.example\\.evil.example",
    "https://app.example%00.evil.example",
    "https:app.example",
    "//app.example",
    "app.example",
    "wss://app.example",
    "https://app.example, https://evil.example",
    "https://evil.example https://app.example",
    "https://[::ffff:127.0.0.1]",
    "http://localhost:3000",
    "http://127.0.0.1",
    "https://bücher.example",
    "https://bücher.example".encode("latin-1"),
    "https://xn--bcher-kvb.example",
    "https://\u0430pp.example",  # a Cyrillic a
    "https://app\u3002example",  # an ideographic full stop
    "https://app.example\u200b",
)


def shown(allowed: bool, *origins: str | bytes) -> list[Cell]:
    return [([("Origin", origin)], allowed) for origin in origins]


HEADERS: list[Cell] = [
    *shown(True, *GOOD),
    *shown(False, *BAD),
    ([("Origin", GOOD[0]), ("Origin", BAD[0])], False),
    ([("Origin", BAD[0]), ("Origin", GOOD[0])], False),
    ([("Origin", GOOD[0]), ("Origin", GOOD[0])], False),
    ([("Origin", GOOD[0]), ("Sec-Fetch-Site", "cross-site")], True),
    ([("Sec-Fetch-Site", "cross-site")], False),
    ([("Sec-Fetch-Site", "same-site")], False),
    ([("Sec-Fetch-Site", "same-origin")], True),
    ([], True),  # no browser: the token decides
]
LOOPBACK: list[Cell] = [
    *shown(True, "http://localhost", "http://localhost:3000", "http://127.0.0.1:1", "http://[::1]:5173"),
    *shown(False, *BAD[:5], "http://localhost.evil.example", "http://127.0.0.1.nip.example", "http://0.0.0.0"),
    ([("Sec-Fetch-Site", "cross-site")], False),
    ([], True),
]
PREFLIGHT: list[Header] = [("Access-Control-Request-Method", "POST")]


async def attempts(port: int, headers: list[Header], user: str) -> dict[str, tuple[bool, bool]]:
    """By way in: whether it was open, and whether a page may read the answer."""
    bearer: list[Header] = [("Authorization", f"Bearer {token(user)}")]
    event = json.dumps({"event": "looked", "userId": user}).encode()
    answers = {
        "websocket": await ask(port, "GET", "/updates", UPGRADE + headers),
        "sse": await ask(port, "GET", f"/updates/sse?token={token(user)}&user_id={user}", headers),
        "post": await ask(port, "POST", "/v1/track", bearer + headers, event),
        "ticket": await ask(port, "POST", "/v1/ticket", bearer + headers),
    }
    if any(name == "Origin" for name, _ in headers):
        answers["preflight"] = await ask(port, "OPTIONS", "/v1/track", PREFLIGHT + headers)
    assert all(answer.status in (101, 200, 204, 400, 403) for answer in answers.values())  # 400: two origins
    return {
        way: (answer.status < 300, "access-control-allow-origin" in answer.headers) for way, answer in answers.items()
    }


async def test_no_page_of_another_origin_gets_in(serve: Serve) -> None:
    listed = await serve(origins=LISTED, client_secret=SECRET, handshake_rate=0)
    loopback = await serve(client_secret=SECRET, handshake_rate=0)
    wrong, cells = [], 0
    for client, table in ((listed, HEADERS), (loopback, LOOPBACK)):
        assert client.base_url.port is not None
        for headers, allowed in table:
            readable = allowed and any(name == "Origin" for name, _ in headers)
            for way, (entered, read) in (await attempts(client.base_url.port, headers, "ann")).items():
                cells += 1
                if entered != allowed or read != (readable and way != "websocket"):
                    wrong.append((way, headers, entered, read))
    print(json.dumps({"fault": "F54", "cells": cells, "wrong": len(wrong)}))
    assert cells >= 60
    assert not wrong, "\n".join(map(str, wrong))
