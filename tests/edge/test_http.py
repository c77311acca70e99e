"""What the edge makes of requests that are wrong, too large or too slow, in raw bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from echoing import HANDSHAKE, TEXT, Ground, Peer, echoing, frame
from handrail import edge
from handrail.edge import http

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
EVENTS = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n"


class Case(NamedTuple):
    """`status` 0: the server closes without a word."""

    name: str
    sent: bytes
    status: int


def sized(size: int, *, claim: int | None = None, start: bytes = POST) -> bytes:
    return start + b"Content-Length: %d\r\n\r\n" % (size if claim is None else claim) + b"x" * size


def fields(count: int) -> bytes:
    return b"".join(b"X-%d: a\r\n" % number for number in range(count))


CASES = [
    Case("a request", GET + END, 200),
    Case("of HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", 200),
    Case("after empty lines", b"\r\n\r\n" + GET + END, 200),
    Case("as many fields as may be", GET + fields(http.MAX_FIELDS - 1) + END, 200),
    Case("one field more", GET + fields(http.MAX_FIELDS) + END, 431),
    Case("a hundred thousand fields", GET + fields(100_000), 431),
    Case("a large header", GET + b"Cookie: " + b"a" * 15_000 + END + END, 200),
    Case("too large a field", GET + b"Cookie: " + b"a" * 17_000 + END + END, 431),
    Case("fields too large together", GET + (b"Cookie: " + b"a" * 4_000 + END) * 5 + END, 431),
    Case("a field without end", GET + b"Cookie: " + b"a" * 300_000, 431),
    Case("a name without end", GET + b"a" * 300_000, 431),
    Case("an address without end", b"GET /" + b"a" * 300_000, 431),
    Case("too long an address", b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n\r\n", 431),
    Case("the largest body", sized(http.MAX_BODY), 200),
    Case("a body too large", sized(http.MAX_BODY + 1), 413),
    Case("a body that says so beforehand", sized(0, claim=2**40), 413),
    Case("and waits", POST + b"Expect: 100-continue\r\nContent-Length: 999999\r\n\r\n", 413),
    Case("chunks", POST + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 200),
    Case("chunks too large together", POST + CHUNKED + (b"8000\r\n" + b"x" * 32_768 + b"\r\n") * 3, 413),
    Case("tiny chunks", POST + CHUNKED + b"1\r\nx\r\n" * 100_000, 413),
    Case("an endless extension of a chunk", POST + CHUNKED + b"1;" + b"x" * 1_000_000, 413),
    Case("an endless trailer", POST + CHUNKED + b"0\r\nX: " + b"x" * 1_000_000, 413),
    Case("a body of events", sized(512 * 1024, start=EVENTS), 200),
    Case("too many events", sized(http.MAX_EVENTS + 1, start=EVENTS), 413),
    Case("a length and chunks", POST + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n", 400),
    Case("chunks and a length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    Case("two lengths", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    Case("a length that is none", POST + b"Content-Length: five\r\n\r\n", 400),
    Case("a signed length", POST + b"Content-Length: +5\r\n\r\nhello", 400),
    Case("a negative length", POST + b"Content-Length: -5\r\n\r\n", 400),
    Case("a length beyond numbers", POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    Case("chunked twice over", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    Case("nearly chunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    Case("a chunk of no size", POST + CHUNKED + b"zz\r\n", 400),
    Case("a chunk longer than it says", POST + CHUNKED + b"2\r\nhello\r\n", 400),
    Case("a space before the colon", GET + b"X : a\r\n\r\n", 400),
    Case("a folded field", GET + b"X: a\r\n b\r\n\r\n", 400),
    Case("a bare return in a field", GET + b"X: a\rb\r\n\r\n", 400),
    Case("a zero in a field", GET + b"X: a\x00b\r\n\r\n", 400),
    Case("no version", b"GET /\r\n\r\n", 400),
    Case("another version", b"GET / HTTP/3.1\r\n\r\n", 400),
    Case("a method that is none", b"PUSH-UP / HTTP/1.1\r\n\r\n", 400),
    Case("a tunnel", b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n", 400),
    Case("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
    Case("an upgrade to something else", GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
    Case("a WebSocket", HANDSHAKE + END, 101),
    Case("of no body", HANDSHAKE + b"Content-Length: 0\r\n\r\n", 101),
    Case("with a body", HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", 400),
    Case("with a body to come", HANDSHAKE + b"Content-Length: 5\r\n\r\n", 400),
    Case("with chunks", HANDSHAKE + CHUNKED + b"0\r\n\r\n" + GET + END, 400),
    Case("with a line too long", HANDSHAKE + b"Cookie: " + b"a" * 8_100 + END + END, 431),
    Case("posted", HANDSHAKE.replace(b"GET", b"POST") + END, 405),
    Case("without a key", HANDSHAKE.replace(b"-Key", b"-Kee") + END, 400),
    Case("of an old version", HANDSHAKE.replace(b"13", b"12") + END, 400),
]  # fmt: skip


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with echoing() as running:
        yield running


def test_every_case_has_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_at_once(ground: Ground, case: Case) -> None:
    with Peer(ground.port) as peer:
        peer.send(case.sent)
        assert peer.head()[:12] == b"HTTP/1.1 %d" % case.status


@pytest.mark.parametrize("case", [case for case in CASES if len(case.sent) < 400], ids=lambda case: case.name)
def test_byte_by_byte(ground: Ground, case: Case) -> None:
    with Peer(ground.port) as peer:
        for byte in case.sent:
            peer.send(bytes([byte]))
        assert peer.head()[:12] == b"HTTP/1.1 %d" % case.status


def test_a_refusal_is_a_problem_and_the_end(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        peer.send(sized(http.MAX_BODY + 1))
        assert peer.head() == b"HTTP/1.1 413 Request Entity Too Large"
        told = json.loads(peer.rest())
    assert (told["type"], told["status"]) == ("urn:handrail:problem:body-too-large", 413)
    assert told["fix"]


def test_after_something_else_than_a_websocket_nothing_is_read(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        peer.send(GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert peer.head() == b"HTTP/1.1 200 OK"
        peer.send(GET + END)
        assert b"HTTP/1.1" not in peer.rest()


def test_requests_may_follow_each_other_but_not_without_bound(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        peer.send((GET + END) * http.MAX_PIPELINED + GET + b"Connection: close\r\n\r\n")
        assert peer.rest().count(b"HTTP/1.1 200") == http.MAX_PIPELINED + 1
    with Peer(ground.port) as peer:
        peer.send((GET + END) * 1_000)
        assert peer.rest().count(b"HTTP/1.1 200") < 1_000


@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_handshake_whose_end_comes_later_is_one(ground: Ground, last: int) -> None:
    whole = HANDSHAKE + END
    with Peer(ground.port) as peer:
        peer.send(whole[:-last])
        peer.pause(0.1)
        peer.send(whole[-last:])
        assert peer.head()[:12] == b"HTTP/1.1 101"


def test_who_speaks_before_the_answer_is_not_listened_to(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        peer.send(HANDSHAKE.replace(b"/updates", b"/never") + END)
        peer.pause(0.1)
        peer.send(frame(TEXT, b"early"))
        assert peer.rest() == b""
    with Peer(ground.port) as peer:
        peer.send(HANDSHAKE + END + frame(TEXT, b"early"))
        assert peer.rest() == b""
    assert ground.counts["ws_refused_early"] == 2


class Quick(edge.Http):
    head_within = 0.2
    body_tick = 0.2


class QuickSocket(edge.WebSocket):
    message_within = 0.2


@pytest.fixture(scope="module")
def quick() -> Iterator[Ground]:
    with echoing(http=Quick, ws=QuickSocket, timeout_keep_alive=1) as running:
        yield running


SLOW = [
    Case("nothing", b"", 0),
    Case("empty lines", b"\r\n\r\n", 0),
    Case("half a line", b"GE", 408),
    Case("half a header", GET, 408),
    Case("half a field", GET + b"X: a", 408),
    Case("no body", POST + b"Content-Length: 5\r\n\r\n", 408),
    Case("half a body", POST + b"Content-Length: 5\r\n\r\nhe", 408),
    Case("half a chunk", POST + CHUNKED + b"5\r\nhe", 408),
    Case("half a body of events", EVENTS + b"Content-Length: 500000\r\n\r\nhe", 408),
]


@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
def test_what_does_not_come_is_not_waited_for(quick: Ground, case: Case) -> None:
    with Peer(quick.port) as peer:
        peer.send(case.sent)
        told = peer.head()
        assert told[:12] == (b"HTTP/1.1 %d" % case.status if case.status else b"")
        peer.rest()  # it closes


def test_the_second_request_of_a_connection_has_as_long(quick: Ground) -> None:
    with Peer(quick.port) as peer:
        peer.send(GET + END)
        assert peer.head()[:12] == b"HTTP/1.1 200"
        peer.send(GET)
        assert b"408" in peer.rest()


def test_a_message_without_end_is_not_waited_for(quick: Ground) -> None:
    for sent in (frame(TEXT, b"half", fin=False), frame(TEXT, b"half", size=9), frame(TEXT, b"half")[:5]):
        with Peer(quick.port) as peer:
            assert peer.upgrade()[:12] == b"HTTP/1.1 101"
            peer.send(sent)
            (_, payload), *more = list(peer.frames())
        assert (payload, more) == (b"\x03\xf0unfinished message", [])


def test_a_body_that_keeps_coming_is_waited_for(quick: Ground) -> None:
    with Peer(quick.port) as peer:
        peer.send(EVENTS + b"Content-Length: 60000\r\n\r\n")
        for _ in range(5):
            peer.send(b"x" * 12_000)
            peer.pause(0.12)
        assert peer.head()[:12] == b"HTTP/1.1 200"
