"""Patterns of events: sequences and absences, at ties, restarts, overlaps, keys and late events."""

from __future__ import annotations

from typing import Any

import pytest
from plays import Play

from handrail.core.memory import KEYS

HIT = ["set {'hit': True}"]


def marks(when: str, *more: str) -> str:
    """A rule set whose one trigger `t` sets a trait, so that nothing holds it back."""
    return "\n".join([f"trigger: t\nwhen: {when}", *more, "then:\n  - set: {hit: true}\n"])


def sequence(steps: str, rest: str = "") -> str:
    listed = ", ".join(f"{{event: {name}}}" for name in steps)
    return marks(f"{{sequence: {{steps: [{listed}]{rest and ', '}{rest}}}}}")


def hits(play: Play, names: str) -> str:
    """The events, with a `!` behind each that made the trigger come true; `.` lets a second pass."""
    told = ""
    for name in names:
        told += name + "!" * (HIT[0] in (play.wait("1s") if name == "." else play.track(name)))
    return told


# --- sequence ---


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("ab", "ab!"),
        ("ab", "ba"),
        ("ab", "bab!"),
        ("ab", "axxb!"),
        ("ab", "ab!b"),  # the match used the first step up
        ("ab", "ab!ab!"),
        ("ab", "aab!b"),  # matches do not overlap
        ("aa", "aa!aa!a"),  # one event is one step at a time
        ("aab", "aab!"),
        ("aab", "abab!"),
        ("aba", "aba!ba"),  # the last step of one match is not the first of the next
        ("aba", "aba!aba!"),
        ("abc", "acbc!"),
        ("abc", "abac!"),  # a new first step does not spoil what was begun
    ],
)
def test_a_sequence_comes_true_on_its_last_step(steps: str, told: str) -> None:
    assert hits(Play(sequence(steps)), told.replace("!", "")) == told


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("ab", "ab!"),
        ("ab", "axb"),
        ("ab", "aab!"),
        ("aab", "aaab!"),
        ("aba", "aba!ba"),
        ("aba", "abxaba!"),
        ("abab", "abab!ab"),
    ],
)
def test_a_strict_sequence_bears_nothing_in_between(steps: str, told: str) -> None:
    assert hits(Play(sequence(steps, "contiguity: strict")), told.replace("!", "")) == told


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("ab", "a..b!"),
        ("ab", "a...b"),  # as with every window: exactly its length later it is over
        ("ab", "a..a.b!"),  # the latest first step counts
        ("abc", "a.b.c!"),
        ("abc", "a.b..c"),
        ("abc", "a.b.a.bc!"),
        ("abc", "a.ba.c!"),  # the older attempt is the one that has its second step
        ("abc", "a.ba..c"),
        ("aab", "a.a..ab!"),
    ],
)
def test_within_spans_the_first_step_to_the_last(steps: str, told: str) -> None:
    assert hits(Play(sequence(steps, "within: 3s")), told.replace("!", "")) == told


def test_where_says_which_events_are_steps() -> None:
    play = Play(marks("{sequence: {steps: [{event: use, where: event.properties.n > 1}, {event: use}]}}"))
    assert [bool(play.track("use", n=n)) for n in (1, 1, 2, 1, 1)] == [False, False, False, True, False]


def test_what_the_rules_emit_is_no_event_of_the_users_own() -> None:
    rules = sequence("ab", "contiguity: strict") + "---\ntrigger: e\nwhen: {event: a}\nthen: [{emit: {event: noise}}]\n"
    assert hits(Play(rules), "ab") == "ab!"
    heard = marks("{sequence: {steps: [{event: a}, {event: noise}, {event: b}], contiguity: strict}}")
    rules = heard + "---\ntrigger: e\nwhen: {event: a}\nthen: [{emit: {event: noise}}]\n"
    assert hits(Play(rules), "ab") == "ab!"
    assert hits(Play(rules), "axb") == "axb"


def test_server_made_events_may_be_steps() -> None:
    play = Play(marks("{sequence: {steps: [{event: session_started}, {event: a}], contiguity: strict}}"))
    assert play.track("a") == HIT
    assert play.track("a") == []


KEYED = "{sequence: {steps: [{event: a}, {event: b}], key: event.properties.k}}"


def test_a_key_must_be_the_same_over_all_steps() -> None:
    play = Play(marks(KEYED))
    play.track("a", k="one")
    play.track("a", k="two")
    assert play.track("b", k="three") == []
    assert play.track("b", k="one") == HIT
    assert play.track("b", k="one") == []
    assert play.track("b", k="two") == HIT


@pytest.mark.parametrize("other", ["1", 1.5, True, None, [1], {"a": 1}])
def test_keys_of_different_kinds_do_not_collide(other: Any) -> None:
    play = Play(marks(KEYED))
    play.track("a", k=1)
    assert play.track("b", k=other) == []
    assert play.track("b", k=1.0) == HIT, "a whole number is one however it is written"


def test_an_event_without_the_key_is_no_step() -> None:
    play = Play(marks(KEYED))
    play.track("a")
    assert play.track("b") == []


def test_long_keys_are_told_apart() -> None:
    play = Play(marks(KEYED))
    play.track("a", k="x" * 500 + "1")
    assert play.track("b", k="x" * 500 + "2") == []
    assert max(map(len, play.state.memory["t#0"].marks)) <= 64
    assert play.track("b", k="x" * 500 + "1") == HIT


def test_what_is_remembered_is_bounded_and_the_keys_longest_untouched_go_first() -> None:
    play = Play(marks(KEYED))
    for number in range(KEYS):
        play.track("a", k=number)
    play.wait("1s")
    play.track("a", k=0)
    play.track("a", k=KEYS)
    assert len(play.state.memory["t#0"].marks) == KEYS
    assert play.track("b", k=1) == []
    assert play.track("b", k=0) == HIT


def test_a_step_counts_by_when_it_happened() -> None:
    play = Play(sequence("ab"))
    play.wait("1m")
    play.track("a")
    assert play.track("b", ago="10s") == [], "b happened before a"
    play.wait("1s")
    assert play.track("b") == HIT


def test_a_late_step_is_timed_by_when_it_happened() -> None:
    play = Play(sequence("ab", "within: 10s"))
    play.wait("1m")
    play.track("a")
    play.wait("30s")
    assert play.track("b", ago="25s") == HIT
    play.track("a")
    play.wait("30s")
    assert play.track("b", ago="10s") == []


def test_an_event_that_comes_out_of_order_neither_breaks_nor_continues_a_strict_sequence() -> None:
    play = Play(sequence("ab", "contiguity: strict"))
    play.wait("1m")
    play.track("a")
    play.track("x", ago="5s")
    assert play.track("b") == HIT
    play.track("a", ago="5s")
    assert play.track("b") == []


def test_a_late_last_step_brings_no_prompt() -> None:
    rules = sequence("ab").replace("set: {hit: true}", "prompt: help") + "---\nmessage: help\nkind: toast\n"
    play = Play(rules)
    play.track("a")
    play.wait("10m")
    play.track("x")
    assert play.track("b", ago="5m") == []
    assert play.held_back() == ["t: late"]


def test_cancel_on_begins_a_sequence_anew() -> None:
    rules = sequence("ab").replace("then:", "cancel_on: [{event: stop}]\nthen:")
    play = Play(rules)
    play.track("a")
    play.track("stop")
    assert play.track("b") == []
    assert [line.outcome for line in play.trace] == ["cancelled"]
    assert hits(play, "ab") == "ab!"


@pytest.mark.parametrize(("policy", "told"), [("finish", HIT), ("restart", []), ("cancel", [])])
def test_a_begun_sequence_goes_on_after_a_change_as_on_change_says(policy: str, told: list[str]) -> None:
    before = sequence("ab").replace("then:", f"on_change: {policy}\nthen:")
    play = Play(before)
    play.track("a")
    play.reload(before + "---\nmessage: unrelated\nkind: toast\n")
    play.reload(
        "description: x\n".join(before.split("when", 1)[:1]) + "description: x\nwhen" + before.split("when", 1)[1]
    )
    assert play.track("b") == told


def test_a_sequence_of_another_length_begins_anew() -> None:
    play = Play(sequence("ab"))
    play.track("a")
    play.reload(sequence("abc"))
    assert hits(play, "bc") == "bc"
    assert hits(play, "abc") == "abc!"


def test_what_a_removed_trigger_remembered_is_forgotten() -> None:
    play = Play(sequence("ab"))
    play.track("a")
    assert play.state.memory
    play.reload(marks("{event: a}"))
    assert not play.state.memory
    play.reload(sequence("ab").replace("trigger: t", "trigger: u"))
    assert play.track("b") == []


# --- absence after something ---

ABANDONED = marks("{absence: {after: {event: cart}, of: {event: order}, for: 10m}}")
EACH = marks("{absence: {after: {event: cart}, of: {event: order}, for: 10m, key: event.properties.id}}")


def test_absence_comes_true_when_the_time_has_passed_without() -> None:
    play = Play(ABANDONED)
    play.track("cart")
    assert play.due_in == 10 * 60_000
    assert play.wait("9m59s") == []
    assert play.wait("1s") == HIT
    assert play.wait("1h") == [], "once"


def test_what_was_waited_for_ends_the_wait() -> None:
    play = Play(ABANDONED)
    play.track("cart")
    play.wait("9m59s")
    assert play.track("order") == []
    assert play.wait("1h") == []


def test_on_the_very_instant_it_is_too_late() -> None:
    play = Play(ABANDONED)
    play.track("cart")
    assert play.wait("10m") == HIT
    play.track("order")
    play.track("cart")
    play.now += 10 * 60_000
    assert play.track("order") == HIT, "even if the server only notices with the event itself"


def test_it_needs_what_starts_it() -> None:
    play = Play(ABANDONED)
    play.track("order")
    assert play.wait("1h") == []


def test_what_starts_it_again_starts_the_time_again() -> None:
    play = Play(ABANDONED)
    play.track("cart")
    play.wait("6m")
    play.track("cart")
    assert play.wait("9m59s") == []
    assert play.wait("1s") == HIT
    assert play.wait("1h") == []


def test_an_event_may_be_awaited_after_itself() -> None:
    play = Play(marks("{absence: {after: {event: page}, of: {event: page}, for: 5m}}"))
    play.track("page")
    play.wait("4m")
    play.track("page")
    assert play.wait("4m") == []
    assert play.wait("1m") == HIT


def test_each_key_has_a_wait_of_its_own() -> None:
    play = Play(EACH)
    play.track("cart", id=1)
    play.wait("1m")
    play.track("cart", id=2)
    play.wait("1m")
    play.track("cart", id=3)
    play.track("order", id=2)
    play.track("order", id="1")
    assert play.wait("8m") == HIT
    assert play.wait("1m") == []
    assert play.wait("1m") == HIT


def test_two_keys_due_at_one_instant_both_come_true() -> None:
    play = Play(EACH)
    play.track("cart", id=1)
    play.track("cart", id=2)
    assert play.wait("10m") == HIT * 2


def test_events_without_the_key_neither_start_nor_end_a_wait() -> None:
    play = Play(EACH)
    play.track("cart")
    assert play.due_in == 30 * 60_000, "only the session's end"
    play.track("cart", id=1)
    play.track("order")
    assert play.wait("10m") == HIT


def test_the_condition_is_judged_at_the_end_and_sees_what_started_it() -> None:
    condition = "if: event.properties.id == 7 && user.traits.plan == 'pro'"
    play = Play(EACH.replace("then:", f"{condition}\nthen:"))
    play.track("cart", id=7)
    play.identify(plan="pro")
    play.track("cart", id=8)
    assert play.wait("10m") == HIT


def test_where_says_what_starts_and_what_ends() -> None:
    play = Play(
        marks(
            "{absence: {after: {event: cart, where: event.properties.n > 1},"
            " of: {event: order, where: event.properties.paid == true}, for: 10m}}"
        )
    )
    play.track("cart", n=1)
    assert play.wait("20m") == []
    play.track("cart", n=2)
    play.track("order", paid=False)
    assert play.wait("10m") == HIT


def test_a_late_end_still_ends_the_wait() -> None:
    play = Play(ABANDONED)
    play.track("cart")
    play.wait("9m")
    play.track("x")
    play.track("order", ago="5m")
    assert play.wait("1h") == []


def test_what_happened_before_the_start_does_not_end_it() -> None:
    play = Play(ABANDONED)
    play.wait("5m")
    play.track("cart")
    play.track("order", ago="1m")
    assert play.wait("10m") == HIT


def test_a_start_that_arrives_behind_its_end_waits_for_nothing() -> None:
    play = Play(ABANDONED)
    play.wait("5m")
    play.track("order")
    play.track("cart", ago="1m")
    assert play.wait("1h") == []
    play.track("cart")
    assert play.wait("10m") == HIT


def test_a_late_start_whose_time_is_over_comes_true_at_once_but_brings_no_prompt() -> None:
    play = Play(ABANDONED)
    play.wait("20m")
    play.track("x")
    assert play.track("cart", ago="15m") == HIT
    prompting = ABANDONED.replace("set: {hit: true}", "prompt: help") + "---\nmessage: help\nkind: toast\n"
    play = Play(prompting)
    play.wait("20m")
    play.track("x")
    assert play.track("cart", ago="15m") == []
    assert play.held_back() == ["t: late"]


def test_a_start_older_than_the_one_that_counts_changes_nothing() -> None:
    play = Play(ABANDONED)
    play.wait("5m")
    play.track("cart")
    play.track("cart", ago="4m")
    assert play.wait("9m59s") == []
    assert play.wait("1s") == HIT


def test_cancel_on_ends_every_wait() -> None:
    play = Play(EACH.replace("then:", "cancel_on: [{event: stop}]\nthen:"))
    play.track("cart", id=1)
    play.track("cart", id=2)
    play.track("stop")
    assert play.wait("1h") == []


@pytest.mark.parametrize(
    ("policy", "due"), [("finish", 4 * 60_000), ("restart", 20 * 60_000), ("cancel", 30 * 60_000 - 6 * 60_000)]
)
def test_a_wait_goes_on_after_a_change_as_on_change_says(policy: str, due: int) -> None:
    rules = ABANDONED.replace("then:", f"on_change: {policy}\nthen:")
    play = Play(rules)
    play.track("cart")
    play.wait("6m")
    play.reload(rules.replace("for: 10m", "for: 20m"))
    assert play.due_in == due


@pytest.mark.parametrize("policy", ["finish", "restart", "cancel"])
def test_a_wait_does_not_become_one_of_another_kind(policy: str) -> None:
    play = Play(ABANDONED.replace("then:", f"on_change: {policy}\nthen:"), connected=False)
    play.track("cart")
    play.reload(marks("{away: 1m}", f"on_change: {policy}"))
    assert [wait.due - play.now for wait in play.state.waits] == ([600_000] if policy == "finish" else [])


def test_a_wait_survives_the_store_and_comes_true_with_nobody_there() -> None:
    play = Play(EACH)
    play.track("cart", id=1)
    play.disconnect()
    play.restart()
    assert play.sleep("3h") == HIT


# --- absence before something ---


def test_it_is_true_when_nothing_came_before() -> None:
    play = Play(marks("{absence: {of: {event: docs}, before: {event: call}}}"))
    assert play.track("call") == HIT
    play.track("docs")
    play.wait("30d")
    assert play.track("call") == [], "ever is ever"


def test_within_the_time_before_it() -> None:
    play = Play(marks("{absence: {of: {event: docs}, before: {event: call}, for: 1h}}"))
    play.track("docs")
    play.wait("59m59s")
    assert play.track("call") == []
    play.wait("1s")
    assert play.track("call") == HIT
    assert play.track("call") == HIT, "each time it happens"


def test_the_key_tells_whose_preparation_it_was() -> None:
    play = Play(marks("{absence: {of: {event: draft}, before: {event: send}, key: event.properties.id}}"))
    play.track("draft", id=1)
    assert play.track("send", id=1) == []
    assert play.track("send", id=2) == HIT
    assert play.track("send") == []


def test_an_event_does_not_come_before_itself() -> None:
    play = Play(marks("{absence: {of: {event: call}, before: {event: call}, for: 1h}}"))
    assert play.track("call") == HIT
    assert play.track("call") == []


def test_before_is_by_when_it_happened() -> None:
    for span in ("", ", for: 1h"):
        play = Play(marks(f"{{absence: {{of: {{event: docs}}, before: {{event: call}}{span}}}}}"))
        play.wait("10m")
        play.track("docs")
        assert play.track("call", ago="1m") == HIT
        play.track("docs", ago="5m")
        assert play.track("call", ago="1m") == []
        assert play.track("call", ago="6m") == HIT
        assert play.track("call") == []


def test_a_late_one_brings_no_prompt() -> None:
    rules = marks("{absence: {of: {event: docs}, before: {event: call}}}").replace("set: {hit: true}", "prompt: help")
    play = Play(rules + "---\nmessage: help\nkind: toast\n")
    play.wait("10m")
    play.track("x")
    assert play.track("call", ago="5m") == []
    assert play.held_back() == ["t: late"]
