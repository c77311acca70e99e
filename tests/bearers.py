"""Tokens as a team's own server makes them."""

from __future__ import annotations

import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey

SECRET = "a-secret-that-is-long-enough-for-tests"


def token(user: Any, *, now: int | None = None, secret: str = SECRET, header: Any = None, **claims: Any) -> str:
    """A good token issued at `now` (ms; the wall clock's without), but for the claims that say otherwise; None leaves
    one out."""
    at = int(time.time()) if now is None else now // 1000
    said = {"sub": user, "iat": at, "exp": at + 600, **claims}
    given = {name: value for name, value in said.items() if value is not None}
    return jwt.encode({"alg": "HS256", **(header or {})}, given, OctKey.import_key(secret))
