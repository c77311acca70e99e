"""Who is let in when many come at once."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from handrail.counts import Counts
from handrail.identity import Identity
from handrail.lag import Lag
from handrail.limits import Bounds, Limits, Rate
from handrail.live.admission import LONGEST_WAIT, SPREAD, VERY_LATE, Admission, is_resume
from nodes import Clock, Node, Start, greet, hear, say, until

SECRET = "a-secret-that-is-long-enough-for-tests"


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def limits_of(**bounds: Any) -> Limits:
    return Limits(Bounds(**bounds), Time(), Counts())


def scope(query: bytes = b"", host: str = "192.0.2.1", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (host, 1), "query_string": query, "headers": named}


async def ask(node: Node, query: str, **headers: str) -> aiohttp.ClientResponse:
    """What a stream that is refused is answered."""
    url = f"http://127.0.0.1:{node.port}/updates/sse?{query}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        await answer.read()
        return answer


def test_half_of_what_is_taken_at_once_is_kept_for_those_who_come_back() -> None:
    door = Admission(limits_of(handshakes=Rate(100, 100)), Lag())
    newcomers = [door.refuse(scope()) for _ in range(100)]
    assert newcomers.count(None) == 50
    returning = [door.refuse(scope(b"resume=1")) for _ in range(100)]
    assert returning.count(None) == 50


def test_those_turned_away_are_given_later_and_later_moments() -> None:
    limits = limits_of(handshakes=Rate(10, 10))
    door = Admission(limits, Lag())
    waits = [refusal.retry_s for _ in range(200) if (refusal := door.refuse(scope(b"resume=1")))]
    assert len(waits) == 190
    assert min(waits[:10]) <= 2
    assert max(waits) < LONGEST_WAIT + SPREAD
    assert len(set(waits)) >= LONGEST_WAIT
    assert limits.counts.totals == {"handshakes_refused_pace": 190}


def test_when_the_loop_is_behind_newcomers_are_turned_away_first() -> None:
    limits = limits_of(handshakes=Rate(100, 100))
    lag = Lag()
    door = Admission(limits, lag)
    lag.note(VERY_LATE / 2)
    assert door.refuse(scope()) is not None
    assert door.refuse(scope(b"resume=1")) is None
    lag.note(VERY_LATE * 2)
    assert door.refuse(scope(b"resume=1")) is not None
    assert limits.counts.totals == {"handshakes_refused_lag": 2}


@pytest.mark.parametrize(
    ("asked", "resume"),
    [
        (scope(b"resume=1"), True),
        (scope(b"user_id=a&epoch=e&offset=1"), True),
        (scope(last_event_id="e:1"), True),
        (scope(b"user_id=resume=1"), False),
        (scope(), False),
    ],
)
def test_who_says_that_they_come_back(asked: dict[str, Any], resume: bool) -> None:
    assert is_resume(asked) is resume


def test_one_address_may_have_so_many_and_open_them_so_fast() -> None:
    limits = limits_of(address_handshakes=Rate(1, 3), address_connections=2)
    door = Admission(limits, Lag())
    for _ in range(2):
        door.enter("192.0.2.1")
    refusal = door.refuse(scope())
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "too-many-connections")
    assert door.refuse(scope(host="192.0.2.2")) is None
    for _ in range(2):
        door.leave("192.0.2.1")
    assert limits.open == {}
    assert [door.refuse(scope()) is None for _ in range(4)] == [True, True, True, False]
    assert limits.counts.totals == {"handshakes_refused_address": 2}


async def test_a_refused_websocket_is_answered_in_http_before_anything_is_asked(start: Start) -> None:
    node = await start("t-a", limits=limits_of(handshakes=Rate(0.001, 2)))
    async with node.dial() as first:
        await greet(first, "ada")
        with pytest.raises(InvalidStatus) as refused:
            await node.dial(origin="https://elsewhere.example")
    response = refused.value.response
    assert response.status_code == 503
    assert 1 <= int(response.headers["Retry-After"]) < LONGEST_WAIT + SPREAD
    assert response.headers["Content-Type"] == "application/problem+json"
    assert msgspec.json.decode(response.body)["type"] == "urn:handrail:problem:busy"


async def test_a_refused_stream_lets_pages_read_when_to_come_back(start: Start) -> None:
    node = await start("t-a", limits=limits_of(handshakes=Rate(0.001, 1)))
    refused = await ask(node, "user_id=ada", Origin="http://localhost:3000")
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Access-Control-Expose-Headers"] == "Retry-After"


async def test_failed_tokens_close_the_door_to_their_address(start: Start, clock: Clock) -> None:
    node = await start("t-a", gate=Identity(clock, secret=SECRET), limits=limits_of(offences=Rate(0.2, 2)))
    async with node.dial() as client:
        await say(client, "hello", token="none")
        assert (await hear(client))["code"] == "bad-token"
    assert (await ask(node, "token=none")).status == 401
    with pytest.raises(InvalidStatus) as closed:
        await node.dial()
    assert closed.value.response.status_code == 429


async def test_a_user_may_have_so_many_connections(start: Start) -> None:
    node = await start("t-a", limits=limits_of(user_connections=2))
    async with node.dial() as one, node.dial() as two:
        await greet(one, "ada")
        await greet(two, "ada")
        await node.runner.drain()
        async with node.dial() as third:
            await say(third, "hello", user_id="ada")
            assert (await hear(third))["code"] == "too-many-connections"
            assert (await hear(third))["code"] == 4503
            await third.wait_closed()
            assert third.close_code == 4503
        async with node.dial() as other:
            await greet(other, "bob")
    await until(lambda: not node.live.users())
    async with node.dial() as again:
        await greet(again, "ada")
