"""When each form of `when` is true, asked of the whole history."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

from reference.conditions import holds, value
from reference.history import Fact
from reference.spans import length
from reference.world import World

Form = dict[str, Any]


def matches(pattern: Form, world: World, fact: Fact) -> bool:
    return fact.name == pattern["event"] and holds(pattern.get("where"), world, fact)


def on_fact(form: Form, trigger: Form, world: World, fact: Fact) -> bool:
    """Whether this form comes true on the fact that was added to the log last."""
    if "event" in form:
        return matches(form, world, fact)
    if "count" in form:
        return reaches(form["count"], world, fact)
    if "session" in form:
        return fact.made and fact.name == f"session_{form['session']}"
    if "enters" in form or "leaves" in form:
        name, segment = ("segment_entered", form["enters"]) if "enters" in form else ("segment_left", form["leaves"])
        return fact.made and fact.name == name and bool(fact.properties["segment"] == segment)
    if "changes" in form:
        return fact.name == "trait_changed" and bool(form["changes"] == f"traits.{fact.properties['trait']}")
    if "returns" in form:
        return fact.name == "returned" and bool(fact.properties["gap"] >= length(form["returns"]["after"]))
    if "sequence" in form:
        return completes(form["sequence"], trigger, world, fact)
    if "absence" in form and "before" in form["absence"]:
        return is_unprepared(form["absence"], world, fact)
    return False


def reaches(form: Form, world: World, fact: Fact) -> bool:
    if not (matches(form, world, fact) and world.is_in(form, fact)):
        return False
    before = world.count(form["event"], form, world.log[:-1])
    return bool(before < form["at_least"] <= world.count(form["event"], form, world.log))


def since_cancelled(trigger: Form, world: World) -> int:
    """The place in the log behind the latest event that cancels what the trigger waits for."""
    return max(
        (
            place + 1
            for place, fact in enumerate(world.log)
            if any(matches(each, world, fact) for each in trigger.get("cancel_on", []))
        ),
        default=0,
    )


# --- sequence ---


def completes(form: Form, trigger: Form, world: World, last: Fact) -> bool:
    """Whether the last fact of the log ends a match of facts that no match before it used."""
    return len(world.log) - 1 in match_ends(form, trigger, world)


def match_ends(form: Form, trigger: Form, world: World) -> list[int]:
    ends: list[tuple[int, Any]] = []
    reset = 0
    for place, fact in enumerate(world.log):
        if any(matches(each, world, fact) for each in trigger.get("cancel_on", [])):
            reset = place  # the event that cancels may begin anew
        key = value(form.get("key"), world, fact)
        if key is None or not matches(form["steps"][-1], world, fact):
            continue
        free = max([reset] + [end + 1 for end, other in ends if other == key])
        if any(is_match(form, world, (*chosen, place)) for chosen in combinations(range(free, place), steps(form) - 1)):
            ends.append((place, key))
    return [end for end, _ in ends]


def steps(form: Form) -> int:
    return len(form["steps"])


def is_match(form: Form, world: World, places: tuple[int, ...]) -> bool:
    facts = [world.log[place] for place in places]
    keys = {value(form.get("key"), world, fact) for fact in facts}
    between = [fact for place, fact in enumerate(world.log[: places[-1]]) if place > places[0] and place not in places]
    return (
        all(matches(step, world, fact) for step, fact in zip(form["steps"], facts, strict=True))
        and len(keys) == 1
        and all(one.at <= other.at for one, other in pairwise(facts))
        and ("within" not in form or facts[-1].at - facts[0].at < length(form["within"]))
        and (form.get("contiguity") != "strict" or all(fact.made for fact in between))
    )


# --- absence and delay ---


def is_unprepared(form: Form, world: World, fact: Fact) -> bool:
    key = value(form.get("key"), world, fact)
    if key is None or not matches(form["before"], world, fact):
        return False
    span = length(form["for"]) if "for" in form else None
    return not any(
        matches(form["of"], world, other)
        and value(form.get("key"), world, other) == key
        and other.at <= fact.at
        and (span is None or other.at > fact.at - span)
        for other in world.log[:-1]
    )


def waits(form: Form, trigger: Form, world: World) -> list[tuple[int, int]]:
    """(place in the log of what began it, when it is over) of every wait, over or not, that nothing ended in time."""
    return delays(form["delay"], trigger, world) if "delay" in form else absences(form["absence"], trigger, world)


def delays(form: Form, trigger: Form, world: World) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for place, fact in enumerate(world.log):
        if any(matches(each, world, fact) for each in trigger.get("cancel_on", [])):
            found = [(start, over) for start, over in found if over <= fact.arrived]
        if matches(form["after"], world, fact):
            found.append((place, max(fact.arrived, fact.at + length(form["for"]))))
    return found


def absences(form: Form, trigger: Form, world: World) -> list[tuple[int, int]]:
    span = length(form["for"])
    found: list[tuple[int, int]] = []
    pending: dict[Any, int] = {}
    for place, fact in enumerate(world.log):
        for key, start in list(pending.items()):
            if over(world, start, span) <= fact.arrived and world.log[start].arrived < fact.arrived:
                found.append((start, over(world, start, span)))
                del pending[key]
        if any(matches(each, world, fact) for each in trigger.get("cancel_on", [])):
            pending = {}
        key = value(form.get("key"), world, fact)
        if key is None:
            continue
        if matches(form["of"], world, fact) and key in pending and world.log[pending[key]].at <= fact.at:
            del pending[key]
        is_newest = key not in pending or world.log[pending[key]].at <= fact.at
        if is_newest and matches(form["after"], world, fact) and not is_answered(form, world, place, key):
            pending[key] = place
    return found + [(start, over(world, start, span)) for start in pending.values()]


def over(world: World, start: int, span: int) -> int:
    return max(world.log[start].arrived, world.log[start].at + span)


def is_answered(form: Form, world: World, start: int, key: Any) -> bool:
    """Whether a later `of` was told before this start."""
    return any(
        matches(form["of"], world, other)
        and value(form.get("key"), world, other) == key
        and other.at > world.log[start].at
        for other in world.log[:start]
    )


# --- stillness ---


def stillness(form: Form, world: World) -> tuple[int, int] | None:
    """(since when the user does nothing, when that is as long as the form says), if this is being counted at all."""
    last = world.last_activity
    if last is None:
        return None
    if "away" in form:
        return None if world.tabs else (last, last + length(form["away"]))
    idle = form["idle"] if isinstance(form["idle"], dict) else {"for": form["idle"]}
    reader = bool(world.tabs) if idle.get("hidden") == "count" else world.is_looking
    if world.visit is None or not reader or ("step" in idle and current_step(world) != idle["step"]):
        return None
    return last, last + length(idle["for"])


def current_step(world: World) -> str | None:
    """The step viewed last, if it was neither completed nor skipped since."""
    step = None
    for fact in world.log:
        if fact.name == "step_viewed":
            step = fact.properties.get("step")
        elif fact.name in ("step_completed", "step_skipped") and fact.properties.get("step") == step:
            step = None
    return step


# --- dwell ---


def stay(form: Form, world: World) -> tuple[int, int] | None:
    """(place in the log where the stay on the step began, ms of somebody there since), if the user is on it."""
    began: int | None = None
    for place, fact in enumerate(world.log):
        if fact.name == "step_viewed":
            if fact.properties.get("step") != form["step"]:
                began = None
            elif began is None or visit_at(world, fact.at) != visit_at(world, world.log[began].at):
                began = place
        elif fact.name in ("step_completed", "step_skipped") and fact.properties.get("step") == form["step"]:
            began = None
    return None if began is None else (began, time_spent(world, world.log[began].at))


def visit_at(world: World, at: int) -> int:
    return sum(visit.start <= at for visit in world.visits)


def time_spent(world: World, since: int) -> int:
    """Adds up the stretches between edges in which a tab was visible and the user active shortly before."""
    active = world.session_limit("active")
    edges = {since, world.now} | {at for at, _ in world.looks} | {at for at, _ in world.activity}
    edges |= {at + active for _, at in world.activity}
    inside = sorted(edge for edge in edges if since <= edge <= world.now)
    return sum(end - start for start, end in pairwise(inside) if is_there(world, start, active))


def is_there(world: World, at: int, active: int) -> bool:
    visible = [visible for since, visible in world.looks if since <= at]
    latest = max((active_at for told, active_at in world.activity if active_at <= at), default=None)
    return bool(visible) and visible[-1] and latest is not None and at < latest + active
