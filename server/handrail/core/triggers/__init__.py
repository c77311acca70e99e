"""Kinds of `when`: one file each, where the YAML shape and its meaning stand together, joined here.

A hook says by `wakes` which occurrences it is looked up by, and by `wake` whether one of them makes its trigger true.
Idle, dwell and away wake by the clock instead: the engine finds them by their `span`. So do falling counts, by their
tally.
"""

from __future__ import annotations

from handrail.core.triggers.absence import AbsenceWhen, OnAbsence, OnUnprepared
from handrail.core.triggers.away import AwayWhen, OnAway
from handrail.core.triggers.changes import ChangesWhen, OnChange
from handrail.core.triggers.count import CountWhen, OnCount, OnFall
from handrail.core.triggers.delay import DelayWhen, OnDelay
from handrail.core.triggers.dwell import DwellWhen, OnDwell
from handrail.core.triggers.event import EventWhen, OnEvent
from handrail.core.triggers.idle import IdleWhen, OnIdle
from handrail.core.triggers.returns import OnReturn, ReturnsWhen
from handrail.core.triggers.segment import EntersWhen, LeavesWhen, OnSegment
from handrail.core.triggers.sequence import OnSequence, SequenceWhen
from handrail.core.triggers.session import OnSession, SessionWhen

Hook = (
    OnAbsence
    | OnAway
    | OnChange
    | OnCount
    | OnDelay
    | OnDwell
    | OnEvent
    | OnFall
    | OnIdle
    | OnReturn
    | OnSegment
    | OnSequence
    | OnSession
    | OnUnprepared
)
When = (
    AbsenceWhen
    | AwayWhen
    | ChangesWhen
    | CountWhen
    | DelayWhen
    | DwellWhen
    | EntersWhen
    | EventWhen
    | IdleWhen
    | LeavesWhen
    | ReturnsWhen
    | SequenceWhen
    | SessionWhen
)
WHENS: dict[str, type[When]] = {
    "event": EventWhen,
    "count": CountWhen,
    "sequence": SequenceWhen,
    "absence": AbsenceWhen,
    "delay": DelayWhen,
    "idle": IdleWhen,
    "dwell": DwellWhen,
    "away": AwayWhen,
    "returns": ReturnsWhen,
    "enters": EntersWhen,
    "leaves": LeavesWhen,
    "changes": ChangesWhen,
    "session": SessionWhen,
}

__all__ = [
    "WHENS",
    "AbsenceWhen",
    "CountWhen",
    "DelayWhen",
    "Hook",
    "OnAbsence",
    "OnAway",
    "OnCount",
    "OnDelay",
    "OnDwell",
    "OnFall",
    "OnIdle",
    "OnSequence",
    "OnUnprepared",
    "SequenceWhen",
    "When",
]
