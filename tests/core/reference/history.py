"""What goes in and what comes out, and what is kept in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Happening:
    """Something the user does, `now` ms since the epoch; `ago` ms before that, if it is told late."""

    now: int
    kind: str  # track, identify, connect, disconnect, visible, hidden, activity, clock
    name: str = ""
    ago: int = 0
    tab: str = "one"
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fact:
    """An event that was applied: the user's own, or one that the server or the rules made."""

    arrived: int
    at: int
    name: str
    properties: dict[str, Any]
    made: bool = False
    late: bool = False
    depth: int = 0  # how many emits led to it
    own: bool = False  # a happening of its own, not one of several that come with another


@dataclass
class Visit:
    """A session: when it began, when the user was last active in it, and when it was over."""

    start: int
    last: int
    ended: int | None = None


@dataclass(frozen=True)
class Shown:
    """A prompt that was put on the screen."""

    at: int
    message: str
    rank: int


class Decided(NamedTuple):
    at: int
    trigger: str
    action: str
    value: Any


class HeldBack(NamedTuple):
    at: int
    trigger: str
    reason: str
