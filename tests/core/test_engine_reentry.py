"""Re-entry: how often, how soon and how many at a time, by key; also against a slow, obvious evaluator."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plays import START, Play, compiled

from handrail.core.explain import explain
from handrail.core.report import report
from handrail.core.rules import load

FEW = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
KEYED = "key: event.properties.k"
FIRED = ["set {'t': 1}"]


def rule(when: str, reentry: str, rest: str = "") -> str:
    return f"trigger: t\nwhen: {when}\nthen: [{{set: {{t: 1}}}}]\nreentry: {{{reentry}}}\n{rest}"


def delayed(reentry: str, rest: str = "") -> Play:
    return Play(rule("{delay: {after: {event: a}, for: 10m}}", reentry, rest))


def outcomes(play: Play) -> list[str]:
    return [f"{line.outcome}: {line.reason}, {line.detail}" for line in play.trace if line.outcome != "fired"]


# --- forms with nothing to wait for ---


def test_there_are_at_most_so_many_entries_of_one_key() -> None:
    play = Play(rule("{event: a}", f"max: 2, {KEYED}"))
    assert [play.track("a", k=1) for _ in range(3)] == [FIRED, FIRED, []]
    assert outcomes(play) == ["suppressed: limit, reentry: 2 at most of one key"]
    play.restart()
    assert play.track("a", k="1") == FIRED, "text is another key"
    assert play.track("a", k=1) == []


def test_what_has_no_key_does_not_enter() -> None:
    play = Play(rule("{event: a}", f"max: 2, {KEYED}"))
    assert play.track("a") == []
    assert outcomes(play) == ["not-met: event.properties.k, reentry: the event has no key"]


def test_there_is_time_between_two_entries_of_one_key() -> None:
    play = Play(rule("{event: a}", f"min_interval: 1h, {KEYED}"))
    assert play.track("a", k=1) == FIRED
    play.wait("59m")
    assert (play.track("a", k=1), play.track("a", k=2)) == ([], FIRED)
    assert outcomes(play) == ["suppressed: cooldown, reentry: 1h apart of one key"]
    play.wait("1m")
    assert play.track("a", k=1) == FIRED, "what was turned away is no entry"


def test_what_is_held_back_is_no_entry() -> None:
    play = Play(
        "trigger: t\nwhen: {event: a}\nthen: [{prompt: m}]\nreentry: {max: 1}\n---\nmessage: m\nkind: modal\n---\n"
        "\npolicy: default\nprompts: {gap: 1m}\n---\ntrigger: u\nwhen: {event: b}\nthen: [{prompt: m}]"
    )
    play.track("b")
    play.track("prompt_dismissed", message="m")
    assert play.track("a") == []
    play.wait("1m")
    assert play.track("a") == ["prompt m"]
    play.track("prompt_dismissed", message="m")
    play.wait("1m")
    assert play.track("a") == []
    assert play.held_back() == ["t: gap", "t: limit"]


def test_who_is_held_out_enters() -> None:
    play = Play(
        "trigger: t\nwhen: {event: a}\nthen: [{prompt: m}]\nreentry: {max: 1}\n---\nmessage: m\nkind: modal\n"
        "---\npolicy: default\nholdout: 100%"
    )
    play.track("a"), play.track("a")
    assert play.held_back() == ["t: holdout", "t: limit"]


PUT_OFF = """
trigger: t
when: {event: a}
then: [{prompt: m}]
when_blocked: {defer: 10m}
reentry: {REENTRY}
---
trigger: u
when: {event: b}
then: [{prompt: m}]
---
message: m
kind: modal
expires: 5m
"""


def test_what_is_put_off_has_entered_and_is_not_asked_again() -> None:
    play = Play(PUT_OFF.replace("REENTRY", "max: 1, concurrent: false"))
    play.track("b"), play.track("a"), play.track("a")
    assert play.wait("5m") == ["prompt m"]
    play.wait("10m")
    assert play.track("a") == []
    assert play.held_back()[-1] == "t: limit"


def test_while_one_is_put_off_another_does_not_enter() -> None:
    play = Play(PUT_OFF.replace("REENTRY", f"concurrent: false, {KEYED}"))
    play.track("b"), play.track("a", k=1), play.track("a", k=1), play.track("a", k=2)
    assert [line.outcome for line in play.trace if line.trigger == "t"] == ["suppressed", "ignored", "suppressed"]
    assert [wait.entry for wait in play.state.waits] == ["1", "2"]


# --- forms that wait ---


def test_a_delay_is_entered_when_its_wait_begins() -> None:
    play = delayed("max: 1", "cancel_on: [{event: c}]")
    play.track("a"), play.track("a"), play.track("c")
    assert outcomes(play) == ["suppressed: limit, reentry: 1 at most", "cancelled: , c"]
    play.track("a")
    assert play.wait("1h") == [], "the entry counts, whatever became of its wait"


def test_the_end_of_a_wait_is_no_entry() -> None:
    play = delayed("max: 1, min_interval: 1d, concurrent: false")
    play.track("a")
    assert play.wait("10m") == FIRED


def test_one_at_a_time() -> None:
    play = delayed(f"concurrent: false, {KEYED}")
    play.track("a", k=1)
    play.wait("5m")
    play.track("a", k=1), play.track("a", k=2), play.track("a")
    assert outcomes(play) == [
        "ignored: reentry, one of this key waits already",
        "not-met: event.properties.k, reentry: the event has no key",
    ]
    assert play.wait("5m") == FIRED
    play.track("a", k=1)
    assert play.wait("5m") == FIRED
    assert play.wait("5m") == FIRED


def test_times_are_those_of_the_events() -> None:
    play = delayed("min_interval: 1h")
    play.track("a", ago="2h")
    play.track("a", ago="1m")
    assert play.wait("9m") == FIRED
    assert play.held_back() == []


ABSENT = "{absence: {after: {event: a}, of: {event: b}, for: 10m}}"


def test_an_absence_that_starts_again_is_the_same_entry() -> None:
    play = Play(rule(ABSENT, "max: 1"))
    play.track("a")
    play.wait("5m")
    play.track("a")
    assert play.wait("5m") == []
    assert play.wait("5m") == FIRED
    play.track("a")
    assert play.wait("1h") == []
    assert play.held_back() == ["t: limit"]


def test_an_absence_that_is_not_concurrent_does_not_start_again() -> None:
    play = Play(rule(ABSENT, "concurrent: false"))
    play.track("a")
    play.wait("5m")
    play.track("a")
    assert play.wait("5m") == FIRED
    play.track("a"), play.track("b"), play.track("a")
    assert play.wait("10m") == FIRED, "what ended waits no more"


# --- memory, rules, explanations ---


def test_the_latest_fifty_keys_are_remembered() -> None:
    play = Play(rule("{event: a}", f"max: 1, {KEYED}"))
    for k in range(51):
        assert play.track("a", k=k) == FIRED
    assert play.track("a", k=1) == []
    assert play.track("a", k=0) == FIRED


@pytest.mark.parametrize("on_change", ["finish", "restart", "cancel"])
def test_entries_are_remembered_over_changes_as_firings_are(on_change: str) -> None:
    play = Play(rule("{event: a}", "max: 1"))
    play.track("a")
    play.reload(rule("[{event: a}, {event: b}]", "max: 1", f"on_change: {on_change}"))
    assert play.track("a") == []
    play.reload("trigger: t\nwhen: {event: a}\nthen: [{set: {t: 1}}]")
    assert play.state.memory == {}


def test_one_that_says_nothing_is_warned_of() -> None:
    loaded = load({"a.yaml": rule("{event: a}", KEYED)}, {})
    assert [str(each).partition("warning: ")[2] for each in loaded.problems] == [
        "has no effect: give 'max', 'min_interval' or 'concurrent: false'"
    ]
    faulty = load({"a.yaml": rule("{event: a}", "max: 0, key: event.propertis.k")}, {})
    assert [problem.line for problem in faulty.problems] == [4]
    compiled(rule("{event: a}", "max: 1"))


def test_explanations_tell_of_each_bound() -> None:
    play = Play(rule("{event: a}", "max: 1, min_interval: 1h, concurrent: false"))
    play.track("a")
    told = explain(play.program, play.state, play.program.triggers["t"], play.now)
    assert (told.verdict, told.reason, told.free_at) == ("suppressed", "limit", None)
    assert [(each.reason, each.rule, each.holding) for each in told.bounds] == [
        ("limit", "reentry: 1 at most", True),
        ("cooldown", "reentry: 1h apart", True),
        ("reentry", "one at a time", False),
    ]
    play = Play(rule("{event: a}", f"max: 1, {KEYED}"))
    told = explain(play.program, play.state, play.program.triggers["t"], play.now)
    assert told.verdict == "depends"
    assert "  limit     reentry: 1 at most: depends on the key of the event" in list(report(told))


def test_explanations_of_a_wait_tell_what_becomes_of_it() -> None:
    play = delayed("max: 1")
    play.track("a")
    told = explain(play.program, play.state, play.program.triggers["t"], play.now)
    assert told.verdict == "fires"
    assert [(each.rule, each.holding) for each in told.bounds] == [("reentry: 1 at most", True)]
    assert [each.outcome for each in told.ahead] == ["fired"]


# --- the reference ---


class Happening(NamedTuple):
    """Seconds after the start at which `a` (or `stop`) happened, and its property `k`."""

    at: int
    name: str
    k: int | None


@st.composite
def histories(draw: st.DrawFn) -> list[Happening]:
    now, history = 0, []
    for _ in range(draw(st.integers(1, 14))):
        now += draw(st.sampled_from([0, 0, 1, 2, 5, 9, 10, 11]))
        history.append(
            Happening(now, draw(st.sampled_from(["a", "a", "a", "stop"])), draw(st.sampled_from([1, 2, None])))
        )
    return history


class Bounds(NamedTuple):
    most: int = 10**6
    interval: int = 0
    concurrent: bool = True
    keyed: bool = True


BOUNDS = [
    Bounds(most=2),
    Bounds(interval=6),
    Bounds(concurrent=False),
    Bounds(most=3, interval=2, concurrent=False, keyed=False),
]


def written(bounds: Bounds) -> str:
    parts = [
        f"max: {bounds.most}",
        f"min_interval: {bounds.interval}s",
        f"concurrent: {str(bounds.concurrent).lower()}",
        *([KEYED] if bounds.keyed else []),
    ]
    return ", ".join(parts)


def expected(history: list[Happening], bounds: Bounds, wait: int) -> list[int]:
    """When it fires: of all events, those that may enter, `wait` later, unless a `stop` comes before that."""
    entries: list[int] = []  # places in the history
    fired: list[int] = []
    for place, each in enumerate(history):
        if each.name != "a" or (bounds.keyed and each.k is None):
            continue
        mine = [entry for entry in entries if not bounds.keyed or history[entry].k == each.k]
        waiting = [entry for entry in mine if history[entry].at + wait > each.at and not stopped(history, entry, place)]
        too_soon = any(each.at < history[entry].at + bounds.interval for entry in mine)
        if len(mine) >= bounds.most or too_soon or (waiting and not bounds.concurrent):
            continue
        entries.append(place)
        meanwhile = [place, *(after for after in range(place, len(history)) if history[after].at < each.at + wait)]
        if not stopped(history, place, meanwhile[-1] + 1):
            fired.append(each.at + wait)
    return sorted(fired)


def stopped(history: list[Happening], start: int, end: int) -> bool:
    return any(each.name == "stop" for each in history[start + 1 : end])


def rules() -> str:
    return "---\n".join(
        f"trigger: {name}{number}\nwhen: {when}\nthen: [{{set: {{t: {name}{number}}}}}]\n"
        f"reentry: {{{written(bounds)}}}\ncancel_on: [{{event: stop}}]\n"
        for number, bounds in enumerate(BOUNDS)
        for name, when in (("now", "{event: a}"), ("later", "{delay: {after: {event: a}, for: 10s}}"))
    )


@FEW
@given(histories())
def test_it_is_entered_where_the_whole_history_allows_it(history: list[Happening]) -> None:
    play = Play(rules(), connected=False)
    play.now = start = START + 1_000_000
    fired: list[tuple[str, int]] = []

    def take(decided: list[str]) -> None:
        fired.extend((each.split("'")[3], (play.now - start) // 1000) for each in decided)

    for each in history:
        while start + each.at * 1000 > play.now:
            take(play.wait("1s"))
        properties: dict[str, Any] = {} if each.k is None else {"k": each.k}
        take(play.track(each.name, **properties))
    for _ in range(20):
        take(play.wait("1s"))
    for number, bounds in enumerate(BOUNDS):
        for name, wait in (("now", 0), ("later", 10)):
            found = [at for trigger, at in fired if trigger == f"{name}{number}"]
            assert found == expected(history, bounds, wait), (name, bounds)
