"""What no script may do: run without a bound, or find a fault after it has begun to write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import handrail.store

SCRIPTS = sorted(Path(handrail.store.__file__).parent.glob("*.lua"))
WRITES = {"SET", "DEL", "PEXPIRE", "HSET", "HSETNX", "HDEL", "ZADD", "ZREM", "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK"}
WRITES |= {"XADD", "PUBLISH", "SPUBLISH"}
WRITE = re.compile(rf"call\('({'|'.join(WRITES)})'")
CALL = re.compile(r"(?<![\w.])(?:redis\.)?p?call\((?P<what>[^,)]*)")
REFUSAL = re.compile(r"error_reply|refuse\(|\berror\(|\bassert\(")
READS = {"GETRANGE", "GET", "HGET", "HLEN", "XLEN", "XREVRANGE", "ZCARD", "ZSCORE"}


def code_of(script: Path) -> list[str]:
    return [line.partition("--")[0].rstrip() for line in script.read_text("utf-8").splitlines()]


def test_there_are_scripts_to_look_at_and_few() -> None:
    assert 4 <= len(SCRIPTS) <= 8


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_loops_are_counted_ones(script: Path) -> None:
    for number, line in enumerate(code_of(script), 1):
        assert not re.search(r"\b(while|repeat|goto)\b", line), f"{script.name}:{number}: a loop without a bound"
        assert "in pairs" not in line, f"{script.name}:{number}: an order that differs from run to run"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_command_is_known_to_be_a_read_or_a_write(script: Path) -> None:
    for number, line in enumerate(code_of(script), 1):
        for found in CALL.finditer(line):
            name = found["what"].strip("'")
            assert name in READS | WRITES, f"{script.name}:{number}: {name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_nothing_is_refused_after_the_first_write(script: Path) -> None:
    """A write right before a `return` ends its branch; all others come after every refusal."""
    lines = code_of(script)
    writes = [
        number
        for number, line in enumerate(lines)
        if WRITE.search(line) and not re.match(r"\s*return\b", lines[number + 1] if number + 1 < len(lines) else "")
    ]
    refusals = [number for number, line in enumerate(lines) if REFUSAL.search(line)]
    if writes and refusals:
        assert max(refusals) < min(writes), f"{script.name}:{max(refusals) + 1}: refused after line {min(writes) + 1}"
