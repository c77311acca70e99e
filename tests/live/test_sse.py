"""The same stream as server-sent events, read off the socket byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.events import Track
from handrail.core.inputs import BadInput
from handrail.identity import Identity
from handrail.live.sse import read_hello, read_query
from nodes import Clock, Node, Start, eventually, greet, hear, say, until

SECRET = "a-secret-that-is-long-enough-for-tests"


class Reader:
    """An HTTP/1.1 response: its status, headers, and its body taken out of its chunks as it comes."""

    def __init__(self, incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        self._incoming = incoming
        self.outgoing = outgoing
        self.status = 0
        self.headers: dict[str, str] = {}
        self._text = ""

    async def begin(self) -> None:
        head = (await self._incoming.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)

    async def chunk(self) -> bytes:
        """The next chunk; empty at the end."""
        size = int(await self._incoming.readline(), 16)
        return (await self._incoming.readexactly(size + 2))[:-2]

    async def event(self) -> dict[str, str]:
        """The next event's fields; a comment has the field ''."""
        async with asyncio.timeout(5):
            while "\n\n" not in self._text:
                more = await self.chunk()
                if not more:
                    raise EOFError
                self._text += more.decode()
        block, self._text = self._text.split("\n\n", 1)
        fields = (line.partition(":") for line in block.split("\n"))
        return {name: value.removeprefix(" ") for name, _, value in fields}

    async def message(self) -> tuple[str, str | None, Any]:
        """The next event that is no comment: its type, id and data."""
        while True:
            event = await self.event()
            if "data" in event:
                return event["event"], event.get("id"), msgspec.json.decode(event["data"])


@asynccontextmanager
async def request(node: Node, query: str, method: str = "GET", **headers: str) -> AsyncIterator[Reader]:
    incoming, outgoing = await asyncio.open_connection("127.0.0.1", node.port)
    lines = [f"{method} /updates/sse?{query} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    outgoing.write("\r\n".join([*lines, "", ""]).encode())
    reader = Reader(incoming, outgoing)
    async with asyncio.timeout(5):
        await reader.begin()
    try:
        yield reader
    finally:
        outgoing.close()


async def test_the_same_messages_with_types_and_positions(node: Node) -> None:
    async with request(node, "user_id=ada&device=d&tab=t") as stream, node.dial() as socket:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        kind, place, welcome = await stream.message()
        assert (kind, place, welcome["type"]) == ("welcome", f"{welcome['epoch']}:0", "welcome")
        await greet(socket, "ada")
        await say(socket, "track", id="e1", name="greeted")
        kind, place, content = await stream.message()
        assert (kind, place) == ("content", f"{welcome['epoch']}:1")
        assert content == await hear(socket, "content")
        state = await node.runner.read("ada")
        assert state.connections[welcome["connection"]].tab == "t"


async def test_last_event_id_continues_where_it_was_and_wins_over_the_address(node: Node) -> None:
    async with request(node, "user_id=ada") as stream:
        _, _, welcome = await stream.message()
        for number in range(3):
            await node.runner.submit("ada", Track(id=f"e{number}", name="greeted", at=0, properties={"n": number}))
        _, place, _ = await stream.message()
    assert place is not None
    for options in ({"query": "user_id=ada&epoch=x&offset=9", "Last_Event_ID": place}, {}):
        query = options.pop("query", f"user_id=ada&epoch={welcome['epoch']}&offset=1")
        async with request(node, query, **options) as stream:
            _, _, again = await stream.message()
            assert (again["recovered"], again["offset"]) == (True, 1)
            assert [(await stream.message())[2]["offset"] for _ in range(2)] == [2, 3]


async def test_comments_keep_a_quiet_stream_open(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handrail.edge.shared.KEEP_ALIVE", 0.02)
    async with request(node, "user_id=ada") as stream:
        await stream.message()
        assert [await stream.event() for _ in range(3)] == [{"": ""}] * 3


async def test_a_client_that_leaves_is_noticed(node: Node) -> None:
    async with request(node, "user_id=ada") as stream:
        await stream.message()
        assert node.live.users() == ["ada"]
    await until(lambda: not node.live.users())
    await eventually(lambda: node.store.enlisted("t-a"), [])
    assert (await node.runner.read("ada")).connections == {}


async def test_draining_says_goodbye_and_ends_the_stream(node: Node) -> None:
    async with request(node, "user_id=ada") as stream:
        await stream.message()
        await node.live.drain(window_ms=500)
        kind, _, bye = await stream.message()
        assert (kind, bye["code"]) == ("bye", 4001)
        assert await stream.event() == {"retry": str(bye["reconnect_ms"])}
        assert await stream.chunk() == b""
    async with request(node, "user_id=ada") as refused:
        assert refused.status == 503


@pytest.mark.parametrize(
    ("query", "method", "origin", "status"),
    [
        ("", "GET", None, 400),
        ("user_id=%00", "GET", None, 400),
        ("user_id=%ff", "GET", None, 400),
        ("user_id=ada&device=" + "x" * 200, "GET", None, 400),
        ("user_id=ada&tab=" + "x" * 17_000, "GET", None, 431),  # by the edge, which reads no such header
        ("user_id=ada", "POST", None, 405),
        ("user_id=ada", "GET", "http://elsewhere.example", 403),
    ],
)
async def test_bad_requests_get_a_problem(node: Node, query: str, method: str, origin: str | None, status: int) -> None:
    headers = {"Origin": origin} if origin else {}
    async with request(node, query, method, **headers) as refused:
        assert refused.status == status
        assert refused.headers["content-type"] == "application/problem+json"
        assert "access-control-allow-origin" not in refused.headers


async def test_allowed_origins_may_read(node: Node) -> None:
    async with request(node, "user_id=ada", Origin="http://localhost:5173") as stream:
        assert stream.headers["access-control-allow-origin"] == "http://localhost:5173"


async def test_a_token_is_needed_where_one_is_configured(start: Start, clock: Clock) -> None:
    node = await start("t-a", gate=Identity(clock, secret=SECRET))
    async with request(node, "user_id=ada") as refused:
        assert refused.status == 401


@pytest.mark.parametrize(
    "place", ["nonsense", ":", "x:", ":5", "a:b:c", "epoch:99999999999999999999", "e:-1", "é:1", "e" * 300 + ":1"]
)
async def test_a_position_that_cannot_be_read_gets_a_snapshot(node: Node, place: str) -> None:
    async with request(node, "user_id=ada", Last_Event_ID=place) as stream:
        _, _, welcome = await stream.message()
    assert (welcome["recovered"], welcome["offset"]) == (False, 0)


@given(st.binary(), st.none() | st.text(st.characters(max_codepoint=255)))
def test_any_address_is_read_or_refused(query: bytes, last_event_id: str | None) -> None:
    try:
        hello = read_hello(read_query(query), last_event_id)
    except BadInput:
        return
    assert hello.offset is None or hello.offset >= 0


async def test_the_request_tells_of_the_device_and_a_trusted_header_of_the_country(node: Node) -> None:
    node.live.desk.country_header = "X-Country"
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
    async with request(node, "user_id=ada", User_Agent=agent, X_Country="at") as stream:
        await stream.message()
        await node.runner.drain()
        state = await node.runner.read("ada")
    assert state.location == {"country": "AT"}
    assert state.device == {"type": "desktop", "os": "Linux", "browser": "Firefox"}
