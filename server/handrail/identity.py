"""Who is calling: client tokens, origins and keys, judged by what the operator configured and nothing a caller says."""

from __future__ import annotations

import hmac
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey, OKPKey, RSAKey

from handrail.core.inputs import BadInput

LEEWAY = 60  # seconds by which a token's times may be off
MAX_TOKEN = 8_192
_LOOPBACK_ORIGIN = re.compile(r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TOKEN_FIX = "Have your server make a token with `sub` set to the user's id and pass it as `token`."


class Caller(NamedTuple):
    """Who calls: a known user, who may say what anonymous `visitor` they were before, or an anonymous visitor."""

    user: str
    known: bool = True
    visitor: str = ""


class Identity:
    """The gate of one server.

    `now` gives milliseconds since the epoch. Exactly one token algorithm is accepted, chosen by the key: HS256 for a
    secret, EdDSA or RS256 for a public key. Without a key, `user_id` is believed; `serve` allows that on loopback only.
    Raises ValueError for a key that is none.
    """

    def __init__(
        self,
        now: Callable[[], int],
        *,
        secret: str | None = None,
        public_key: str | None = None,
        write_key: str | None = None,
        admin_key: str | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        self._now = now
        self._key, self._algorithms = _token_key(secret, public_key)
        self._write_key = write_key
        self._admin_key = admin_key
        self._origins = frozenset(normalise_origin(origin) for origin in origins)

    @property
    def needs_token(self) -> bool:
        return self._key is not None

    def authenticate(self, token: str | None, user_id: str | None, anonymous_id: str | None) -> Caller:
        """Whom a caller speaks for. Raises BadInput `bad-token` or `bad-user`.

        Where tokens are required the token alone decides; a `user_id` beside it must agree. It is an anonymous
        visitor's if it claims `anonymous`.
        """
        if self._key is None:
            user, known = user_id or anonymous_id, bool(user_id)
        else:
            claims = self._claims(token)
            user, known = claims["sub"], claims.get("anonymous") is not True
            if user_id is not None and user_id != user:
                raise BadInput("bad-token", "The token is for another user than `user_id` says.", _TOKEN_FIX)
        before = check_user(anonymous_id) if known and anonymous_id and anonymous_id != user else ""
        return Caller(check_user(user), known, before)

    def origin_allowed(self, origin: str | None) -> bool:
        """Whether a page of this origin may connect.

        With a list: an exact match; a caller that is no browser sends none, and is let in only where a token is needed.
        Without one (loopback only): no origin, or any loopback one.
        """
        if not self._origins:
            return origin is None or _LOOPBACK_ORIGIN.fullmatch(origin) is not None
        return self.needs_token if origin is None else origin in self._origins

    def check_write_key(self, key: str | None) -> None:
        """Raises BadInput `bad-write-key`."""
        if not _same(self._write_key, key):
            raise BadInput(
                "bad-write-key",
                "The write key is missing or wrong.",
                "Send HANDRAIL_WRITE_KEY as the user name of Basic auth, as X-Write-Key, or as `writeKey` in the body.",
            )

    def check_admin_key(self, key: str | None) -> None:
        """Raises BadInput `bad-admin-key`."""
        if not _same(self._admin_key, key):
            raise BadInput(
                "bad-admin-key",
                "The admin key is missing or wrong.",
                "Send `Authorization: Bearer` with the value of HANDRAIL_ADMIN_KEY.",
            )

    def _claims(self, token: str | None) -> dict[str, Any]:
        """What a valid token says; `sub` is text."""
        if not token:
            raise BadInput("bad-token", "A token is needed.", _TOKEN_FIX)
        if len(token) > MAX_TOKEN:
            raise BadInput("bad-token", "The token is too long.", _TOKEN_FIX)
        try:
            claims = self._verified(token)
            self._check_times(claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            raise BadInput("bad-token", "The token is not valid, or no longer.", _TOKEN_FIX) from None
        if not isinstance(claims.get("sub"), str):
            raise BadInput("bad-token", "The token names no user.", _TOKEN_FIX)
        return claims

    def _verified(self, token: str) -> dict[str, Any]:
        assert self._key is not None
        with warnings.catch_warnings():
            # RFC 9864 renamed EdDSA to Ed25519; token libraries write the old name still.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.decode(token, self._key, algorithms=self._algorithms).claims

    def _check_times(self, claims: dict[str, Any]) -> None:
        jwt.JWTClaimsRegistry(now=self._now() // 1000, leeway=LEEWAY).validate(claims)


def check_user(user: str | None) -> str:
    """A usable user id: 1 to 256 characters, none of them a control character. Raises BadInput `bad-user`."""
    if user and len(user) <= 256 and not _UNSAFE.search(user):
        return user
    what = "is missing" if not user else "is too long" if len(user) > 256 else "has a control character in it"
    raise BadInput("bad-user", f"The user id {what}.", "Send 1 to 256 characters, without control characters.")


def normalise_origin(origin: str) -> str:
    """An origin as browsers spell it: lower case, no slash at the end, no default port."""
    bare = origin.strip().rstrip("/").lower()
    if bare.startswith("https://"):
        return bare.removesuffix(":443")
    return bare.removesuffix(":80") if bare.startswith("http://") else bare


def _token_key(secret: str | None, public_key: str | None) -> tuple[OctKey | OKPKey | RSAKey | None, list[str]]:
    if secret is not None:
        return OctKey.import_key(secret), ["HS256"]
    if public_key is None:
        return None, []
    pem = public_key.replace("\\n", "\n")  # environment files often cannot hold line breaks
    for kind, algorithms in ((OKPKey, ["EdDSA", "Ed25519"]), (RSAKey, ["RS256"])):
        with suppress(JoseError, ValueError, TypeError):
            return kind.import_key(pem), algorithms
    raise ValueError("HANDRAIL_CLIENT_PUBLIC_KEY is not the PEM text of an Ed25519 or RSA public key")


def _same(expected: str | None, given: str | None) -> bool:
    if expected is None:
        return True
    return hmac.compare_digest(expected.encode(), (given or "").encode(errors="surrogatepass"))
