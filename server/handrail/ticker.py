"""How far long work has come: one line that changes on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from handrail.core.durations import format_duration

LIVE = 0.2  # seconds between two changes of the line
PLAIN = 5.0  # and between two lines


class Ticker:
    """Writes to `out`. Work that is over sooner than a plain line is due leaves no line there."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._live = out.isatty()
        self._what = ""
        self._began = self._told = clock()
        self._width = 0

    def tell(self, what: str, done: int, total: int) -> None:
        """`done` of `total` events are read or replayed; the total is 0 while it is not known."""
        now = self._clock()
        if what != self._what:
            self._what, self._began = what, now
        if now - self._told < (LIVE if self._live else PLAIN):
            return
        self._told = now
        line = _line(what, done, total, now - self._began)
        if self._live:
            self._out.write(f"\r{line.ljust(self._width)}")
            self._width = len(line)
        else:
            self._out.write(f"{line}\n")
        self._out.flush()

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._width:
            self._out.write(f"\r{' ' * self._width}\r")
            self._out.flush()
            self._width = 0


def _line(what: str, done: int, total: int, seconds: float) -> str:
    if not total:
        return f"{what} {done:,} events"
    line = f"{what} {done:,} of {total:,} events ({done / total:.0%})"
    if not seconds or not done:
        return line
    left = format_duration(int((total - done) * seconds / done) * 1_000)
    return f"{line}, {done / seconds:,.0f} a second, about {left} left"
