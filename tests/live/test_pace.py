"""Sending too much: what is refused is neither stored nor acknowledged, and the connection says when to go on."""

from __future__ import annotations

from typing import Any

import httpx2

from handrail.counts import Counts
from handrail.limits import REFUSALS, Bounds, Limits, Rate
from nodes import Start, greet, hear, say
from servers import Serve


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def limits_of(**bounds: Any) -> Limits:
    return Limits(Bounds(**bounds), Time(), Counts())


async def test_messages_beyond_the_rate_are_refused_by_name_and_may_come_later(start: Start) -> None:
    time = Time()
    limits = Limits(Bounds(messages=Rate(1, 4)), time, Counts())
    node = await start("t-a", limits=limits)
    async with node.dial() as client:
        await greet(client, "ada")  # a message, too
        for number in range(5):
            await say(client, "track", id=f"e{number}", name="greeted")
        errors = [await hear(client, "error") for _ in range(2)]
        assert [(error["id"], error["code"], error["retry_ms"]) for error in errors] == [
            ("e3", "rate-limited", 1_000),
            ("e4", "rate-limited", 1_000),
        ]
        await node.runner.drain()
        assert set((await node.runner.read("ada")).seen) >= {"e0", "e1", "e2"}
        time.now += 1
        await say(client, "track", id="e3", name="greeted")
        while (await hear(client, "ack"))["up_to"] != "e3":
            pass
        state = await node.runner.read("ada")
    assert "e4" not in state.seen
    assert limits.counts.totals == {"messages_refused_rate": 2}


async def test_bytes_count_as_messages_do(start: Start) -> None:
    node = await start("t-a", limits=limits_of(octets=Rate(100, 5_000)))
    async with node.dial() as client:
        await greet(client, "ada")
        for number in range(3):
            await say(client, "track", id=f"e{number}", name="greeted", properties={"n": "x" * 2_000})
        assert (await hear(client, "error"))["id"] == "e2"


async def test_what_is_no_message_counts_as_one(start: Start) -> None:
    node = await start("t-a", limits=limits_of(messages=Rate(0.001, 2)))
    async with node.dial() as client:
        await greet(client, "ada")
        for _ in range(2):
            await client.send(b"binary")
        assert [(await hear(client))["code"] for _ in range(2)] == ["binary-frame", "rate-limited"]


async def test_a_user_cannot_have_more_by_opening_more_tabs(start: Start) -> None:
    node = await start("t-a", limits=limits_of(user_messages=Rate(1, 3)))
    async with node.dial() as one, node.dial() as two, node.dial() as other:
        await greet(one, "ada")
        await greet(two, "ada")
        await greet(other, "bob")
        for number in range(3):
            await say(one, "track", id=f"e{number}", name="greeted")
        while (await hear(one, "ack"))["up_to"] != "e2":
            pass
        await say(two, "track", id="e3", name="greeted")
        assert (await hear(two, "error"))["code"] == "rate-limited"
        await say(other, "ping")
        assert (await hear(other, "pong")) == {"type": "pong"}


async def test_who_does_not_stop_is_sent_away_for_a_while(start: Start) -> None:
    limits = limits_of(messages=Rate(0.001, 2), offences=Rate(0.2, 2))
    node = await start("t-a", limits=limits)
    async with node.dial() as client:
        await greet(client, "ada")
        for number in range(int(REFUSALS.burst) + 2):
            await say(client, "track", id=f"e{number}", name="greeted")
            if number > 1 and number % 50 == 0:
                await hear(client, "error")
        bye = await hear(client, "bye")
        await client.wait_closed()
    async with node.dial() as client:  # coming back at once
        await say(client, "hello", user_id="ada")
        assert (await hear(client))["code"] == 4005
    assert (bye["code"], client.close_code) == (4005, 4005)
    assert bye["reconnect_ms"] >= 10_000
    assert limits.offended("127.0.0.1") > 0


async def test_posts_beyond_the_rate_are_answered_with_a_moment_to_come_back(serve: Serve) -> None:
    client = await serve(write_rate="1")
    event = {"userId": "ada", "event": "greeted"}
    answers = [await client.post("/v1/track", json=event) for _ in range(13)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429]
    check_refusal(answers[-1])
    batch = await client.post("/v1/batch", json={"batch": [event | {"type": "track"}] * 20})
    check_refusal(batch)


def check_refusal(answer: httpx2.Response) -> None:
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["type"] == "urn:handrail:problem:rate-limited"


async def test_guessing_keys_is_not_answered_for_long(serve: Serve) -> None:
    client = await serve(admin_key="secret", origins="http://localhost:3000", write_key="w")
    answers = [await client.get("/api/tail", headers={"Authorization": f"Bearer {n}"}) for n in range(30)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:20] == [401] * 20
    assert set(statuses[21:]) == {429}
    assert (await client.get("/healthz")).status_code == 200
