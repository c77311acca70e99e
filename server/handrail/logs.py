"""What a log line may be: one line whatever is in it, and not more of a kind than somebody can read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from msgspec import Struct

PER_SECOND = 10  # lines of one kind
SECOND = 1.0
KINDS = 1_000  # remembered at a time

log = structlog.get_logger(__name__)


class _Window(Struct):
    """Lines of a kind within the second that `began`."""

    began: float
    count: int = 0
    held: int = 0


class Cap:
    """Lets PER_SECOND lines of a kind pass; what is held back is told in one line when the second is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def __call__(self, _logger: Any, _level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """As a processor of structlog."""
        if not self.allows(str(line.get("event"))):
            raise structlog.DropEvent
        return line

    def filter(self, record: logging.LogRecord) -> bool:
        """As a filter of logging."""
        return self.allows(str(record.msg))

    def allows(self, kind: str) -> bool:
        now = self._clock()
        window = self._windows.get(kind)
        if window is None or now - window.began >= SECOND:
            self._tell(kind)
            if len(self._windows) >= KINDS:
                self._windows.clear()
            window = self._windows[kind] = _Window(now)
        window.count += 1
        if window.count <= PER_SECOND:
            return True
        window.held += 1
        if window.held == 1:
            self._tell_later(kind)
        return False

    def _tell_later(self, kind: str) -> None:
        try:
            asyncio.get_running_loop().call_later(SECOND, self._tell, kind)
        except RuntimeError:  # outside the loop the next of its kind tells
            return

    def _tell(self, kind: str) -> None:
        window = self._windows.get(kind)
        if window is not None and window.held:
            held, window.held = window.held, 0
            log.warning(f"{held} more like this", like=kind)


def escape(text: str) -> str:
    """Without anything that a terminal obeys or that begins a new line: such characters become backslash escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def escape_lines(text: str) -> str:
    """As `escape`, but for line ends: every further line is indented, so that it cannot pass for one of the log's."""
    return "\n  ".join(map(escape, text.split("\n")))


def escape_values(_logger: Any, _level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog; tracebacks, as text under `exception`, keep their lines."""
    for key, value in line.items():
        if isinstance(value, bytes | str):
            text = value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
            line[key] = escape_lines(text) if key == "exception" else escape(text)
        elif not isinstance(value, bool | int | float | None):
            line[key] = escape(repr(value))
    return line


class PlainFormatter(logging.Formatter):
    """What libraries log, made harmless in the same way."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_lines(super().format(record))
