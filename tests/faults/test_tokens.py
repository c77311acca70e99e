"""F55: no token but a good one lets anybody in, whichever way it is shown; and nothing a token names is fetched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey, RSAKey
from websockets.asyncio.client import connect

from bearers import SECRET
from raw import ask
from servers import Serve

NOW = int(time.time())
GUARDED: dict[str, Any] = {"token_audience": "handrail", "token_max_age": "1h", "address_failures": 0, "write_key": "w"}
GOOD = {"sub": "ann", "iat": NOW, "exp": NOW + 3_000, "aud": "handrail"}
HS256 = {"alg": "HS256", "typ": "JWT"}
Signer = Callable[[bytes], bytes]


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac_by(key: bytes, name: str = "sha256") -> Signer:
    return lambda data: hmac.digest(key, data, name)


by_secret = hmac_by(SECRET.encode())


def forge(header: Any = HS256, claims: Any = GOOD, sign: Signer = by_secret) -> str:
    head = f"{encoded(header)}.{encoded(claims)}"
    return f"{head}.{encoded(sign(head.encode()))}"


def but(**claims: Any) -> dict[str, Any]:
    """Good claims, but for these; `...` leaves one out."""
    return {name: value for name, value in {**GOOD, **claims}.items() if value is not ...}


def headed(**more: Any) -> dict[str, Any]:
    return {name: value for name, value in {**HS256, **more}.items() if value is not ...}


def bad_tokens(lure: str) -> dict[str, str]:
    """By what is wrong with it; `lure` is an address that a server which believes tokens would ask."""
    stolen = hmac_by(b"a secret that is the attacker's own")
    own = {"kty": "oct", "k": encoded(b"a secret that is the attacker's own")}
    good = forge()
    head, body, seal = good.split(".")
    nested: Any = json.loads("[" * 200 + "]" * 200)
    headers = {
        **{
            f"alg {alg}": headed(alg=alg)
            for alg in ("none", "None", "NONE", "nOnE", "", "HS1", None, 7, ["HS256"], ...)
        },
        "alg and crit": headed(crit=["exp"]),
        "unencoded": headed(b64=False, crit=["b64"]),
        "packed": headed(zip="DEF", crit=["zip"]),
        "its own key": headed(jwk=own),
        "its own key's address": headed(jku=f"{lure}/keys.json"),
        "its own certificate": headed(x5c=["AAAA"], x5u=f"{lure}/key.pem"),
        **{
            f"kid {kid}": headed(kid=kid)
            for kid in ("../../../../dev/null", f"{lure}/key", "' UNION SELECT 'x", "|sleep 5", "\x00", 7)
        },
    }
    claims: dict[str, Any] = {
        "expired": but(exp=NOW - 31),
        "expired for a year": but(exp=NOW - 31_536_000),
        "never expires": but(exp=...),
        "expires in a year": but(exp=NOW + 31_536_000),
        "expires after an hour": but(exp=NOW + 5_400),
        **{f"exp {exp!r}": but(exp=exp) for exp in (None, "soon", str(NOW + 60), True, [NOW], 1e300, -1, 10**40)},
        "exp NaN": json.dumps(but(exp=float("nan"))).encode(),
        "not yet": but(nbf=NOW + 3_000),
        "nbf text": but(nbf="now"),
        "issued in the future": but(iat=NOW + 3_000),
        **{
            f"aud {aud!r}": but(aud=aud)
            for aud in (..., None, "other", "Handrail", "handrail/", ["a"], [], {"handrail": 1}, 7)
        },
        **{
            f"sub {sub!r}": but(sub=sub)
            for sub in (..., None, "", 7, True, ["ann"], {"a": "ann"}, "ann\n", "ann\x00", "\ud800", "a" * 257)
        },
        "a list": [GOOD],
        "text": "ann",
        "nothing": None,
        "no JSON": b"{",
        "no UTF-8": b'{"sub": "\xff"}',
        "deep": but(deep=nested),
        "long": but(filler="x" * 9_000),
    }
    return {
        **{name: forge(header, sign=stolen) for name, header in headers.items()},
        **{f"{name}, unsigned": forge(header, sign=lambda _: b"") for name, header in headers.items()},
        **{name: forge(claims=said) for name, said in claims.items() if name != "deep"},
        "deep": forge(claims=json.loads(json.dumps(but(sub=nested)))),
        "another key": forge(sign=stolen),
        "an empty key": forge(sign=hmac_by(b"")),
        "HS384 by the right key": forge(headed(alg="HS384"), sign=hmac_by(SECRET.encode(), "sha384")),
        "HS512 by the right key": forge(headed(alg="HS512"), sign=hmac_by(SECRET.encode(), "sha512")),
        "HS256 labelled none": forge(headed(alg="none")),
        "a plain hash": forge(sign=lambda data: hashlib.sha256(data).digest()),
        "a header that is a list": forge([HS256]),
        "a header that is no JSON": forge(b"{"),
        "no signature": f"{head}.{body}.",
        "half a signature": f"{head}.{body}.{seal[:20]}",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{seal}",
        "five parts": f"{good}.{seal}.{seal}",
        "another's signature": f"{head}.{encoded(but(sub='bob'))}.{seal}",
        "a changed header": f"{encoded(headed(typ='x'))}.{body}.{seal}",
        "JSON": json.dumps({"protected": head, "payload": body, "signature": seal}),
        "dots": "." * 3_000,
        "long": "x" * 9_000,
        "blanks": " ",
        "an empty token": "",
        "no token": "null",
        "not ASCII": "é.é.é",
    }


class Ways:
    """The ways in. Each shows a token and says whether it was good."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.url = f"ws://127.0.0.1:{client.base_url.port}/updates"

    async def websocket(self, token: str) -> bool:
        async with connect(self.url, proxy=None) as client:
            await client.send(json.dumps({"type": "hello", "token": token}))
            answer = json.loads(await asyncio.wait_for(client.recv(), 5))
        assert answer["type"] in ("welcome", "error")
        return bool(answer["type"] == "welcome")

    async def sse(self, token: str, name: str = "token") -> bool:
        address = f"/updates/sse?{name}={quote(token, errors='surrogatepass')}"
        async with self.client.stream("GET", address) as answer:
            return self._judged(answer.status_code)

    async def post(self, token: str) -> bool:
        return await self._send("/v1/track", token, b'{"event": "looked"}')

    async def body(self, token: str) -> bool:
        said = json.dumps({"event": "looked", "token": token}).encode()
        return self._judged((await self.client.post("/v1/track", content=said)).status_code)

    async def ticket(self, token: str) -> bool:
        return await self._send("/v1/ticket", token, b"")

    async def _send(self, path: str, token: str, body: bytes) -> bool:
        assert self.client.base_url.port is not None
        bearer = b"Bearer " + token.encode("utf-8", "surrogatepass")
        return self._judged(
            (await ask(self.client.base_url.port, "POST", path, [("Authorization", bearer)], body)).status
        )

    def _judged(self, status: int) -> bool:
        assert status in (200, 400, 401), status
        return status == 200

    async def all(self, token: str) -> dict[str, bool]:
        ways = (self.websocket, self.sse, self.post, self.body, self.ticket)
        return {way.__name__: await way(token) for way in ways}


@asynccontextmanager
async def lure() -> AsyncIterator[tuple[str, list[str]]]:
    """An address, and who came there."""
    came: list[str] = []

    def note(_reader: object, writer: asyncio.StreamWriter) -> None:
        came.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", came


def public(key: OKPKey | RSAKey) -> str:
    return key.as_pem(private=False).decode()


async def test_only_good_tokens_let_in(serve: Serve) -> None:
    ways = Ways(await serve(client_secret=SECRET, **GUARDED))
    wrong, cells = [], 0
    async with lure() as (address, came):
        for name, token in bad_tokens(address).items():
            for way, entered in (await ways.all(token)).items():
                cells += 1
                if entered:
                    wrong.append((way, name))
        for header in (
            HS256,
            headed(kid="../../dev/null", jku=f"{address}/keys", x5u=f"{address}/key"),
            headed(typ=...),
        ):
            assert all((await ways.all(forge(header))).values()), "a good token, whose header is not looked at"
    print(json.dumps({"fault": "F55", "part": "HS256", "cells": cells, "wrong": len(wrong), "fetched": len(came)}))
    assert cells >= 60
    assert (wrong, came) == ([], [])


@pytest.mark.parametrize("kind", ["RS256", "Ed25519"])
async def test_a_public_key_is_no_secret(serve: Serve, kind: str) -> None:
    """What anybody knows must not sign: the public key as an HMAC secret, in each spelling it has."""
    key = RSAKey.generate_key(2048) if kind == "RS256" else OKPKey.generate_key("Ed25519")
    other = RSAKey.generate_key(2048) if kind == "RS256" else OKPKey.generate_key("Ed25519")
    ways = Ways(await serve(client_public_key=public(key), **GUARDED))
    pem, sign = public(key), partial(jwt.encode, {"alg": kind}, GOOD, algorithms=[kind])
    spellings = [
        pem.encode(),
        pem.strip().encode(),
        pem.encode() + b"\n",
        base64.b64decode("".join(pem.split("\n")[1:-2])),
    ]
    spellings += [str(key.as_dict(private=False)["n" if kind == "RS256" else "x"]).encode(), b""]
    tokens = [
        forge(headed(alg=alg), sign=hmac_by(each, "sha" + alg[2:])) for each in spellings for alg in ("HS256", "HS512")
    ]
    tokens += [forge(headed(alg=kind), sign=hmac_by(each)) for each in spellings]
    tokens += [forge(headed(alg=alg), sign=lambda _: b"") for alg in ("none", "RS256", "EdDSA", "Ed25519", "ES256")]
    tokens += [sign(other), jwt.encode({"alg": "HS256"}, GOOD, OctKey.import_key(SECRET))]
    wrong = [token for token in tokens for entered in (await ways.all(token)).values() if entered]
    assert all((await ways.all(sign(key))).values())
    print(json.dumps({"fault": "F55", "part": kind, "cells": 5 * len(tokens), "wrong": len(wrong)}))
    assert wrong == []


async def test_tickets_and_tokens_are_not_each_other(serve: Serve) -> None:
    client = await serve(client_secret=SECRET, write_key="w", admin_key="admin")
    ways, good = Ways(client), forge(claims=but(aud=...))

    async def ticket() -> str:
        answer = await client.post("/v1/ticket", headers={"Authorization": f"Bearer {good}"})
        return str(answer.json()["ticket"])

    used = await ticket()
    assert await ways.sse(used, "ticket")
    shown = [used, used, good, "x", "", used[:-1], used.swapcase(), used + "x", "admin", "w"]
    wrong = [each for each in shown if await ways.sse(each, "ticket")]
    wrong += [way for way, entered in (await ways.all(await ticket())).items() if entered]
    revoked = await ticket()
    await client.post("/api/users/ann/revoke", headers={"Authorization": "Bearer admin"})
    wrong += ["revoked"] if await ways.sse(revoked, "ticket") else []
    wrong += [way for way, entered in (await ways.all(good)).items() if entered]
    print(json.dumps({"fault": "F55", "part": "tickets", "cells": len(shown) + 11, "wrong": len(wrong)}))
    assert wrong == []


async def test_a_revocation_closes_what_is_open_within_five_seconds(serve: Serve) -> None:
    keys: dict[str, Any] = {"client_secret": SECRET, "admin_key": "admin"}
    here, there = await serve(**keys), await serve(**keys)
    good = forge(claims=but(aud=...))

    async def closed(client: httpx2.AsyncClient) -> tuple[int, float]:
        async with connect(Ways(client).url, proxy=None) as socket:
            await socket.send(json.dumps({"type": "hello", "token": good}))
            await socket.recv()
            open_sockets.release()
            await socket.wait_closed()
            assert socket.close_code is not None
            return socket.close_code, time.monotonic()

    open_sockets = asyncio.Semaphore(0)
    sockets = [asyncio.create_task(closed(client)) for client in (here, there) for _ in range(10)]
    for _ in sockets:
        await open_sockets.acquire()
    began = time.monotonic()
    assert (await here.post("/api/users/ann/revoke", headers={"Authorization": "Bearer admin"})).status_code == 200
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*sockets)
    longest = max(at for _, at in ends) - began
    print(
        json.dumps({"fault": "F55", "part": "revoked in session", "sockets": len(ends), "longest_s": round(longest, 2)})
    )
    assert {code for code, _ in ends} == {4500}
    assert longest <= 5
