"""Handrail as it is run in production: tokens, keys, origins and limits, none of which the load comes near."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import msgspec
from joserfc import jwt
from joserfc.jwk import OctKey

from benchmarks.client import TEXT, frame
from benchmarks.crowd import Steps, stream, upgrade
from benchmarks.servers import Ground, Server, serving

ORIGIN = "https://app.example.com"
SECRET = "a-secret-of-the-benchmarks-which-guards-nothing"
WRITE_KEY, ADMIN_KEY = "bench-write", "bench-admin"
PLENTY = str(1_000_000)
SETTINGS = {
    "HANDRAIL_CLIENT_SECRET": SECRET,
    "HANDRAIL_WRITE_KEY": WRITE_KEY,
    "HANDRAIL_ADMIN_KEY": ADMIN_KEY,
    "HANDRAIL_ORIGINS": ORIGIN,
    "HANDRAIL_HANDSHAKE_RATE": PLENTY,
    "HANDRAIL_ADDRESS_HANDSHAKE_RATE": PLENTY,
    "HANDRAIL_ADDRESS_CONNECTIONS": PLENTY,
    "HANDRAIL_USER_CONNECTIONS": PLENTY,
    "HANDRAIL_MESSAGE_RATE": PLENTY,
    "HANDRAIL_WRITE_RATE": PLENTY,
}
encode = msgspec.json.Encoder().encode


def handrail(
    rules: str, settings: Mapping[str, str] | None = None
) -> Callable[[Ground], AbstractContextManager[Server]]:
    @contextmanager
    def start(place: Ground) -> Iterator[Server]:
        with serving(place, rules, {**SETTINGS, **(settings or {})}) as server:
            yield server

    return start


def token(user: str) -> str:
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + 86_400}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


def hello(user: str) -> Steps:
    """What opens a user's connection: handshake, hello, welcome."""
    said = frame(TEXT, encode({"type": "hello", "token": token(user)}))
    return [(upgrade("/updates", protocol="handrail.v1", origin=ORIGIN), b"\r\n\r\n"), (said, b'"type":"welcome"')]


def listen(user: str) -> Steps:
    """The same as an event stream."""
    return [(stream(f"/updates/sse?token={token(user)}", origin=ORIGIN), b"event: welcome")]


def track(event: Mapping[str, object]) -> bytes:
    return frame(TEXT, encode({"type": "track", **event}))
