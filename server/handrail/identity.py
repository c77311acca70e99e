"""Who is calling: client tokens, origins and keys, judged by what the operator configured and nothing a caller says."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from handrail.core.inputs import BadInput
from handrail.tokens import FIX, LEEWAY, Tokens

_LOOPBACK_ORIGIN = re.compile(r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ELSEWHERE = (b"cross-site", b"same-site")  # where a browser says a request without an Origin is from

Headers = Iterable[tuple[bytes, bytes]]


class Caller(NamedTuple):
    """Who calls: a known user, who may say what anonymous `visitor` they were before, or an anonymous visitor.

    `issued` and `expires` are those of the token they showed, in ms since the epoch, and 0 where none is needed.
    """

    user: str
    known: bool = True
    visitor: str = ""
    issued: int = 0
    expires: int = 0


class Identity:
    """The gate of one server.

    `now` gives milliseconds since the epoch. Exactly one token algorithm is accepted, chosen by the key: HS256 for a
    secret, EdDSA or RS256 for a public key. Without a key, `user_id` is believed; `serve` allows that on loopback only.
    `max_age` (ms) and `audience` are as in `Tokens`. Raises ValueError for a key that is none.
    """

    def __init__(
        self,
        now: Callable[[], int],
        *,
        secret: str | None = None,
        public_key: str | None = None,
        max_age: int | None = None,
        audience: str | None = None,
        write_key: str | None = None,
        admin_key: str | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        self._tokens = Tokens(now, secret=secret, public_key=public_key, max_age=max_age, audience=audience)
        self._write_key = write_key
        self._admin_key = admin_key
        self._origins = frozenset(normalise_origin(origin) for origin in origins)

    @property
    def needs_token(self) -> bool:
        return self._tokens.needed

    @property
    def needs_admin_key(self) -> bool:
        return self._admin_key is not None

    def authenticate(self, token: str | None, user_id: str | None, anonymous_id: str | None) -> Caller:
        """Whom a caller speaks for. Raises BadInput `bad-token`, `token-expired` or `bad-user`.

        Where tokens are required the token alone decides; a `user_id` beside it must agree. It is an anonymous
        visitor's if it claims `anonymous`.
        """
        if not self.needs_token:
            return with_visitor(Caller(check_user(user_id or anonymous_id), bool(user_id)), anonymous_id)
        claims = self._tokens.read(token)
        caller = Caller(check_user(claims.user), claims.known, "", claims.issued, claims.expires)
        check_same_user(caller, user_id)
        return with_visitor(caller, anonymous_id)

    def page_allowed(self, headers: Headers) -> bool:
        """Whether a request with these headers may be answered, by where its page is from."""
        given = list(headers)
        origin = next((value.decode("latin-1") for name, value in given if name == b"origin"), None)
        return not hides_origin(given) and self.origin_allowed(origin)

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


def hides_origin(headers: Headers) -> bool:
    """Whether it is not to be told which page asks: there are two origins, or none though the page is another's, as
    browsers send some requests that any page can cause."""
    given = [(name, value) for name, value in headers if name in (b"origin", b"sec-fetch-site")]
    origins = sum(name == b"origin" for name, _ in given)
    return origins > 1 or (not origins and any(value in _ELSEWHERE for _, value in given))


def with_visitor(caller: Caller, anonymous_id: str | None) -> Caller:
    """The caller, who if known says that they were this visitor before. Raises BadInput `bad-user`."""
    if not caller.known or not anonymous_id or anonymous_id == caller.user:
        return caller
    return caller._replace(visitor=check_user(anonymous_id))


def check_same_user(caller: Caller, user_id: str | None) -> None:
    """Raises BadInput `bad-token` where a `user_id` is said beside a token and is another's."""
    if user_id is not None and user_id != caller.user:
        raise BadInput("bad-token", "The token is for another user than `user_id` says.", FIX)


def check_standing(issued: int, revoked: int) -> None:
    """Raises BadInput `token-revoked` for what was let in by the time the user's tokens were `revoked` (both ms)."""
    if issued <= revoked:
        raise BadInput(
            "token-revoked", "The user's tokens issued until then were revoked.", "Have your server make a new token."
        )


def check_expiry(expires: int, now: int) -> None:
    """Raises BadInput `token-expired` for what was let in with a token that is over (ms; 0 for never)."""
    if expires and now >= expires + LEEWAY:
        raise BadInput("token-expired", "The token has expired.", "Connect again with a new token.")


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


def _same(expected: str | None, given: str | None) -> bool:
    if expected is None:
        return True
    return hmac.compare_digest(expected.encode(), (given or "").encode(errors="surrogatepass"))
