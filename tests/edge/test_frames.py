"""RFC 6455 as a table of raw bytes: what the server makes of every kind of frame, right and wrong."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import pytest

from echoing import BINARY, CLOSE, CONT, PING, PONG, TEXT, Echoes, Ground, Peer, close, echoing, frame
from handrail.edge.frames import CONTROL_BURST, MAX_EMPTY, MAX_FRAGMENTS
from handrail.edge.websocket import PIECE, TURN

LARGEST = 65_536
MANY = 5_000
EURO = "€".encode()
Frames = list[tuple[int, bytes]]


class Case(NamedTuple):
    """What is sent, what comes back, and the code of the closing frame that follows (0: it has none; None: none does,
    and the connection is still of use)."""

    name: str
    sent: bytes
    code: int | None
    heard: tuple[tuple[int, bytes], ...] = ()


def echoes(name: str, sent: bytes, *heard: tuple[int, bytes]) -> Case:
    return Case(name, sent, None, heard)


def refused(name: str, sent: bytes, code: int = 1002) -> Case:
    return Case(name, sent, code)


def text(payload: bytes, *, fin: bool = True) -> bytes:
    return frame(TEXT, payload, fin=fin)


def more(payload: bytes, *, fin: bool = False) -> bytes:
    return frame(CONT, payload, fin=fin)


def lengths() -> Iterator[Case]:
    for size in (0, 1, 125, 126, 127, 128, 65_535, LARGEST):
        yield echoes(f"text of {size}", text(b"*" * size), (TEXT, b"*" * size))
        yield echoes(f"binary of {size}", frame(BINARY, b"\xfe" * size), (BINARY, b"\xfe" * size))
    for form, size in ((126, 0), (126, 5), (127, 5), (127, 200)):  # the sender's fault; harmless, and taken everywhere
        sent = frame(TEXT, b"*" * size, form=form)
        yield echoes(f"{size} bytes, length written as {form}", sent, (TEXT, b"*" * size))
    yield refused("one byte too many", text(b"*" * (LARGEST + 1)), 1009)
    for size in (LARGEST + 1, 16 * 2**20, 2**31, 2**62, 2**63, 2**64 - 1):
        yield refused(f"claims {size} bytes", frame(TEXT, size=size), 1009)
        yield refused(f"claims {size} bytes of binary", frame(BINARY, size=size), 1009)


def masking() -> Iterator[Case]:
    for opcode in (TEXT, BINARY, CONT, PING, PONG, CLOSE):
        yield refused(f"opcode {opcode} unmasked", frame(opcode, key=None))
    yield refused("unmasked after masked", text(b"a", fin=False) + frame(CONT, b"b", key=None))
    yield echoes("a key of zeros", frame(TEXT, b"hello", key=bytes(4)), (TEXT, b"hello"))
    yield echoes("a key of ones", frame(TEXT, b"hello", key=b"\xff" * 4), (TEXT, b"hello"))


def bits() -> Iterator[Case]:
    for reserved in range(1, 8):
        yield refused(f"text with reserved bits {reserved}", frame(TEXT, b"a", reserved=reserved))
    for opcode in (BINARY, PING, PONG, CLOSE):
        for reserved in (1, 2, 4):
            yield refused(f"opcode {opcode} with reserved bits {reserved}", frame(opcode, reserved=reserved))
    yield refused("continuation with a reserved bit", text(b"a", fin=False) + frame(CONT, b"b", reserved=4))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield refused(f"opcode {opcode}", frame(opcode))
        yield refused(f"opcode {opcode} in a message", text(b"a", fin=False) + frame(opcode, b"b"))


def control() -> Iterator[Case]:
    for payload in (b"", b"a", b"\x00\xff\xfe", b"*" * 125):
        yield echoes(f"ping of {len(payload)}", frame(PING, payload), (PONG, payload))
        yield echoes(f"unasked pong of {len(payload)}", frame(PONG, payload))
    yield echoes(
        "ten pings", b"".join(frame(PING, b"%d" % n) for n in range(10)), *[(PONG, b"%d" % n) for n in range(10)]
    )
    for opcode in (PING, PONG, CLOSE):
        yield refused(f"control {opcode} of 126", frame(opcode, b"\x03\xe8" + b"*" * 124))
        yield refused(f"control {opcode} in fragments", frame(opcode, b"\x03\xe8", fin=False))
        yield refused(f"control {opcode} with a long length", frame(opcode, b"\x03\xe8" + b"*" * 200, form=127))


def fragments() -> Iterator[Case]:
    yield echoes("two fragments", text(b"a", fin=False) + more(b"b", fin=True), (TEXT, b"ab"))
    yield echoes("binary in two", frame(BINARY, b"\x00", fin=False) + more(b"\xff", fin=True), (BINARY, b"\x00\xff"))
    yield echoes("an empty one first", text(b"", fin=False) + more(b"b", fin=True), (TEXT, b"b"))
    yield echoes("an empty one last", text(b"a", fin=False) + more(b"", fin=True), (TEXT, b"a"))
    yield echoes("none but empty ones", text(b"", fin=False) + more(b"") + more(b"", fin=True), (TEXT, b""))
    yield echoes("the most", text(b"a", fin=False) + more(b"b") * (MAX_FRAGMENTS - 2) + more(b"c", fin=True),
                 (TEXT, b"a" + b"b" * (MAX_FRAGMENTS - 2) + b"c"))  # fmt: skip
    yield echoes("two messages", (text(b"a", fin=False) + more(b"b", fin=True)) * 2, (TEXT, b"ab"), (TEXT, b"ab"))
    for opcode in (PING, PONG):
        answer = [(PONG, b"p")] if opcode == PING else []
        sent = text(b"a", fin=False) + frame(opcode, b"p") + more(b"b", fin=True)
        yield echoes(f"control {opcode} between them", sent, *answer, (TEXT, b"ab"))
    yield Case("close between them", text(b"a", fin=False) + close(1000) + more(b"b", fin=True), 1000)
    yield refused("a continuation of nothing", more(b"a", fin=True))
    yield refused("an open continuation of nothing", more(b"a"))
    yield refused("text in text", text(b"a", fin=False) + text(b"b"))
    yield refused("binary in text", text(b"a", fin=False) + frame(BINARY, b"b"))
    yield refused("text in binary", frame(BINARY, b"a", fin=False) + text(b"b", fin=False))
    yield refused("too large together", text(b"*" * 40_000, fin=False) + more(b"*" * 40_000, fin=True), 1009)
    yield refused("too large at the third", text(b"*" * 65_535, fin=False) + more(b"*") + more(b"*"), 1009)
    yield refused("too many", text(b"a", fin=False) + more(b"b") * MAX_FRAGMENTS, 1008)
    yield refused("too many empty ones", text(b"a", fin=False) + more(b"") * (MAX_EMPTY + 1), 1008)


def encodings() -> Iterator[Case]:
    for good in ("κόσμε", "\ufeff", "\ufffe\uffff", "\U0010ffff", "\x00", "\ud7ff\ue000", "🜁" * 100):
        data = good.encode()
        yield echoes(f"text {data[:12]!r}", text(data), (TEXT, data))
        half = len(data) // 2
        yield echoes(
            f"text {data[:12]!r} cut within", text(data[:half], fin=False) + more(data[half:], fin=True), (TEXT, data)
        )
    wrong = [
        b"\x80", b"\xbf", b"\xfe", b"\xff", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
        b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    ]  # fmt: skip
    for data in wrong:
        yield refused(f"text {data[:12]!r}", text(data), 1007)
        yield refused(f"text {data[:12]!r} after a fragment", text(b"fine", fin=False) + more(data, fin=True), 1007)
    yield refused("text that stops within a character", text(EURO[:1], fin=False) + more(EURO[1:2], fin=True), 1007)
    yield refused("a reason that is no UTF-8", close(1000, b"\xff"), 1007)


def closing() -> Iterator[Case]:
    yield Case("close without a code", frame(CLOSE), 0)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"close {code}", close(code), code)
    yield Case("close with a reason", close(1000, b"*" * 123), 1000)
    yield Case("close with a reason in UTF-8", close(1000, EURO), 1000)
    yield Case("words after the close", close(1000) + text(b"a") + frame(PING), 1000)
    yield Case("nonsense after the close", close(1000) + b"\xff" * 50, 1000)
    yield Case("two closes", close(1000) + close(1001), 1000)
    yield refused("close of one byte", frame(CLOSE, b"\x03"))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield refused(f"close {code}", close(code))


CASES = [*lengths(), *masking(), *bits(), *control(), *fragments(), *encodings(), *closing()]
SMALL = [case for case in CASES if len(case.sent) <= 400]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with echoing() as running:
        yield running


def converse(ground: Ground, pieces: Iterable[bytes], expected: int | None = None) -> tuple[Frames, int]:
    """What the server says to these, and the code it closes with. If it is `expected` to say so much and stay, the peer
    closes then, with 1000."""
    with Peer(ground.port) as peer:
        assert peer.upgrade() == b"HTTP/1.1 101 Switching Protocols"
        for piece in pieces:
            peer.send(piece)
        frames = peer.frames()
        heard = list(islice(frames, expected or 0))
        if expected is not None:
            peer.send(close(1000))
        heard += frames
    assert heard, "the server closed without a word"
    opcode, payload = heard.pop()
    assert opcode == CLOSE
    return heard, struct.unpack("!H", payload[:2])[0] if payload else 0


def check(ground: Ground, case: Case, pieces: Iterable[bytes]) -> None:
    expected = len(case.heard) if case.code is None else None
    assert converse(ground, pieces, expected) == (list(case.heard), 1000 if case.code is None else case.code)


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(CASES) >= 180
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_at_once(ground: Ground, case: Case) -> None:
    check(ground, case, [case.sent])


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_byte_by_byte(ground: Ground, case: Case) -> None:
    check(ground, case, (bytes([byte]) for byte in case.sent))


def test_a_flood_of_pings_is_answered_up_to_the_budget(ground: Ground) -> None:
    heard, code = converse(ground, [frame(PING, b"p") * (CONTROL_BURST * 4)])
    assert code == 1008
    assert CONTROL_BURST <= len(heard) <= CONTROL_BURST + 8


@pytest.mark.parametrize("path", [b"/updates", b"/slow"])
def test_a_goodbye_is_answered_after_all_that_was_said_before_it(ground: Ground, path: bytes) -> None:
    sent = frame(PING, b"p") + text(b"one") + frame(BINARY, b"two") + text(b"thr", fin=False) + more(b"ee", fin=True)
    with Peer(ground.port) as peer:
        peer.upgrade(path=path)
        peer.send(sent + close(4321))
        heard = list(peer.frames())
    assert heard[-1] == (CLOSE, struct.pack("!H", 4321))
    assert [each for each in heard if each[0] != PONG][:-1] == [(TEXT, b"one"), (BINARY, b"two"), (TEXT, b"three")]


@pytest.mark.parametrize(
    "begin",
    [b"", frame(PING), frame(BINARY, b"b"), text(b"a", fin=False) + more(b"b", fin=True)],
    ids=["text", "ping", "binary", "fragments"],
)
def test_thousands_of_tiny_frames_at_once_do_not_keep_the_others_waiting(
    ground: Ground, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they begin, only so many are taken before other connections have their turn."""
    told: list[int] = []  # how often the loop had turned when each message was told
    turns = 0

    def turn(loop: asyncio.AbstractEventLoop) -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn, loop) if len(told) < MANY else None

    def note(self: Echoes, data: bytes) -> None:
        if not told:
            turn(asyncio.get_running_loop())
        told.append(turns)
        if len(told) == MANY:
            self.socket.close(4000, "")

    monkeypatch.setattr(Echoes, "text", note)
    monkeypatch.setattr(Echoes, "binary", note)
    with Peer(ground.port) as peer:
        peer.upgrade()
        peer.send(begin + text(b"") * MANY)
        assert list(peer.frames())[-1][0] == CLOSE
    assert max(Counter(told).values()) <= PIECE // len(text(b"")) + TURN


def test_the_application_hears_how_it_ended_and_the_branch_is_counted() -> None:
    with echoing() as ground:
        for sent in (close(4000), frame(TEXT, b"\xff"), frame(3), frame(TEXT, size=2**31), frame(PING) * 100):
            converse(ground, [sent])
    assert sorted(ground.echo.closed) == [1002, 1007, 1008, 1009, 4000]
    assert ground.counts == {
        "ws_refused_text": 1,
        "ws_refused_frames": 1,
        "ws_refused_size": 1,
        "ws_refused_control": 1,
    }
