"""Readers that take nothing or too little, and senders that are too fast."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic, sleep

import pytest

from echoing import BINARY, TEXT, Ground, Peer, Slow, close, echoing, frame
from handrail.edge import channel, rounds


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A server that is short of patience."""
    monkeypatch.setattr(rounds, "TICK", 0.1)
    monkeypatch.setattr(channel, "LIVE_PATIENCE", 5)  # ticks, here
    monkeypatch.setattr(channel, "PLAIN_PATIENCE", 20)
    with echoing() as running:
        yield running


def ask(ground: Ground, path: bytes) -> Peer:
    peer = Peer(ground.port, receive_buffer=4_096)
    peer.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    return peer


def drip(ground: Ground, peer: Peer) -> float:
    """Take a hundred bytes now and then, until the server has enough of it; how long that was."""
    start = monotonic()
    while not ground.counts:
        assert monotonic() - start < 10
        peer.socket.recv(100)
        sleep(0.05)
    assert ground.counts == {"cut_slow_readers": 1}
    return monotonic() - start


def test_who_takes_a_little_of_what_is_live_is_cut(ground: Ground) -> None:
    with ask(ground, b"/updates/sse?300000") as peer:
        assert 0.4 < drip(ground, peer) < 1.5


def test_of_a_plain_answer_one_may_take_longer(ground: Ground) -> None:
    with ask(ground, b"/large?300000") as peer:
        assert 1.8 < drip(ground, peer) < 4


def test_who_takes_all_in_time_is_not_cut(ground: Ground) -> None:
    with Peer(ground.port) as peer:
        peer.send(b"GET /updates/sse?3000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert peer.head() == b"HTTP/1.1 200 OK"
        peer.pause(0.3)
        assert len(peer.rest()) > 3_000_000
    assert ground.counts == {}


def test_who_takes_nothing_at_all_is_gone_in_six_seconds() -> None:
    with echoing() as ground, ask(ground, b"/large?1000000"), ask(ground, b"/updates/sse?1000000"):
        start = monotonic()
        while ground.counts != {"cut_stalled_readers": 2}:
            assert monotonic() - start < 7, ground.counts
            sleep(0.05)


def test_who_sends_too_fast_is_read_no_faster_than_that(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "RATE", 200_000)
    monkeypatch.setattr(channel, "BURST", 50_000)
    with Peer(ground.port) as peer:
        peer.upgrade()
        start = monotonic()
        for number in range(20):
            peer.send(frame(BINARY, b"%2d" % number + b"x" * 9_998))
        heard = peer.frames()
        assert [next(heard)[1][:2] for _ in range(20)] == [b"%2d" % number for number in range(20)]
        peer.send(frame(TEXT, b"now?"))
        assert next(heard) == (TEXT, b"now?")
        assert 0.6 < monotonic() - start < 3  # 200 kB, less 50, at 200 kB/s
        peer.send(close(1000))
    assert ground.counts["ws_throttled"] >= 1


def test_a_goodbye_that_is_not_taken_does_not_keep_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LINGER", 0.3)
    with ExitStack() as stack:
        with echoing() as ground:
            peer = stack.enter_context(Peer(ground.port, receive_buffer=4_096))
            peer.upgrade()
            for _ in range(5):  # of which the last echoes stay with the server
                peer.send(frame(BINARY, b"x" * 60_000))
            peer.pause(0.1)
            asked = monotonic()
        assert monotonic() - asked < 3  # it stopped: there was nobody left to wait for


@pytest.mark.parametrize("wrong", [frame(TEXT, b"\xff"), frame(TEXT, b"a", key=None)], ids=["text", "frame"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_who_is_refused_may_have_gone_while_nobody_read(
    monkeypatch: pytest.MonkeyPatch, wrong: bytes, loop: str
) -> None:
    """The closing frame then brings a reset. The application is told, and what it still writes goes nowhere."""

    def rest(self: Slow) -> None:
        self.socket.pause_reading()
        asyncio.get_running_loop().call_later(0.1, self.socket.resume_reading)

    def ended(self: Slow, code: int) -> None:
        self.socket.write(b"once more")
        self._closed.append(code)

    monkeypatch.setattr(Slow, "_rest", rest)
    monkeypatch.setattr(Slow, "ended", ended)
    with echoing(loop=loop) as ground:
        with Peer(ground.port) as peer:
            peer.upgrade(path=b"/slow")
            peer.send(frame(TEXT, b"a") + wrong)
            peer.socket.recv(3)
        end = monotonic() + 0.8  # before it would have been cut anyhow
        while not ground.echo.closed and monotonic() < end:
            sleep(0.01)
        assert ground.echo.closed in ([1007], [1002])
