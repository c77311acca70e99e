"""Lines of the event log: what a turn did with one event, as JSON.

Most triggers that an event wakes do not fire, and why not is what their rules say: such a line names them, and is
spelt out when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from handrail.core import frames
from handrail.core.effects import Considered, Decision, Effect, Push
from handrail.core.events import Absorb, Event
from handrail.core.program import Program

_encode = msgspec.json.Encoder().encode


class Decided(Protocol):
    @property
    def effects(self) -> tuple[Effect, ...]: ...

    @property
    def trace(self) -> tuple[Considered, ...]: ...

    @property
    def more(self) -> bool: ...


def write(user: str, event: Event, decided: Decided, now: int) -> bytes:
    told: list[Considered] = []
    unmet = _part(decided.trace, told)
    line: dict[str, Any] = {
        "at": event.at,
        "now": now,
        "user": user,
        "event": msgspec.structs.replace(event, parcel=None) if isinstance(event, Absorb) else event,
        "decisions": [effect for effect in decided.effects if isinstance(effect, Decision)],
        "trace": told,
    }
    if unmet:
        line["unmet"] = unmet
    pushed = [effect.frame for effect in decided.effects if isinstance(effect, Push)]
    if prompts := {frame.id: frame.message for frame in pushed if isinstance(frame, frames.Prompt)}:
        line["prompts"] = prompts  # by which what the user does with them can be told
    if decided.more:
        line["more"] = True
    return _encode(line)


def spell_out(line: dict[str, Any], program: Callable[[str], Program]) -> dict[str, Any]:
    """The line with whatever was considered in its `trace`, in the words of the rules its user lives by now."""
    unmet = line.pop("unmet", None)
    if unmet:
        triggers = program(line["user"]).triggers
        line["trace"] += [
            triggers[name].unmet if name in triggers else Considered(trigger=name, outcome="not-met") for name in unmet
        ]
    return line


def _part(trace: tuple[Considered, ...], told: list[Considered]) -> list[str]:
    """The names of those triggers of which they tell it all; the others are added to `told`."""
    unmet = []
    for each in trace:
        if each.outcome == "not-met" and not each.detail:
            unmet.append(each.trigger)
        else:
            told.append(each)
    return unmet
