"""An explanation as text to read, a line each."""

from __future__ import annotations

from collections.abc import Iterator

from handrail.core.durations import format_duration
from handrail.core.explain import Bound, Explanation, Outlook, Part
from handrail.core.patience import Waiting
from handrail.core.scope import iso

_VERDICTS = {
    "fires": "it would fire if it came true now",
    "depends": "whether it would fire depends on the event",
    "not-met": "it would not fire: its condition does not hold",
    "off": "it is left out",
}
_VALUES = {True: "true", False: "false", None: "depends on the event"}


def report(told: Explanation) -> Iterator[str]:
    """What `handrail explain` prints."""
    yield f"{told.trigger} for {told.user}, {iso(told.at)}: {_verdict(told)}"
    yield from _rows("when", [_when(each, told.at) for each in told.when])
    yield from _rows("if", list(_condition(told)))
    if not told.session:
        yield from _rows("session", ["none is open: the user's next activity begins one, and counts per session anew"])
    for bound in told.bounds:
        yield from _rows(bound.reason, [_bound(bound, told.at)])
    yield from _rows("fired", [_times(told.fired)])
    if told.verdict == "off":
        return
    yield from _rows("next", [_free(told)])
    yield from _rows("ahead", [_outlook(each, told.at) for each in told.ahead] or ["nothing, by time alone"])


def _verdict(told: Explanation) -> str:
    if told.verdict == "suppressed":
        return f"it would not fire: {told.reason} ({told.detail})"
    if told.verdict == "off":
        return f"{_VERDICTS['off']}: {told.detail}"
    failing = f", but fail ({told.detail})" if told.detail and told.verdict != "not-met" else ""
    return _VERDICTS[told.verdict] + failing


def _rows(name: str, rows: list[str]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield f"  {'' if number else name:<10}{row}"


def _when(waiting: Waiting, now: int) -> str:
    return f"{waiting.form}: {waiting.detail}" + (f"; due at {_instant(waiting.due, now)}" if waiting.due else "")


def _condition(told: Explanation) -> Iterator[str]:
    if told.condition is not None:
        yield _part(told.condition)
        yield from (f"  {_part(each)}" for each in told.operands)


def _part(part: Part) -> str:
    source = " ".join(part.source.split())
    aside = "; ".join(filter(None, (part.error, part.detail)))
    return f"{source}: {_VALUES[part.value]}" + (f" ({aside})" if aside else "")


def _bound(bound: Bound, now: int) -> str:
    counted = "" if bound.allowed is None else f"{bound.used} of {bound.allowed} used"
    said = ", ".join(filter(None, (counted, "" if counted else bound.detail)))
    ends = f", until {_instant(bound.until, now)}" if bound.until else ""
    state = f"{said or 'it holds back'}: held back{ends}" if bound.holding else said or "free"
    return f"{bound.rule}: {state}" if bound.rule else state


def _times(fired: tuple[int, ...]) -> str:
    return ", ".join(iso(at) for at in fired[-5:]) or "never, as far as is remembered"


def _free(told: Explanation) -> str:
    if told.free_at is None:
        return "something holds it back that time alone does not end"
    failing = told.verdict == "not-met"
    if told.free_at <= told.at:
        return "nothing holds it back" + (" but its condition" if failing else "")
    if failing:
        return f"from {_instant(told.free_at, told.at)} on nothing holds it back but its condition"
    return f"could next fire at {_instant(told.free_at, told.at)}, when nothing holds it back any more"


def _outlook(ahead: Outlook, now: int) -> str:
    reason = f", {ahead.reason}" if ahead.reason else ""
    return f"at {_instant(ahead.at, now)}: {ahead.outcome}{reason}{f' ({ahead.detail})' if ahead.detail else ''}"


def _instant(at: int, now: int) -> str:
    return f"{iso(at)} (in {format_duration(max(0, at - now))})"
