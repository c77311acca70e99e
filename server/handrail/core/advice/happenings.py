"""What the `event` of a trigger can be: its name, and its properties where only the server makes it."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.events import SERVER_EVENTS
from handrail.core.program import Trigger
from handrail.core.triggers import Hook, OnAbsence, OnAway, OnDelay, OnDwell, OnIdle, OnSequence, OnUnprepared
from handrail.core.triggers.changes import OnChange
from handrail.core.triggers.count import OnCount, OnFall
from handrail.core.triggers.event import OnEvent
from handrail.core.triggers.returns import OnReturn
from handrail.core.triggers.segment import OnSegment
from handrail.core.triggers.session import OnSession

PROPERTIES: dict[str, tuple[str, ...]] = {
    "idle": ("for_s",),
    "away": ("for_s",),
    "dwelt": ("step", "for_s"),
    "returned": ("gap_s",),
    "count_fell": ("count",),
    "trait_changed": ("trait", "from", "to"),
    "persona_changed": ("from", "to"),
    "segment_entered": ("segment",),
    "segment_left": ("segment",),
    "session_started": ("session", "number"),
    "session_ended": ("session", "length_s"),
}


class Happening(Struct, frozen=True):
    """An event; `properties` are all it ever has, None where senders choose them."""

    name: str
    properties: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.name} {{{', '.join(self.properties or ())}}}"


def sent(name: str) -> Happening:
    """The event of this name, as triggers and counters wait for it."""
    return Happening(name, PROPERTIES[name] if name in SERVER_EVENTS else None)


def happenings(trigger: Trigger) -> list[Happening] | None:
    """What the trigger's event can be; None where that is not known."""
    found = [_happening(hook) for hook in trigger.hooks]
    known = [each for each in found if each is not None]
    return known if known and len(known) == len(found) else None


def _happening(hook: Hook) -> Happening | None:
    match hook:
        case OnEvent() | OnCount() | OnDelay() | OnSession():
            return sent(hook.wakes[0].removeprefix("event:"))
        case OnSequence():
            return _happening(hook.steps[-1])
        case OnAbsence():
            return _happening(hook.after)
        case OnUnprepared():
            return _happening(hook.before)
        case OnChange():
            changed = "persona_changed" if hook.wakes[0] == "changes:persona" else "trait_changed"
            return Happening(changed, PROPERTIES[changed])
        case OnSegment():
            return sent("segment_entered" if hook.wakes[0].startswith("enters:") else "segment_left")
    name = next((name for kind, name in _MADE.items() if isinstance(hook, kind)), None)
    return Happening(name, PROPERTIES[name]) if name else None


_MADE: dict[type[Hook], str] = {
    OnIdle: "idle",
    OnAway: "away",
    OnDwell: "dwelt",
    OnReturn: "returned",
    OnFall: "count_fell",
}
