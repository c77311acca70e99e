"""An anonymous visitor becomes the known user: what becomes of each part of the two, and what stays as it was."""

from __future__ import annotations

from itertools import count

import pytest
from plays import START, Play

from handrail.core import events as ev
from handrail.core.durations import parse_duration
from handrail.core.effects import Considered
from handrail.core.engine import alarm, fresh
from handrail.core.frames import Content, Flow, Prompt, Withdraw
from handrail.core.holdout import held_out
from handrail.core.merge import GRACE, heir_of
from handrail.core.state import Merger, dump_state, load_state

MINUTE, HOUR = 60_000, 3_600_000
RULES = """
trigger: offer
when: {event: puzzled}
then: [{prompt: help}]
limit: 2 per 24h
---
trigger: fill
when: {event: looked}
then: [{content: {slot: side, message: hint}}]
---
trigger: short-tour
when: {event: hurried}
then: [{flow: start/short}]
---
trigger: named
when: {changes: traits.plan}
then: [{set: {plan_changes: true}}]
---
trigger: joined
when: [{enters: eager}, {leaves: eager}]
then: [{set: {moved: {cel: "'eager' in user.segments"}}}]
---
segment: eager
if: user.counters.looks >= 2 && !(has(user.traits.plan) && user.traits.plan == 'free')
---
segment: calm
if: user.counters.looks < 3
---
counter: looks
of: looked
---
counter: lately
of: looked
within: 1h
---
counter: pages
of: looked
distinct: event.properties.page
---
counter: here
of: looked
over: session
---
message: help
kind: modal
expires: 10m
---
message: hint
kind: inline
title: "{{ event.properties.page }}"
---
flow: start
steps: [{id: one}, {id: two}, {id: three}]
variants: [{id: short, steps: [three]}]
"""

CARRIED = ["traits", "consents", "segments", "session", "sessions", "counters", "steps", "slots", "waits", "stay"]
CARRIED += ["fired", "prompted", "mailed", "tracked", "tracked_at", "first_seen", "last_activity", "last_visit"]


class Pair:
    """A visitor and a user under the same rules and on one clock; `merge` makes them one."""

    def __init__(self, rules: str = RULES, *, visitor: bool = True, user: bool = True) -> None:
        self.user = Play(rules, connected=user)
        self.visitor = Play(rules, connected=False)
        self.visitor.state = fresh(self.visitor.program, "anon", "a1", START)
        self.visitor.ids = count(1_001)
        if visitor:
            self.visitor.connect()

    def wait(self, span: str) -> None:
        self.user.wait(span)
        self.visitor.wait(span)

    def merge(self) -> list[str]:
        """What was decided when the user took over what the visitor had."""
        self.user.take(ev.Known(at=self.user.now))
        self.visitor.take(ev.Merge(id="merge-u-1", at=self.visitor.now, into="u-1"))
        self.visitor.restart()
        decided = self.absorb()
        self.visitor.take(ev.Merged(at=self.visitor.now))
        self.user.restart()
        return decided

    def absorb(self) -> list[str]:
        state = self.visitor.state
        event = ev.Absorb(id=f"absorb-{state.epoch}", at=self.user.now, visitor="anon", parcel=state)
        return self.user.take(event)


# --- the visitor's side ---


def test_the_visitor_keeps_all_until_the_user_has_it_and_then_only_says_where_its_events_belong() -> None:
    pair = Pair()
    visitor = pair.visitor
    visitor.track("looked", page="a")
    visitor.track("puzzled")
    visitor.take(ev.Merge(id="m", at=visitor.now, into="u-1"))
    visitor.restart()
    state = visitor.state
    assert state.merger == Merger("u-1", visitor.now, visitor.now + GRACE)
    assert (state.connections, visitor.on_screen, sorted(state.slots)) == ({}, "help", ["side"])
    assert [(frame.reason, frame.id) for frame in visitor.pushed(Withdraw)] == [("merged", "a1-2")]
    assert visitor.due_in == GRACE
    visitor.take(ev.Merged(at=visitor.now))
    bare = load_state(dump_state(visitor.state), {})
    merger = Merger("u-1", visitor.now)
    assert bare == type(bare)(user="anon", epoch="a1", version=bare.version, offset=3, first_seen=START, merger=merger)
    assert visitor.due_in is None


def test_an_unfinished_merge_rings_again_after_twice_as_long_each_time() -> None:
    visitor = Pair().visitor
    visitor.take(ev.Merge(id="m", at=visitor.now, into="u-1"))
    rings = []
    for _ in range(4):
        due = alarm(visitor.program, visitor.state)
        assert due is not None
        rings.append((due - visitor.now) // 1_000)
        visitor.take(ev.Alarm(at=due - 1))
        assert alarm(visitor.program, visitor.state) == due, "it rang too early"
        visitor.now = due
        visitor.take(ev.Alarm(at=due))
    assert rings == [2, 2, 4, 8]


@pytest.mark.parametrize("event_id", ["", "x"])
def test_a_visitor_nobody_knew_becomes_a_signpost_at_once(event_id: str) -> None:
    pair = Pair(visitor=False)
    if event_id:
        pair.visitor.track("looked", event_id=event_id)
    pair.visitor.take(ev.Merge(id="m", at=START, into="u-1"))
    assert pair.visitor.state.merger == Merger("u-1", START, START + GRACE if event_id else 0)


def test_what_falls_due_comes_to_pass_before_the_visitor_goes_and_nothing_after() -> None:
    pair = Pair()
    visitor = pair.visitor
    visitor.disconnect()
    visitor.now += HOUR
    visitor.take(ev.Merge(id="m", at=visitor.now, into="u-1"))
    assert visitor.state.session is not None
    assert visitor.state.session.ended == START + 30 * MINUTE
    before = visitor.state
    assert visitor.track("puzzled") == []
    assert (visitor.activity(), visitor.disconnect()) == ([], [])
    assert visitor.state is before


def test_whoever_was_addressed_as_a_user_is_left_alone_and_the_trace_says_so() -> None:
    pair = Pair()
    pair.visitor.take(ev.Known(at=START))
    pair.visitor.take(ev.Merge(id="m", at=START, into="u-1"))
    assert pair.visitor.state.merger is None
    assert pair.visitor.trace == [
        Considered(trigger="", outcome="ignored", reason="known", detail="'anon' is a user and does not become 'u-1'")
    ]


def test_an_id_merged_and_then_addressed_as_a_user_begins_anew() -> None:
    pair = Pair()
    visitor = pair.visitor
    visitor.track("puzzled", event_id="old")
    visitor.take(ev.Merge(id="m", at=START, into="u-1"))
    waiting = visitor.state
    visitor.take(ev.Known(at=START))
    assert visitor.state is waiting, "not while it is still to be taken over"
    visitor.take(ev.Merged(at=START))
    visitor.take(ev.Known(at=START))
    state = visitor.state
    assert (state.known, state.merger, state.traits, state.sessions) == (True, None, {}, 0)
    assert (state.epoch, state.offset) == ("a10", waiting.offset)
    assert visitor.track("puzzled") == ["prompt help"]


@pytest.mark.parametrize(
    ("event", "heir"),
    [
        (ev.Track(id="1", name="x", at=0), "u-1"),
        (ev.Identify(id="1", traits={}, at=0), "u-1"),
        (ev.Consent(id="1", purposes={}, at=0), "u-1"),
        (ev.Connected(id="1", at=0, connection="c", node="n"), "u-1"),
        (ev.Merge(id="1", at=0, into="u-2"), "u-1"),
        (ev.Disconnected(id="1", at=0, connection="c"), ""),
        (ev.Activity(id="1", at=0, connection="c", visible=True), ""),
        (ev.Alarm(at=0), ""),
        (ev.Merged(at=0), ""),
    ],
)
def test_whose_an_event_is_after_the_merge_began(event: ev.Event, heir: str) -> None:
    visitor = Pair().visitor
    assert heir_of(visitor.state, event) == ""
    visitor.take(ev.Merge(id="m", at=START, into="u-1"))
    assert heir_of(visitor.state, event) == heir


# --- the user's side ---


def test_for_a_user_never_seen_before_everything_is_the_visitors() -> None:
    pair = Pair(user=False)
    visitor = pair.visitor
    visitor.identify(plan="pro", goals=["teamwork"])
    visitor.consent(behaviour=True)
    for page in "ab":
        visitor.track("looked", page=page)
    visitor.track("step_completed", step="one")
    visitor.track("hurried")
    visitor.track("puzzled")
    before = visitor.state
    pair.wait("1m")
    assert pair.merge() == []
    state = pair.user.state
    for part in CARRIED:
        assert getattr(state, part) == getattr(before, part), part
    assert before.seen.items() <= state.seen.items()
    assert state.flow == before.flow
    assert (state.user, state.epoch, state.known, pair.user.on_screen) == ("u-1", "e1", True, "help")
    assert [(type(each), each.offset) for each in pair.user.frames] == [(Content, 1), (Prompt, 2), (Flow, 3)]
    assert [(frame.id, frame.message) for frame in pair.user.pushed(Prompt)] == [("a1-5", "help")]
    assert pair.user.pushed(Flow)[0].reason == "merged"


def test_traits_are_the_users_and_what_fills_in_changes_nothing_for_triggers() -> None:
    pair = Pair()
    pair.user.identify(plan="pro")
    pair.visitor.identify(plan="free", size=3)
    pair.user.clear()
    assert pair.merge() == []
    assert {name: pair.user.state.traits[name] for name in ("plan", "size")} == {"plan": "pro", "size": 3}
    other = Pair()
    other.visitor.identify(plan="pro")
    assert other.merge() == []
    assert other.user.state.traits["plan"] == "pro"


def test_segments_of_either_are_held_and_only_leaving_is_news() -> None:
    pair = Pair()
    for page in "ab":
        pair.visitor.track("looked", page=page)
    assert pair.visitor.state.segments == ("calm", "eager")
    assert pair.merge() == []
    assert pair.user.state.segments == ("calm", "eager")
    other = Pair()
    other.user.identify(plan="free")
    for page in "ab":
        other.visitor.track("looked", page=page)
    other.user.track("looked", page="c")
    assert other.merge() == ["set {'moved': {'cel': \"'eager' in user.segments\"}}"]
    assert (other.user.state.segments, other.user.state.traits["moved"]) == ((), False)


def test_counters_add_up_and_those_of_the_session_while_the_sessions_are_one() -> None:
    pair = Pair()
    pair.visitor.track("looked", ago="2m", page="a")
    pair.visitor.track("looked", page="b")
    pair.wait("5m")
    pair.user.track("looked", page="b")
    pair.merge()
    user = pair.user
    user.track("looked", page="c")
    shown = user.state.counters
    assert shown["looks"].total == 4
    assert shown["lately"].times == (START - 2 * MINUTE, START, START + 5 * MINUTE, START + 5 * MINUTE)
    assert shown["pages"].values == {"a": START - 2 * MINUTE, "b": START + 5 * MINUTE, "c": START + 5 * MINUTE}
    assert shown["here"].total == 4


def test_counters_of_a_session_that_is_over_do_not_come_back() -> None:
    pair = Pair()
    pair.user.track("looked", page="a")
    pair.user.disconnect()
    pair.wait("1h")
    pair.visitor.track("looked", page="b")
    pair.merge()
    pair.user.track("looked", page="c")
    assert pair.user.state.counters["here"].total == 2
    assert (pair.user.state.sessions, pair.user.state.counters["looks"].total) == (3, 3)


def test_of_each_step_the_further_and_the_flow_follows() -> None:
    pair = Pair()
    for step in ("one", "two"):
        pair.visitor.track("step_completed", step=step)
    pair.user.track("step_skipped", step="two")
    pair.user.track("step_viewed", step="three")
    pair.user.clear()
    pair.merge()
    assert pair.user.state.steps == {"one": "completed", "two": "completed", "three": "viewed"}
    [flow] = pair.user.pushed(Flow)
    assert (flow.reason, flow.position, [step.status for step in flow.steps]) == (
        "merged",
        2,
        ["completed", "completed", "viewed"],
    )


@pytest.mark.parametrize(("visitor", "user", "variant"), [(1, 0, "short"), (0, 1, "short"), (0, 0, None)])
def test_the_flow_that_was_chosen_stays(visitor: int, user: int, variant: str | None) -> None:
    pair = Pair()
    for play, chooses in ((pair.visitor, visitor), (pair.user, user)):
        if chooses:
            play.track("hurried")
    pair.merge()
    assert pair.user.state.flow is not None
    assert pair.user.state.flow.variant == variant


def test_slots_and_screen_are_the_users_first() -> None:
    pair = Pair()
    for play in (pair.visitor, pair.user):
        play.track("looked", page=play.state.user)
        play.track("puzzled")
    mine = pair.user.state
    pair.user.clear()
    pair.merge()
    assert pair.user.state.slots == mine.slots
    assert pair.user.state.prompt == mine.prompt
    assert pair.user.frames == []


def test_a_prompt_that_moved_is_handled_by_its_id() -> None:
    pair = Pair()
    pair.visitor.track("puzzled")
    pair.wait("9m")
    pair.merge()
    [prompt] = pair.user.pushed(Prompt)
    pair.user.track("prompt_dismissed", prompt=prompt.id)
    assert [(frame.id, frame.reason) for frame in pair.user.pushed(Withdraw)] == [(prompt.id, "dismissed")]


def test_a_prompt_whose_time_is_over_does_not_move() -> None:
    pair = Pair()
    pair.visitor.track("puzzled")
    pair.visitor.take(ev.Merge(id="m", at=START, into="u-1"))
    pair.user.now += parse_duration("10m")
    pair.absorb()
    assert (pair.user.on_screen, pair.user.pushed(Prompt)) == (None, [])


def test_limits_hold_over_both() -> None:
    pair = Pair()
    for play in (pair.visitor, pair.user):
        assert play.track("puzzled") == ["prompt help"]
        play.track("prompt_dismissed", message="help")
    pair.merge()
    assert pair.user.track("puzzled") == []
    assert pair.user.held_back() == ["offer: limit"]
    assert len(pair.user.state.prompted) == 2


ENTRIES = """
trigger: each-project
when: {event: joined}
then: [{set: {joined: {cel: event.properties.project}}}]
reentry: {key: event.properties.project, max: 2}
---
trigger: fewer
when: {count: {event: built, at_most: 1, within: 1d}}
then: [{set: {fewer: true}}]
---
persona: expert
if: user.traits.role == 'expert'
---
trigger: other-persona
when: {changes: persona}
then: [{set: {seen: {cel: user.persona}}}]
---
survey: why
questions: [{id: goal, ask: Why?, choose: [a, b], sets: goals}, {id: size, ask: Size?, choose: [1, 2]}]
"""


def test_entries_of_both_count_by_key() -> None:
    pair = Pair(ENTRIES)
    pair.visitor.track("joined", project="p")
    pair.visitor.track("joined", project="q")
    pair.user.track("joined", project="p")
    pair.merge()
    assert pair.user.track("joined", project="p") == []
    assert pair.user.track("joined", project="q") == ["set {'joined': {'cel': 'event.properties.project'}}"]


def test_a_count_falls_for_the_two_together() -> None:
    pair = Pair(ENTRIES)
    pair.visitor.track("built")
    pair.wait("1h")
    pair.user.track("built")
    pair.merge()
    assert pair.user.wait("22h59m") == []
    assert pair.user.wait("1m") == ["set {'fewer': True}"]


def test_the_persona_the_answers_and_the_place_come_along_and_are_no_news() -> None:
    pair = Pair(ENTRIES)
    pair.visitor.identify(role="expert")
    pair.visitor.track("survey_answered", survey="why", answers={"goal": "a"})
    pair.user.track("survey_answered", survey="why", answers={"size": 1})
    place = {"location": {"country": "DE"}, "device": {"type": "mobile"}}
    pair.visitor.take(ev.Track(id="there", name="looked", at=pair.visitor.now, context=place))
    assert pair.merge() == []
    state = pair.user.state
    assert (state.persona, state.location["country"], state.device["type"]) == ("expert", "DE", "mobile")
    assert (state.answers, state.traits["goals"]) == ({"why": {"goal": "a", "size": 1}}, ["a"])


def test_what_the_user_removed_since_does_not_come_back() -> None:
    pair = Pair(ENTRIES)
    pair.visitor.identify(role="expert", plan="free")
    pair.wait("1m")
    pair.user.identify(role=None, seats=1)
    pair.merge()
    assert "role" not in pair.user.state.traits
    assert pair.user.state.traits["plan"] == "free"


def test_what_either_refused_is_refused() -> None:
    pair = Pair()
    pair.visitor.consent(a=False, b=True, c=True)
    pair.user.consent(a=True, b=False, d=True)
    pair.merge()
    assert pair.user.state.consents == {"a": False, "b": False, "c": True, "d": True}


def test_two_open_sessions_are_one() -> None:
    pair = Pair()
    pair.wait("5m")
    pair.user.track("looked", page="a")
    pair.visitor.track("looked", page="b")
    pair.merge()
    session = pair.user.state.session
    assert session is not None
    assert (session.started, session.newest, session.events, session.ended) == (START, START + 5 * MINUTE, 2, 0)
    assert (pair.user.state.sessions, pair.user.state.last_visit) == (1, START)


COMES_BACK = """
trigger: letter
when: {delay: {after: {event: left}, for: 72h}}
cancel_on: [{event: session_started}]
then: [{webhook: mail}]
---
trigger: welcome-back
when: {returns: {after: 24h}}
then: [{set: {back: true}}]
---
trigger: begun
when: {session: started}
then: [{set: {begun: true}}]
---
webhook: mail
url: https://mail.example/
"""


def test_a_user_who_comes_back_as_an_anonymous_visitor_has_come_back() -> None:
    pair = Pair(COMES_BACK, visitor=False)
    pair.user.track("left")
    pair.user.disconnect()
    pair.wait("30h")
    visitor = pair.visitor
    visitor.state = fresh(visitor.program, "anon", "a1", visitor.now)
    assert visitor.connect() == ["set {'begun': True}"]
    visitor.track("left")
    assert (len(pair.user.state.waits), len(visitor.state.waits)) == (1, 1)
    pair.user.clear()
    assert pair.merge() == ["set {'back': True}"]
    state = pair.user.state
    assert [wait.due - visitor.now for wait in state.waits] == [72 * HOUR], "the visitor's; the user's own is cancelled"
    assert (state.last_visit, state.sessions) == (START, 2)
    assert [(line.trigger, line.outcome) for line in pair.user.trace][-3:] == [
        ("letter", "cancelled"),
        ("", "merged"),
        ("welcome-back", "fired"),
    ]


def test_one_who_was_here_already_does_not_come_back_again() -> None:
    pair = Pair(COMES_BACK)
    pair.user.disconnect()
    pair.wait("30h")
    pair.visitor.track("looked")
    assert pair.merge() == []


# --- patterns, holdout, silences, rules ---

PATTERNS = """
trigger: relaxed
when: {sequence: {steps: [{event: a}, {event: b}, {event: c}]}}
then: [{set: {relaxed: true}}]
---
trigger: strict
when: {sequence: {steps: [{event: a}, {event: b}, {event: c}], contiguity: strict}}
then: [{set: {strict: true}}]
---
trigger: forgot
when: {absence: {after: {event: a}, of: {event: c}, for: 10m}}
then: [{set: {forgot: true}}]
---
trigger: unprepared
when: {absence: {of: {event: a}, before: {event: z}}}
then: [{set: {unprepared: true}}]
---
trigger: third
when: {count: {event: d, at_least: 3, over: session}}
then: [{set: {third: true}}]
---
trigger: later
when: {delay: {after: {event: e}, for: 5m}}
then: [{set: {later: {cel: event.properties.who}}}]
---
trigger: snooze
when: {event: f}
then: [{prompt: note}]
---
message: note
kind: toast
actions: [{label: Later, do: {snooze: 1h}}]
"""


def test_a_sequence_goes_on_with_the_attempt_that_came_later() -> None:
    pair = Pair(PATTERNS)
    for name in "ab":
        pair.visitor.track(name)
    pair.merge()
    assert pair.user.track("c") == ["set {'relaxed': True}", "set {'strict': True}"]


def test_a_strict_sequence_of_two_histories_is_over() -> None:
    pair = Pair(PATTERNS)
    for name in "ab":
        pair.visitor.track(name)
    pair.user.track("x")
    pair.merge()
    assert pair.user.track("c") == ["set {'relaxed': True}"]


def test_an_absence_has_one_wait_the_later_one_unless_what_it_waits_for_came() -> None:
    pair = Pair(PATTERNS)
    pair.user.track("a")
    pair.wait("4m")
    pair.visitor.track("a")
    pair.merge()
    assert pair.user.wait("9m") == []
    assert pair.user.wait("1m") == ["set {'forgot': True}"]
    other = Pair(PATTERNS)
    other.visitor.track("a")
    other.wait("1m")
    other.user.track("c")
    other.merge()
    assert other.user.state.waits == ()
    assert other.user.track("z") == []


def test_delays_and_snoozes_of_both_come() -> None:
    pair = Pair(PATTERNS)
    pair.user.track("e", who="user")
    pair.wait("1m")
    pair.visitor.track("e", who="visitor")
    pair.visitor.track("f")
    pair.visitor.track("prompt_snoozed", message="note")
    pair.merge()
    assert pair.user.wait("4m") == ["set {'later': {'cel': 'event.properties.who'}}"]
    assert pair.user.state.traits["later"] == "user"
    pair.user.wait("1m")
    assert pair.user.state.traits["later"] == "visitor"
    pair.user.connect()
    pair.user.wait("55m")
    assert pair.user.on_screen == "note"


def test_a_merge_is_no_event_that_makes_a_count_reach_its_mark() -> None:
    pair = Pair(PATTERNS)
    for play in (pair.visitor, pair.visitor, pair.user):
        play.track("d")
    assert pair.merge() == []
    assert pair.user.track("d") == []


HOLDOUT = """
trigger: offer
when: {event: puzzled}
then: [{prompt: help}, {content: {slot: side, message: help}}]
---
message: help
kind: modal
---
policy: default
holdout: 50%
"""


def in_holdout(*, held: bool) -> str:
    return next(name for name in (f"v-{n}" for n in range(100)) if held_out(name, 5_000) == held)


@pytest.mark.parametrize("held", [True, False])
def test_who_was_or_was_not_held_out_stays_so_when_they_become_a_user(held: bool) -> None:
    pair = Pair(HOLDOUT)
    pair.visitor.state.user = in_holdout(held=held)
    pair.user.state.user = in_holdout(held=not held)
    pair.visitor.track("puzzled")
    pair.visitor.track("prompt_dismissed", message="help")
    pair.merge()
    assert pair.user.state.unit == in_holdout(held=held)
    pair.user.clear()
    pair.user.track("puzzled")
    assert pair.user.held_back() == (["offer: holdout"] if held else [])


def test_who_is_held_out_gets_nothing_of_a_visitor_who_was_not() -> None:
    pair = Pair(HOLDOUT)
    pair.visitor.state.user, pair.user.state.user = in_holdout(held=False), in_holdout(held=True)
    for play in (pair.user, pair.visitor):
        play.track("puzzled")
    assert pair.visitor.on_screen == "help"
    pair.user.clear()
    pair.merge()
    assert (pair.user.on_screen, pair.user.state.slots, pair.user.frames) == (None, {}, [])


def test_nothing_fixes_the_unit_before_it_matters() -> None:
    pair = Pair(HOLDOUT)
    pair.user.track("looked")
    assert pair.user.state.unit == ""
    pair.user.track("puzzled")
    assert pair.user.state.unit == "u-1"


SILENCE = """
trigger: busy-screen
when: {event: puzzled}
then: [{prompt: help}]
---
trigger: still
when: {idle: 3m}
then: [{prompt: nudge}]
when_blocked: {defer: 20m}
---
message: help
kind: modal
expires: 10m
---
message: nudge
kind: modal
"""


@pytest.mark.parametrize("silent", ["user", "visitor"])
def test_a_silence_that_the_other_broke_is_not_spoken_of(silent: str) -> None:
    pair = Pair(SILENCE)
    still, active = (pair.user, pair.visitor) if silent == "user" else (pair.visitor, pair.user)
    still.track("puzzled")
    pair.wait("4m")
    assert len(still.state.waits) == 1
    active.activity()
    pair.merge()
    assert pair.user.state.waits == ()


def test_what_the_visitor_began_under_older_rules_is_carried_over_as_after_any_change() -> None:
    pair = Pair(PATTERNS)
    pair.visitor.track("e", who="visitor")
    pair.visitor.track("a")
    kept = PATTERNS.replace("for: 5m", "for: 6m")
    gone = kept.replace("trigger: forgot", "trigger: renamed")
    pair.user.reload(gone)
    pair.merge()
    assert [wait.trigger for wait in pair.user.state.waits] == ["later"]
    assert pair.user.state.rules == pair.user.program.version


# --- once ---


def test_absorbing_twice_is_absorbing_once() -> None:
    pair = Pair()
    for page in "ab":
        pair.visitor.track("looked", page=page)
    pair.visitor.take(ev.Merge(id="m", at=START, into="u-1"))
    pair.absorb()
    once = pair.user.state
    pair.absorb()
    assert pair.user.state is once
    pair.user.state.seen = {}  # as after a day
    pair.absorb()
    assert pair.user.state.counters == once.counters
    assert pair.user.state.absorbed == ("a1",)


def test_what_the_visitor_had_applied_is_not_applied_to_the_user_again() -> None:
    pair = Pair()
    pair.visitor.track("looked", page="a", event_id="same")
    pair.merge()
    assert pair.user.track("looked", page="a", event_id="same") == []
    assert pair.user.state.counters["looks"].total == 1
