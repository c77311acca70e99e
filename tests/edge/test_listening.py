"""What a WebSocket's listener can rely on, and what is left of one that is idle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import monotonic, sleep

import pytest

from echoing import BINARY, CLOSE, CONT, HANDSHAKE, PING, PONG, TEXT, Ground, Peer, close, echoing, frame
from handrail.edge.frames import frame_text
from handrail.edge.websocket import TURN


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with echoing() as running:
        yield running


def test_what_a_listener_cannot_take_yet_waits_in_its_order(ground: Ground) -> None:
    said: list[tuple[int, bytes]] = []
    sent = b""
    for number in range(3 * TURN):
        text, odd = b"t%d" % number, b"o%d" % number
        sent += frame(TEXT, text) + frame(TEXT, odd[:1], fin=False) + frame(CONT, odd[1:]) + frame(BINARY, text)
        said += [(TEXT, text), (TEXT, odd), (BINARY, text)]
    with Peer(ground.port) as peer:
        assert peer.upgrade(path=b"/slow") == b"HTTP/1.1 101 Switching Protocols"
        peer.send(sent + close(1000))
        heard = [each for each in peer.frames() if each[0] in (TEXT, BINARY)]
    assert heard == said


def test_a_listener_that_waits_has_the_kernel_hold_the_rest(ground: Ground) -> None:
    texts = [b"%d" % number + b"x" * 9_000 for number in range(100)]
    with Peer(ground.port) as peer:
        peer.upgrade(path=b"/slow")
        for text in texts:
            peer.send(frame(TEXT, text))
        assert [payload for _, payload in islice(peer.frames(), len(texts))] == texts


def test_after_its_goodbye_a_listener_hears_nothing() -> None:
    with echoing() as ground:
        with Peer(ground.port) as peer:
            peer.upgrade(path=b"/brief")
            peer.send(b"".join(frame(TEXT, b"%d" % number) for number in range(9)) + close(4000))
            heard = list(peer.frames())
        assert heard == [(TEXT, b"0"), (CLOSE, b"\x0f\xa0enough")]
    assert ground.echo.closed == [4000]


def test_the_library_is_let_go_when_nothing_is_unfinished(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        peer.upgrade()
        frames = peer.frames()
        peer.send(frame(TEXT, b"half", fin=False) + frame(PING, b"p"))
        assert next(frames) == (PONG, b"p")
        socket = ground.echo.sockets[-1]
        assert socket._frames is not None
        peer.send(frame(CONT, b"whole"))
        assert next(frames) == (TEXT, b"halfwhole")
        until = monotonic() + 5
        while socket._frames is not None:
            assert monotonic() < until
            sleep(0.001)


def test_an_application_that_accepts_in_another_way_has_failed(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        assert peer.upgrade(path=b"/plain") == b"HTTP/1.1 500 Internal Server Error"
        assert peer.rest() == b"Internal Server Error"


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (b"Version: 13", b"Version: 12", b"400"),
        (b"Key: AAAA", b"Key: AA", b"400"),
        (b"Key: AAAA", b"Key: !!!!", b"400"),
        (b"Sec-WebSocket-Key", b"X-Key", b"400"),
        (b"HTTP/1.1", b"HTTP/1.0", b"505"),
        (b"GET", b"PUT", b"405"),
        (b"Upgrade: websocket", b"Upgrade: WebSocket", b"101"),
        (b"Upgrade: websocket", b"Upgrade: websocket\r\nX-More: 1", b"101"),
    ],
)
def test_handshakes_are_judged_as_the_library_judges_them(
    ground: Ground, before: bytes, after: bytes, status: bytes
) -> None:
    with Peer(ground.port) as peer:
        peer.send(HANDSHAKE.replace(before, after) + b"\r\n")
        assert peer.head().split(b" ")[1] == status


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_says_how_long_it_is(ground: Ground, size: int) -> None:
    head = {0: b"\x81\x00", 125: b"\x81\x7d", 126: b"\x81\x7e\x00\x7e", 65_535: b"\x81\x7e\xff\xff"}
    expected = head.get(size, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00")
    assert frame_text(b"*" * size) == expected + b"*" * size
