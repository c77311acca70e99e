"""Who is let in: tokens, origins, keys."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey, RSAKey

from handrail.core.inputs import BadInput
from handrail.identity import Caller, Identity, check_standing, check_user

NOW = 1_800_000_000
SECRET = "a secret that is long enough to be one"
OTHER = "another secret that is long enough too"


def clock() -> int:
    return NOW * 1000


def token(secret: str = SECRET, **claims: object) -> str:
    said = {"sub": "ann", "iat": NOW - 5, "exp": NOW + 60, **claims}
    return jwt.encode({"alg": "HS256"}, {name: each for name, each in said.items() if each is not ...}, _key(secret))


def _key(secret: str) -> OctKey:
    return OctKey.import_key(secret)


def unsigned(**claims: object) -> str:
    parts = [{"alg": "none"}, {"sub": "ann", **claims}]
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{head}.{body}."


def test_without_a_key_the_user_is_believed_and_known_goes_before_anonymous() -> None:
    gate = Identity(clock)
    assert gate.authenticate(None, "ann", "anon-1") == Caller("ann", True, "anon-1")
    assert gate.authenticate(None, "ann", "ann") == Caller("ann", True)
    assert gate.authenticate(None, None, "anon-1") == Caller("anon-1", False)
    with pytest.raises(BadInput, match="bad-user"):
        gate.authenticate(None, "ann", "x" * 300)
    with pytest.raises(BadInput, match="bad-user"):
        gate.authenticate(None, None, None)


def test_a_good_token_names_the_user() -> None:
    gate = Identity(clock, secret=SECRET)
    assert gate.authenticate(token(), None, "anon-1") == Caller(
        "ann", True, "anon-1", (NOW - 5) * 1000, (NOW + 60) * 1000
    )


def test_a_token_says_that_its_user_is_an_anonymous_visitor() -> None:
    gate = Identity(clock, secret=SECRET)
    assert gate.authenticate(token(anonymous=True), None, "anon-1")[:3] == Caller("ann", False)[:3]
    assert gate.authenticate(token(anonymous="yes"), None, None).known


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "",
        "x",
        "a.b.c",
        "é.é.é",
        "." * 9_000,
        unsigned(),
        token(OTHER),
        token(exp=NOW - 30),
        token(exp=...),
        token(exp=None),
        token(exp=NOW + 3_631),
        token(exp="soon"),
        token(exp=True),
        token(exp=float("nan")),
        token(exp=float("inf")),
        token(exp=-1),
        token(nbf=NOW + 31),
        token(nbf="now"),
        token(iat=NOW + 31),
        token(aud="somebody-else"),
        token(sub=None),
        token(sub=""),
        token(sub=7),
        token(sub="a\nb"),
        token()[:-2],
        jwt.encode({"alg": "HS512"}, {"sub": "ann"}, OctKey.import_key(SECRET), algorithms=["HS512"]),
    ],
)
def test_a_bad_token_lets_nobody_in(bad: str | None) -> None:
    with pytest.raises(BadInput) as caught:
        Identity(clock, secret=SECRET, max_age=3_600_000).authenticate(bad, None, None)
    assert caught.value.code in {"bad-token", "token-expired", "bad-user"}


def test_a_token_may_be_a_little_off_and_as_long_as_was_set() -> None:
    gate = Identity(clock, secret=SECRET, max_age=7_200_000)
    for good in (token(exp=NOW - 29), token(exp=NOW + 7_230), token(nbf=NOW + 30), token(iat=NOW + 0.5)):
        assert gate.authenticate(good, None, None).user == "ann"


def test_a_token_may_say_no_more_than_who_it_is_for() -> None:
    caller = Identity(clock, secret=SECRET).authenticate(token(iat=..., exp=...), None, None)
    assert (caller.user, caller.expires) == ("ann", 0)
    with pytest.raises(BadInput, match="revoked"):
        check_standing(caller.issued, NOW * 1000)


def test_a_token_that_does_not_say_when_it_was_issued_may_be_as_old_as_tokens_get() -> None:
    gate = Identity(clock, secret=SECRET, max_age=600_000)
    assert gate.authenticate(token(iat=...), None, None).issued == (NOW + 60 - 600) * 1000


def test_a_token_is_for_the_audience_that_was_set() -> None:
    gate = Identity(clock, secret=SECRET, audience="handrail")
    assert gate.authenticate(token(aud="handrail"), None, None).user == "ann"
    assert gate.authenticate(token(aud=["other", "handrail"]), None, None).user == "ann"
    for wrong in (
        token(),
        token(aud="handrail "),
        token(aud=[]),
        token(aud={"handrail": 1}),
        token(aud=["a", ["handrail"]]),
    ):
        with pytest.raises(BadInput, match="HANDRAIL_TOKEN_AUDIENCE"):
            gate.authenticate(wrong, None, None)


def test_what_to_set_for_an_audience_is_said() -> None:
    def fault_of(gate: Identity, **claims: Any) -> str:
        with pytest.raises(BadInput) as caught:
            gate.authenticate(token(**claims), None, None)
        return f"{caught.value.message} {caught.value.fix}"

    named, nameless = Identity(clock, secret=SECRET, audience="handrail"), Identity(clock, secret=SECRET)
    assert "Set HANDRAIL_TOKEN_AUDIENCE to that `aud`" in fault_of(nameless, aud="app")
    assert "make it with `aud` the value of HANDRAIL_TOKEN_AUDIENCE, 'handrail'" in fault_of(named)
    assert "another audience" in (told := fault_of(named, aud="app"))
    assert "set HANDRAIL_TOKEN_AUDIENCE to what the token has" in told


def test_a_refusal_says_what_is_wrong_with_the_token() -> None:
    gate = Identity(clock, secret=SECRET, max_age=3_600_000)
    for bad, code, words in (
        (token(exp=NOW - 99), "token-expired", "has expired"),
        (token(exp=...), "bad-token", "no `exp`"),
        (token(exp=NOW + 9_999), "bad-token", "more than 1h ahead"),
        (token(nbf=NOW + 99), "bad-token", "not valid yet"),
        (token(OTHER), "bad-token", "the key of this server"),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            gate.authenticate(bad, None, None)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ([], True),
        ([(b"origin", b"http://localhost:1")], True),
        ([(b"origin", b"http://localhost:1"), (b"origin", b"http://localhost:1")], False),
        ([(b"sec-fetch-site", b"cross-site")], False),
        ([(b"sec-fetch-site", b"same-site")], False),
        ([(b"sec-fetch-site", b"same-origin")], True),
        ([(b"sec-fetch-site", b"none")], True),
        ([(b"origin", b"http://localhost:1"), (b"sec-fetch-site", b"cross-site")], True),
    ],
)
def test_where_a_page_is_from(headers: list[tuple[bytes, bytes]], allowed: bool) -> None:
    assert Identity(clock).page_allowed(headers) is allowed


def test_a_user_id_beside_a_token_must_agree() -> None:
    gate = Identity(clock, secret=SECRET)
    assert gate.authenticate(token(), "ann", None).user == "ann"
    with pytest.raises(BadInput, match="bad-token"):
        gate.authenticate(token(), "bob", None)


def test_public_keys_fix_the_algorithm() -> None:
    claims = {"sub": "ann", "exp": NOW + 60}
    curve, rsa = OKPKey.generate_key("Ed25519"), RSAKey.generate_key(2048)
    by_curve = jwt.encode({"alg": "Ed25519"}, claims, curve, algorithms=["Ed25519"])
    by_rsa = jwt.encode({"alg": "RS256"}, claims, rsa)
    gate = Identity(clock, public_key=curve.as_pem(private=False).decode())
    assert gate.authenticate(by_curve, None, None).user == "ann"
    gate = Identity(clock, public_key=rsa.as_pem(private=False).decode().replace("\n", "\\n"))
    assert gate.authenticate(by_rsa, None, None).user == "ann"
    for refused in (by_curve, token(), unsigned()):
        with pytest.raises(BadInput, match="bad-token"):
            gate.authenticate(refused, None, None)


def test_a_public_key_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="HANDRAIL_CLIENT_PUBLIC_KEY"):
        Identity(clock, public_key="-----BEGIN NONSENSE-----")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "http://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "http://127.1.2.3:80",
        "http://[::1]:5173",
    ],
)
def test_on_loopback_any_loopback_origin_may_connect(origin: str | None) -> None:
    assert Identity(clock).origin_allowed(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "file://",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://localhost@evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost:3000\n",
        "ftp://localhost",
        "http://0.0.0.0:8000",
        "http://localhost:٣",
    ],
)
def test_on_loopback_others_may_not(origin: str) -> None:
    assert not Identity(clock).origin_allowed(origin)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("https://app.example:8443", False),
        ("http://app.example", False),
        ("https://app.example.evil.example", False),
        ("https://evil-app.example", False),
        ("https://www.example", True),
        ("http://localhost:3000", False),
        ("null", False),
        (None, True),  # no browser: the token decides
    ],
)
def test_a_list_of_origins_is_exact(origin: str | None, allowed: bool) -> None:
    gate = Identity(clock, secret=SECRET, origins=["https://App.example/", "https://www.example:443"])
    assert gate.origin_allowed(origin) is allowed


def test_with_a_list_and_no_tokens_a_missing_origin_is_refused() -> None:
    assert not Identity(clock, origins=["https://app.example"]).origin_allowed(None)


def test_keys() -> None:
    gate = Identity(clock, write_key="w", admin_key="a")
    gate.check_write_key("w")
    gate.check_admin_key("a")
    for wrong in (None, "", "W", "w ", "ẃ", "\ud800"):
        with pytest.raises(BadInput, match="bad-write-key"):
            gate.check_write_key(wrong)
        with pytest.raises(BadInput, match="bad-admin-key"):
            gate.check_admin_key(wrong)
    Identity(clock).check_write_key(None)


@pytest.mark.parametrize("user", ["a", "ann@example.com", "x" * 256, "用户", "{a}:b", "-", "a b"])
def test_user_ids(user: str) -> None:
    assert check_user(user) == user


@pytest.mark.parametrize("user", [None, "", "x" * 257, "a\x00", "a\nb", "\x7f", "a\x85", "a\u2028", "\ud800"])
def test_user_ids_that_are_refused(user: str | None) -> None:
    with pytest.raises(BadInput, match="bad-user"):
        check_user(user)
