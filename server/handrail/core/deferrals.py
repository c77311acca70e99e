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


def check_screen(turn: Turn, trigger: Trigger) -> Block | None:
    """Whether another prompt keeps that of the trigger off the screen."""
    shown = turn.state.prompt
    if shown is None or trigger.clears(shown.prompt.message):
        return None
    holder = turn.program.triggers.get(shown.prompt.trigger)
    if trigger.preempt and (holder is None or trigger.rank[0] < holder.rank[0]):
        return None
    return Block("busy", f"'{shown.prompt.message}' is on the screen", shown.expires or None)


def offer_screen(turn: Turn) -> None:
    """What waited for the screen is due once it may have it."""
    waits = turn.state.waits
    if any(_may_show(turn, wait) for wait in waits):
        freed = (replace(each, hook=AFRESH, due=turn.now) if _may_show(turn, each) else each for each in waits)
        turn.state.waits = tuple(sorted(freed, key=lambda each: each.due))


def _may_show(turn: Turn, wait: Wait) -> bool:
    if wait.hook != WHEN_FREE:
        return False
    trigger = None if wait.message else turn.program.triggers.get(wait.trigger)
    return turn.state.prompt is None or (trigger is not None and check_screen(turn, trigger) is None)


def stale(turn: Turn, wait: Wait, trigger: Trigger) -> str:
    """Why a wait that is over leads to nothing; mostly empty."""
    if wait.hook == WHEN_FREE and not _may_show(turn, wait):
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
