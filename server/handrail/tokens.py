"""What a client token says, once its signature and its times hold.

A token is a JWT (RFC 7519) signed with the one key that the operator configured. The key fixes the algorithm; whatever
the token's header says of keys (`kid`, `jku`, `jwk`, `x5u`) is not looked at, and nothing is ever fetched.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey, OKPKey, RSAKey

from handrail.core.durations import format_duration
from handrail.core.inputs import BadInput

LEEWAY = 30_000  # ms by which the clocks of those who make tokens may be off
MAX_TOKEN = 8_192  # characters
FIX = "Have your server make a token with `sub` the user's id, `exp` and `iat`, and pass it as `token`."

Key = OctKey | OKPKey | RSAKey


class Claims(NamedTuple):
    """`user` is the `sub`, a visitor's if not `known`. `issued` and `expires` are ms since the epoch, `expires` 0
    for never; a token that does not say when it was issued may be as old as tokens get."""

    user: str
    known: bool
    issued: int
    expires: int


class Tokens:
    """`now` gives ms since the epoch; `max_age` is in ms: tokens must expire, and no
    later than that from now. Raises ValueError for a key that is none."""

    def __init__(
        self,
        now: Callable[[], int],
        *,
        secret: str | None = None,
        public_key: str | None = None,
        max_age: int | None = None,
        audience: str | None = None,
    ) -> None:
        self._now = now
        self._key, self._algorithms = _read_key(secret, public_key)
        self._max_age = max_age
        self._audience = audience

    @property
    def needed(self) -> bool:
        return self._key is not None

    def read(self, token: str | None) -> Claims:
        """What a token says. Raises BadInput `bad-token`, or `token-expired` of one that was good."""
        if not token:
            raise _bad("A token is needed.")
        if len(token) > MAX_TOKEN:
            raise _bad("The token is too long.")
        claims = self._verified(token)
        self._check_audience(claims)
        issued, expires = self._check_times(claims)
        user = claims.get("sub")
        if not isinstance(user, str):
            raise _bad("The token names no user: its `sub` is not text.")
        return Claims(user, claims.get("anonymous") is not True, issued, expires)

    def _verified(self, token: str) -> dict[str, Any]:
        assert self._key is not None
        try:
            with warnings.catch_warnings():
                # RFC 9864 renamed EdDSA to Ed25519; token libraries write the old name still.
                warnings.simplefilter("ignore", SecurityWarning)
                return jwt.decode(token, self._key, algorithms=self._algorithms).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise _bad("The token is not one that the key of this server has signed.") from None

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        """RFC 7519: a token for somebody in particular is only for them."""
        given = claims.get("aud")
        if given is None and self._audience is None:
            return
        if self._audience is None:
            raise _bad(
                "The token is for an audience (`aud`), and HANDRAIL_TOKEN_AUDIENCE is not set.",
                "Set HANDRAIL_TOKEN_AUDIENCE to that `aud`, or have your server make tokens without one.",
            )
        if given is None:
            raise _bad(
                "The token has no audience (`aud`), and HANDRAIL_TOKEN_AUDIENCE asks for one.",
                f"Have your server make it with {self._wanted}.",
            )
        if self._audience not in (given if isinstance(given, list) else [given]):
            raise _bad(
                "The token is for another audience (`aud`) than HANDRAIL_TOKEN_AUDIENCE.",
                f"Have your server make it with {self._wanted}, or set HANDRAIL_TOKEN_AUDIENCE to what the token has.",
            )

    @property
    def _wanted(self) -> str:
        return f"`aud` the value of HANDRAIL_TOKEN_AUDIENCE, '{self._audience}'"

    def _check_times(self, claims: Mapping[str, Any]) -> tuple[int, int]:
        """When the token was issued and when it expires."""
        now, expires = self._now(), _read_time(claims, "exp")
        issued, begins = _read_time(claims, "iat"), _read_time(claims, "nbf")
        if expires is not None and expires <= now - LEEWAY:
            raise BadInput("token-expired", "The token has expired.", "Make a new one.")
        if max(issued or 0, begins or 0) > now + LEEWAY:
            raise _bad("The token is not valid yet.")
        if self._max_age is None:
            return issued or 1, expires or 0  # not 0: whoever was let in without a token came in just now
        longest = format_duration(self._max_age)
        if expires is None:
            raise _bad(f"The token never expires: it has no `exp`, of {longest} at most (HANDRAIL_TOKEN_MAX_AGE).")
        if expires > now + self._max_age + LEEWAY:
            raise _bad(f"The token's `exp` is more than {longest} ahead (HANDRAIL_TOKEN_MAX_AGE).")
        return (expires - self._max_age if issued is None else issued), expires


def _read_time(claims: Mapping[str, Any], name: str) -> int | None:
    """A NumericDate in ms."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and 0 <= value < 2**40):
        raise _bad(f"The token's `{name}` is no time in seconds.")
    return int(value * 1000)


def _read_key(secret: str | None, public_key: str | None) -> tuple[Key | None, list[str]]:
    if secret is not None:
        return OctKey.import_key(secret), ["HS256"]
    if public_key is None:
        return None, []
    pem = public_key.replace("\\n", "\n")  # environment files often cannot hold line breaks
    for kind, algorithms in ((OKPKey, ["EdDSA", "Ed25519"]), (RSAKey, ["RS256"])):
        with suppress(JoseError, ValueError, TypeError):
            return kind.import_key(pem), algorithms
    raise ValueError("HANDRAIL_CLIENT_PUBLIC_KEY is not the PEM text of an Ed25519 or RSA public key")


def _bad(message: str, fix: str = FIX) -> BadInput:
    return BadInput("bad-token", message, fix)
