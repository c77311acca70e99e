"""Two histories of one person made into one, part by part: `mine` is the known user's, `theirs` the visitor's."""

from __future__ import annotations

from typing import Any

from handrail.core import reentry
from handrail.core.counters import KEPT, Counter
from handrail.core.flows import FURTHER
from handrail.core.memory import KEYS
from handrail.core.program import Program
from handrail.core.state import PURPOSES_MAX, STEPS_MAX, SURVEYS_MAX, TRAITS_MAX, Memory, Session, State, Tally, Wait
from handrail.core.triggers import Hook, OnSequence, OnUnprepared
from handrail.core.triggers.absence import TIMES
from handrail.core.triggers.count import OnCount

Times = tuple[int, ...]


def traits(mine: State, theirs: State) -> dict[str, Any]:
    """The user's; the visitor's fill in what is missing, unless it was removed since."""
    missing = [name for name in theirs.traits if name not in mine.traits and _is_news(name, mine, theirs)]
    filled = missing[: max(0, TRAITS_MAX - len(mine.traits))]
    return mine.traits | {name: theirs.traits[name] for name in filled}


def _is_news(trait: str, mine: State, theirs: State) -> bool:
    return theirs.told.get(trait, 0) >= mine.told.get(trait, 0)


def told(mine: State, theirs: State) -> dict[str, int]:
    """When traits were told: the user's, and the visitor's of those that fill in."""
    filled = {name for name in theirs.told if name not in mine.traits and _is_news(name, mine, theirs)}
    return mine.told | {name: theirs.told[name] for name in filled}


def answers(mine: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each survey the user's; the visitor's fill in what is missing."""
    both = {survey: theirs.get(survey, {}) | mine.get(survey, {}) for survey in (*mine, *theirs)}
    return dict(list(both.items())[:SURVEYS_MAX])


def consents(mine: dict[str, bool], theirs: dict[str, bool]) -> dict[str, bool]:
    """What either refused is refused."""
    both = {name: mine.get(name, True) and theirs.get(name, True) for name in (*mine, *theirs)}
    return dict(list(both.items())[:PURPOSES_MAX])


def steps(mine: dict[str, str], theirs: dict[str, str]) -> dict[str, str]:
    """Each as far as either got."""
    furthest = theirs | mine
    for name, status in theirs.items():
        if FURTHER.get(status, 0) > FURTHER.get(furthest[name], 0):
            furthest[name] = status
    return dict(list(furthest.items())[-STEPS_MAX:])


def sessions(mine: Session | None, theirs: Session | None) -> tuple[Session | None, bool]:
    """The session from now on, and whether the two were one: both are still open."""
    if mine is None or theirs is None:
        return mine or theirs, False
    if mine.ended or theirs.ended:
        return max(theirs, mine, key=lambda each: (not each.ended, each.ended)), False
    started, newest = min(mine.started, theirs.started), max(mine.newest, theirs.newest)
    return Session(mine.id, started, 0, mine.events + theirs.events, newest), True


def times(mine: Times, theirs: Times) -> Times:
    """All of them, oldest first."""
    return tuple(sorted((*mine, *theirs)))


def firings(program: Program, mine: dict[str, Times], theirs: dict[str, Times]) -> dict[str, Times]:
    """The latest of each trigger, as many as its limits ask for."""
    united = {}
    for name in {**mine, **theirs}:
        one, other = mine.get(name, ()), theirs.get(name, ())
        trigger = program.triggers.get(name)
        united[name] = times(one, other)[-(trigger.remembered if trigger else max(len(one), len(other))) :]
    return united


def counters(program: Program, state: State, parcel: State, session: Session | None, *, one: bool) -> dict[str, Tally]:
    """Totals add up, times and values unite; a count of the session is kept for the session that goes on, of both if
    they were `one`."""
    united = {}
    for name in {**state.counters, **parcel.counters}:
        mine, theirs = state.counters.get(name, Tally()), parcel.counters.get(name, Tally())
        counter = _counter(program, name)
        if counter is None:
            united[name] = mine if name in state.counters else theirs
        elif counter.session:
            parts = [(mine, state.session), (theirs, parcel.session)]
            going_on = [
                tally for tally, own in parts if own and tally.times == (own.started,) and (one or own == session)
            ]
            united[name] = _add(*going_on, times=(session.started,) if session else ())
        else:
            united[name] = _add(mine, theirs, times=times(mine.times, theirs.times)[-KEPT:])
    return united


def _add(*tallies: Tally, times: Times) -> Tally:
    values: dict[str, int] = {}
    for tally in tallies:
        for value, at in tally.values.items():
            values[value] = max(at, values.get(value, at))
    newest = sorted(values.items(), key=lambda each: each[1])[-KEPT:]
    return Tally(sum(tally.total for tally in tallies), times, dict(newest))


def memories(program: Program, state: State, parcel: State) -> dict[str, Memory]:
    """What patterns remember, of each key the later. Strict sequences count events within one history: where both have
    one, their attempts are over."""
    united = {}
    for name in {**parcel.memory, **state.memory}:
        hook = _hook(program, name)
        entries = name.endswith(reentry.name_of(""))
        if isinstance(hook, OnSequence) and hook.strict and state.tracked and parcel.tracked:
            continue
        mine, theirs = state.memory.get(name), parcel.memory.get(name)
        kept = mine or theirs
        if mine and theirs and mine.rule == theirs.rule:
            shared = {
                key: reentry.both(marks, mine.marks[key]) if entries else _later(hook, marks, mine.marks[key])
                for key, marks in theirs.marks.items()
                if key in mine.marks
            }
            most = reentry.KEYS if entries else KEYS
            kept = Memory(mine.rule, dict(list((theirs.marks | mine.marks | shared).items())[-most:]))
        if kept:
            united[name] = kept
    return united


def _later(hook: Hook | None, one: Times, other: Times) -> Times:
    if isinstance(hook, OnUnprepared):
        met = times(one, other)
        return met[:1] if hook.within is None else met[-TIMES:]
    return max(one, other, key=max)


def waits(state: State, parcel: State) -> tuple[Wait, ...]:
    """All of them, by when they are due; of an absence with the same key the one that began later, unless what it waits
    for has come since. `state` remembers what both met."""
    united: dict[object, Wait] = {}
    for number, wait in enumerate((*state.waits, *parcel.waits)):
        memory = state.memory.get(f"{wait.trigger}#{wait.hook}") if wait.since else None
        if memory and max(memory.marks.get(wait.key, (0,))) >= wait.since:
            continue
        place = (wait.trigger, wait.hook, wait.key) if wait.since else number
        if place not in united or united[place].since < wait.since:
            united[place] = wait
    return tuple(sorted(united.values(), key=lambda wait: wait.due))


def _counter(program: Program, name: str) -> Counter | None:
    """A counter of the rules, or that of a `count` trigger."""
    if name in program.falling:
        return program.falling[name][1].counter
    hook = _hook(program, name)
    return program.counters.get(name) or (hook.counter if isinstance(hook, OnCount) else None)


def _hook(program: Program, name: str) -> Hook | None:
    """The `when` that TRIGGER#INDEX names."""
    trigger, _, index = name.rpartition("#")
    hooks = program.triggers[trigger].hooks if trigger in program.triggers else ()
    return hooks[int(index)] if index.isdecimal() and int(index) < len(hooks) else None
