"""Sequences and absences against slow, obvious evaluators that are given the whole history at once."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plays import START, Play

FEW = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class Happening(NamedTuple):
    """An event: seconds after the start when it arrived and when it happened, its name, and its property `k`."""

    arrived: int
    at: int
    name: str
    k: Any


@st.composite
def histories(draw: st.DrawFn, *, late: bool, names: str = "abx", most: int = 14) -> list[Happening]:
    now, history = 0, []
    for _ in range(draw(st.integers(1, most))):
        now += draw(st.sampled_from([0, 0, 1, 1, 2, 5, 9, 10, 11]))
        ago = draw(st.sampled_from([0, 0, 0, 1, 3, 10, 200])) if late else 0
        history.append(
            Happening(now, now - ago, draw(st.sampled_from(names)), draw(st.sampled_from([1, 1, "1", None])))
        )
    return history


def lived(rules: str, history: list[Happening]) -> list[tuple[int, str]]:
    """(seconds after the start, trigger) of every decision that the engine comes to."""
    play = Play(rules, connected=False)
    play.now = START + 1_000_000
    start = play.now
    told: list[tuple[int, str]] = []

    def take(decided: list[str]) -> None:
        told.extend(((play.now - start) // 1000, each.split("'")[1]) for each in decided)

    for each in history:
        while start + each.arrived * 1000 > play.now:
            take(play.wait("1s"))
        properties = {} if each.k is None else {"k": each.k}
        take(play.track(each.name, ago=f"{each.arrived - each.at}s", **properties))
    for _ in range(40):
        take(play.wait("1s"))
    return told


# --- sequence ---


class Wanted(NamedTuple):
    steps: str
    within: int | None = None
    strict: bool = False
    keyed: bool = False


SEQUENCES = {
    "ab": Wanted("ab"),
    "aba": Wanted("aba", 10),
    "aab": Wanted("aab", 12, keyed=True),
    "strict": Wanted("aab", strict=True),
    "tight": Wanted("ab", 10, strict=True, keyed=True),
}


def sequence_rule(name: str, wanted: Wanted) -> str:
    steps = ", ".join(f"{{event: {step}}}" for step in wanted.steps)
    rest = (
        (f", within: {wanted.within}s" if wanted.within else "")
        + (", contiguity: strict" if wanted.strict else "")
        + (", key: event.properties.k" if wanted.keyed else "")
    )
    return f"trigger: {name}\nwhen: {{sequence: {{steps: [{steps}]{rest}}}}}\nthen: [{{set: {{{name}: true}}}}]\n"


def is_match(wanted: Wanted, chosen: tuple[Happening, ...]) -> bool:
    return (
        "".join(each.name for each in chosen) == wanted.steps
        and all(one.at <= other.at for one, other in combinations(chosen, 2))
        and (wanted.within is None or chosen[-1].at - chosen[0].at < wanted.within)
        and (not wanted.keyed or (chosen[0].k is not None and all(is_same(each.k, chosen[0].k) for each in chosen)))
    )


def is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def matches(wanted: Wanted, history: list[Happening]) -> list[int]:
    """Where in the history a match ends: of all choices of events, those that use none used before."""
    ends: list[tuple[int, Any]] = []
    for last, event in enumerate(history):
        used = max((end for end, k in ends if not wanted.keyed or is_same(k, event.k)), default=-1)
        for places in combinations(range(used + 1, last), len(wanted.steps) - 1):
            whole = (*places, last)
            contiguous = whole == tuple(range(whole[0], last + 1))
            if (contiguous or not wanted.strict) and is_match(wanted, tuple(history[place] for place in whole)):
                ends.append((last, event.k))
                break
    return [end for end, _ in ends]


def in_order(history: list[Happening]) -> list[Happening]:
    newest, kept = -(10**9), []
    for each in history:
        if each.at >= newest:
            newest = each.at
            kept.append(each)
    return kept


def seen_in(history: list[Happening], rules: dict[str, Wanted]) -> dict[str, list[int]]:
    """For each sequence, the times at which the engine saw it complete."""
    told = lived("---\n".join(sequence_rule(name, wanted) for name, wanted in rules.items()), history)
    return {name: [at for at, trigger in told if trigger == name] for name in rules}


@FEW
@given(histories(late=False))
@example([Happening(0, 0, "a", 1), Happening(0, 0, "a", 1), Happening(0, 0, "b", 1), Happening(0, 0, "a", 1)])
def test_sequences_are_found_where_the_whole_history_has_them(history: list[Happening]) -> None:
    found = seen_in(history, SEQUENCES)
    for name, wanted in SEQUENCES.items():
        assert found[name] == [history[end].arrived for end in matches(wanted, history)], name


@FEW
@given(histories(late=True))
def test_late_events_make_no_sequence_that_did_not_happen(history: list[Happening]) -> None:
    found = seen_in(history, SEQUENCES)
    for name, wanted in SEQUENCES.items():
        straight = in_order(history)
        if wanted.strict:
            assert found[name] == [straight[end].arrived for end in matches(wanted, straight)], name
        else:
            possible = [
                each.arrived
                for last, each in enumerate(history)
                if any(
                    is_match(wanted, (*chosen, each)) for chosen in combinations(history[:last], len(wanted.steps) - 1)
                )
            ]
            assert set(found[name]) <= set(possible), name


# --- absence ---

ABSENCES = """
trigger: after
when: {absence: {after: {event: a}, of: {event: b}, for: 10s}}
then: [{set: {after: true}}]
---
trigger: keyed
when: {absence: {after: {event: a}, of: {event: b}, for: 10s, key: event.properties.k}}
then: [{set: {keyed: true}}]
---
trigger: own
when: {absence: {after: {event: a}, of: {event: a}, for: 5s}}
then: [{set: {own: true}}]
---
trigger: before
when: {absence: {of: {event: a}, before: {event: b}, for: 10s}}
then: [{set: {before: true}}]
---
trigger: ever
when: {absence: {of: {event: a}, before: {event: b}, key: event.properties.k}}
then: [{set: {ever: true}}]
"""


def grouped(history: list[Happening], keyed: bool) -> list[list[Happening]]:
    if not keyed:
        return [history]
    keys = {(type(each.k), each.k) for each in history if each.k is not None}
    return [[each for each in history if (type(each.k), each.k) == key] for key in keys]


def unanswered(history: list[Happening], start: str, end: str, span: int) -> list[int]:
    """When the wait of each start is over that no end answers and no other start takes over, in one key's history."""
    over: dict[int, int] = {}  # place in the history of a start -> when its wait came true
    pending: int | None = None  # place of the start that waits
    for place, each in enumerate(history):
        if pending is not None and history[pending].at + span <= each.arrived:
            over[pending] = max(history[pending].at + span, history[pending].arrived)
            pending = None
        if each.name == end and pending is not None and history[pending].at <= each.at:
            pending = None
        answered = any(other.name == end and other.at > each.at for other in history[:place])
        if each.name == start and not answered and (pending is None or history[pending].at <= each.at):
            pending = place
    if pending is not None:
        over[pending] = max(history[pending].at + span, history[pending].arrived)
    return list(over.values())


def unprepared(history: list[Happening], first: str, then: str, span: int | None) -> list[int]:
    return [
        each.arrived
        for place, each in enumerate(history)
        if each.name == then
        and not any(
            other.name == first and other.at <= each.at and (span is None or other.at > each.at - span)
            for other in history[:place]
        )
    ]


# Of `before` with a span only the five latest are remembered: late events beyond them are another matter.
@FEW
@given(histories(late=True, names="ab", most=7))
def test_absences_are_found_where_the_whole_history_has_them(history: list[Happening]) -> None:
    told = lived(ABSENCES, history)
    found = {name: sorted(at for at, trigger in told if trigger == name) for name in ("after", "keyed", "own")}
    assert found["after"] == sorted(unanswered(history, "a", "b", 10))
    assert found["keyed"] == sorted(at for each in grouped(history, True) for at in unanswered(each, "a", "b", 10))
    assert found["own"] == sorted(unanswered(history, "a", "a", 5))
    if sum(each.name == "a" for each in history) <= 5:
        assert [at for at, trigger in told if trigger == "before"] == unprepared(history, "a", "b", 10)
    ever = sorted(at for each in grouped(history, True) for at in unprepared(each, "a", "b", None))
    assert sorted(at for at, trigger in told if trigger == "ever") == ever
