"""One line whatever is in it, and not more of a kind than somebody can read."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from handrail.logs import PER_SECOND, Cap, escape, escape_lines
from handrail.serving import _log_to_stderr, is_ours

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]")
# Line ends, terminal escapes, C1, bidirectional and zero-width marks, lone surrogates, NUL: what a log must not repeat.
HOSTILE = [
    *("a\nb", "a\r\nb", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\x00b", "a\x08\x08b", "\x7f"),
    *("a\u2028b", "a\u2029b", "a\u202egnp.exe", "a\u200bb", "a\x85b", "a\x0bb", "a\x0cb", "\ud800", "\udfff"),
    *("12:00:00 [error] forged", "\n12:00:00 [error    ] forged line user=root", "%s%n", "{0.__class__}", "\t"),
]


@contextmanager
def logging_in_earnest() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    theirs = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error")]
    found = [(each.propagate, each.disabled, each.level) for each in theirs]
    for each in theirs:  # servers of other tests may have set up logging as uvicorn does by itself
        each.propagate, each.disabled = True, False
        each.setLevel(logging.NOTSET)
    _log_to_stderr("info")
    try:
        yield
    finally:
        for each, (each.propagate, each.disabled, was) in zip(theirs, found, strict=True):
            each.setLevel(was)
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("uvicorn.error").removeFilter(is_ours)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_every_entry_is_one_line_of_plain_text(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with logging_in_earnest():
        log = structlog.get_logger()
        log.warning("it happened", value=text, raw=text.encode("utf-8", "surrogatepass"), more={"deep": [text]})
        log.warning(text)
        logging.getLogger("uvicorn.error").error("Exception: %s", text)
    told = capsys.readouterr().err
    assert not CONTROL.search(told)
    assert [line[:1].isdigit() for line in told.splitlines() if not line.startswith(" ")] == [True] * 3


def test_a_traceback_keeps_its_lines_and_cannot_forge_one(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_in_earnest():
        try:
            raise ValueError("first\n12:00:00 [error    ] forged\x1b[2J")
        except ValueError:
            structlog.get_logger().exception("it failed")
            logging.getLogger("uvicorn.error").exception("it failed")
    told = capsys.readouterr().err
    assert told.count("Traceback") == 2
    assert not CONTROL.search(told)
    assert [line for line in told.splitlines() if line.startswith("12:00:00 [error")] == []


async def test_of_one_kind_ten_a_second_and_how_many_more(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_in_earnest():
        log = structlog.get_logger()
        for number in range(250):
            log.warning("it happened", number=number)
            logging.getLogger("uvicorn.error").error("lost %s", number)
        log.warning("something else")
        assert capsys.readouterr().err.count("\n") == 2 * PER_SECOND + 1
        told = ""
        async with asyncio.timeout(5):
            while told.count("240 more like this") < 2:
                await asyncio.sleep(0.05)
                told += capsys.readouterr().err
    assert "it happened" in told


def test_the_next_of_its_kind_tells_where_no_loop_does(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    cap = Cap(lambda: now[0])
    with logging_in_earnest():
        assert [cap.allows("x") for _ in range(PER_SECOND + 3)].count(True) == PER_SECOND
        now[0] = 1.0
        assert cap.allows("x")
    assert "3 more like this" in capsys.readouterr().err


def test_kinds_without_end_are_not_remembered_without_end() -> None:
    cap = Cap()
    for number in range(5_000):
        assert cap.allows(f"kind {number}")
    assert len(cap._windows) <= 1_000


def test_plain_text_is_left_as_it_is() -> None:
    assert escape("Überraschung, 你好 🙂") == "Überraschung, 你好 🙂"
    assert escape_lines("a\nb\x1bc") == "a\n  b\\x1bc"
