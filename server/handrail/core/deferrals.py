"""Putting off: a trigger that is held back for now and decided afresh later, `if`, limits and all.

Each is a wait in the state. One for a known instant falls due then; one for a free screen falls due when its span is
over, unless the screen is free before. A silence (idle, away) that the user has broken is not spoken of later.
"""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core.policy import Block
from handrail.core.program import Trigger
from handrail.core.reentry import enter
from handrail.core.scope import Occurrence, iso
from handrail.core.state import AFRESH, WHEN_FREE, Wait
from handrail.core.stays import is_watched
from handrail.core.triggers import OnAway, OnIdle
from handrail.core.turn import Turn


def put_off(turn: Turn, trigger: Trigger, occurrence: Occurrence, block: Block) -> str:
    """Arm a wait for the end of the block, if the rules say so; what is said of it in the trace."""
    if trigger.prompts and occurrence.late:
        return ""
    hook, due, last = _when(turn, trigger, occurrence, block)
    if due is None or due <= turn.now:
        return ""
    turn.arm(
        Wait(
            due=due,
            trigger=trigger.name,
            hook=hook,
            rule=trigger.rule,
            name=occurrence.name,
            properties=occurrence.properties,
            until=last,
            entry=enter(turn, trigger, occurrence),
        )
    )
    return f"; decided afresh {'when it is free, before' if hook == WHEN_FREE else 'at'} {iso(due)}"


def _when(turn: Turn, trigger: Trigger, occurrence: Occurrence, block: Block) -> tuple[int, int | None, int]:
    """(kind of wait, its end or None for no wait, the last instant that counts or 0)."""
    if block.reason == "quiet":
        return AFRESH, block.until if turn.program.policy.quiet_defers else None, 0
    if not trigger.defer or block.reason not in ("cap", "gap", "busy"):
        return AFRESH, None, 0
    last = occurrence.until or turn.now + trigger.defer
    if block.reason == "busy":
        return WHEN_FREE, last, last
    return AFRESH, block.until if block.until is not None and block.until <= last else None, last


def offer_screen(turn: Turn) -> None:
    """With the screen free, what waited for it is due."""
    waits = turn.state.waits
    if turn.state.prompt is None and any(wait.hook == WHEN_FREE for wait in waits):
        freed = (replace(each, hook=AFRESH, due=turn.now) if each.hook == WHEN_FREE else each for each in waits)
        turn.state.waits = tuple(sorted(freed, key=lambda each: each.due))


def stale(turn: Turn, wait: Wait, trigger: Trigger) -> str:
    """Why a wait that is over leads to nothing; mostly empty."""
    if wait.hook == WHEN_FREE and turn.state.prompt is not None:
        return "the screen was not free in time"
    if wait.hook in (AFRESH, WHEN_FREE) and trigger.prompts and not is_watched(turn.state):
        return "nobody is looking any more"
    return ""


def break_silence(turn: Turn) -> None:
    """The user is back: what was put off because they did nothing, or were away, is dropped."""
    for wait in turn.state.waits:
        trigger = turn.program.triggers.get(wait.trigger)
        if wait.hook in (AFRESH, WHEN_FREE) and trigger is not None and _of_silence(wait, trigger):
            turn.state.waits = tuple(each for each in turn.state.waits if each is not wait)
            turn.note(trigger.name, "cancelled", detail="the user is back")


def _of_silence(wait: Wait, trigger: Trigger) -> bool:
    return wait.name in ("idle", "away") and any(isinstance(hook, OnAway | OnIdle) for hook in trigger.hooks)
