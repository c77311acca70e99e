"""Each kind of `when`: when it comes true, when it does not, and at which instant."""

from __future__ import annotations

from typing import Any

import pytest
from plays import START, Play

from handrail.core.engine import step
from handrail.core.events import Alarm, Track

MESSAGES = """
---
message: help
kind: modal
---
message: other
kind: toast
"""


def marks(when: str, *more: str) -> str:
    """A rule set whose one trigger `t` sets a trait, so that nothing holds it back."""
    return "\n".join([f"trigger: t\nwhen: {when}", *more, "then:\n  - set: {hit: true}\n"])


HIT = ["set {'hit': True}"]


# --- event ---


def test_an_event_wakes_the_triggers_that_name_it_and_no_others() -> None:
    play = Play(marks("{event: invited}"))
    assert play.track("invited") == HIT
    assert play.track("uninvited") == []


@pytest.mark.parametrize(
    ("properties", "fires"),
    [({"n": 3}, True), ({"n": 2}, False), ({}, False), ({"n": "three"}, False), ({"n": None}, False)],
)
def test_where_must_hold_and_an_error_in_it_is_false(properties: dict[str, Any], fires: bool) -> None:
    play = Play(marks('{event: invited, where: "event.properties.n > 2"}'))
    assert bool(play.track("invited", **properties)) is fires


def test_a_condition_that_does_not_hold_is_told_in_the_trace() -> None:
    play = Play(marks("{event: invited}", "if: user.traits.plan == 'pro'"))
    play.track("invited")
    (line,) = play.trace
    assert (line.trigger, line.outcome, line.reason) == ("t", "not-met", "user.traits.plan == 'pro'")
    assert "plan" in line.detail


def test_any_form_of_a_list_wakes_the_trigger_and_one_happening_wakes_it_once() -> None:
    play = Play(marks("[{event: a}, {event: b}, {changes: traits.plan}, {changes: traits.role}]"))
    assert play.track("a") == HIT
    assert play.track("b") == HIT
    assert play.identify(plan="pro", role="admin") == HIT


def test_an_event_of_a_user_who_is_not_connected_counts_like_any_other() -> None:
    assert Play(marks("{event: a}"), connected=False).track("a") == HIT


# --- count ---


def fires(play: Play, *names: str) -> list[bool]:
    return [bool(play.track(name)) for name in names]


def test_a_count_comes_true_on_the_event_that_reaches_it_and_only_then() -> None:
    play = Play(marks("{count: {event: skip, at_least: 2}}"))
    assert fires(play, "skip", "other", "skip", "skip", "skip") == [False, False, True, False, False]


def test_a_count_takes_only_events_that_where_admits() -> None:
    play = Play(marks("{count: {event: use, where: \"event.properties.f == 'a'\", at_least: 2}}"))
    assert [bool(play.track("use", f=f)) for f in ("a", "b", "a")] == [False, False, True]


def test_a_count_within_a_window_comes_true_again_after_it_fell_below() -> None:
    play = Play(marks("{count: {event: skip, at_least: 2, within: 10m}}"))
    play.track("skip")
    play.wait("9m59s")
    assert play.track("skip") == HIT
    assert play.track("skip") == [], "there are two already: no crossing"
    play.wait("10m")
    assert fires(play, "skip", "skip") == [False, True]


def test_a_window_ends_exactly_its_length_after_the_event() -> None:
    play = Play(marks("{count: {event: skip, at_least: 2, within: 10m}}"))
    play.track("skip")
    play.wait("10m")
    assert play.track("skip") == []


def test_a_count_of_the_first_days_stands_still_afterwards() -> None:
    play = Play(marks("{count: {event: use, at_least: 2, first: 24h}}"))
    play.track("use")
    play.wait("24h")
    assert fires(play, "use", "use") == [False, False]
    play = Play(marks("{count: {event: use, at_least: 2, first: 24h}}"))
    play.track("use")
    play.wait("23h59m59s")
    assert play.track("use") == HIT


def test_a_count_over_the_session_begins_anew_with_each() -> None:
    play = Play(marks("{count: {event: use, at_least: 2, over: session}}"))
    assert fires(play, "use", "use", "use") == [False, True, False]
    play.wait("31m")
    assert fires(play, "use", "use") == [False, True]


def test_a_distinct_count_tells_values_apart() -> None:
    play = Play(marks("{count: {event: use, distinct: event.properties.f, at_least: 3, within: 48h}}"))
    assert [bool(play.track("use", f=f)) for f in ("a", "b", "a", "b", "c", "d")] == [False] * 4 + [True, False]


def test_a_distinct_count_leaves_out_events_without_a_value() -> None:
    play = Play(marks("{count: {event: use, distinct: event.properties.f, at_least: 2}}"))
    play.track("use")
    play.track("use", f=None)
    play.track("use", f="a")
    assert play.track("use", f="b") == HIT


def test_seeing_a_value_again_keeps_it_in_the_window() -> None:
    play = Play(marks("{count: {event: use, distinct: event.properties.f, at_least: 2, within: 1h}}"))
    play.track("use", f="a")
    play.wait("50m")
    play.track("use", f="a")
    play.wait("50m")
    assert play.track("use", f="b") == HIT


def test_events_that_arrive_out_of_order_are_counted_where_they_belong() -> None:
    play = Play(marks("{count: {event: use, at_least: 3, within: 10m}}"))
    play.wait("20m")
    play.track("use")
    play.track("use", ago="1m")
    assert play.track("use", ago="10m") == [], "it is older than the window"
    assert play.track("use", ago="9m") == HIT


# --- idle ---

IDLE = marks("{idle: 3m}")


def test_idle_comes_true_that_long_after_the_last_activity() -> None:
    play = Play(IDLE)
    assert play.wait("2m59s") == []
    play.track("anything")
    assert play.wait("2m59s") == []
    assert play.wait("1s") == HIT


def test_idle_comes_true_once_per_stretch() -> None:
    play = Play(IDLE)
    assert play.wait("25m") == HIT
    play.activity()
    assert play.wait("25m") == HIT


def test_idles_of_several_lengths_each_have_their_instant() -> None:
    play = Play(marks("[{idle: 1m}, {idle: 5m}]"))
    assert play.wait("1m") == HIT
    assert play.wait("3m59s") == []
    assert play.wait("1s") == HIT


def test_idle_is_over_when_the_session_is() -> None:
    play = Play(marks("{idle: 31m}"))
    assert play.wait("2h") == []


def test_idle_as_long_as_the_session_may_be_idle_still_comes_true() -> None:
    assert Play(marks("{idle: 30m}")).wait("2h") == HIT


def test_nobody_is_idle_who_is_not_connected() -> None:
    play = Play(IDLE, connected=False)
    play.track("anything")
    assert play.wait("25m") == []


def test_a_hidden_tab_is_not_idle_and_showing_it_begins_a_new_stretch() -> None:
    play = Play(IDLE)
    play.hide()
    assert play.wait("10m") == []
    assert play.activity(visible=True) == []
    assert play.wait("2m59s") == []
    assert play.wait("1s") == HIT


def test_one_visible_tab_among_several_is_enough() -> None:
    play = Play(IDLE)
    play.connect("two", visible=False)
    play.hide("one")
    assert play.wait("5m") == []
    play.activity("two", visible=True)
    assert play.wait("3m") == HIT


def test_activity_in_one_tab_counts_for_all() -> None:
    play = Play(IDLE)
    play.connect("two")
    for _ in range(5):
        play.wait("1m")
        play.activity("two")
    assert play.wait("2m59s") == []
    assert play.wait("1s") == HIT


def test_hiding_and_closing_a_tab_is_no_activity() -> None:
    play = Play(IDLE)
    play.connect("two")
    play.connect("three")
    play.wait("2m")
    play.hide("two")
    play.disconnect("three")
    assert play.wait("1m") == HIT


def test_prompt_shown_is_no_activity_and_the_other_prompt_events_are() -> None:
    play = Play(IDLE)
    play.wait("2m")
    play.track("prompt_shown", message="help")
    assert play.wait("1m") == HIT
    for name in ("prompt_clicked", "prompt_dismissed", "prompt_snoozed", "prompt_completed"):
        play.track(name, message="help")
        assert play.wait("2m59s") == []
        assert play.wait("1s") == HIT


def test_who_connects_idle_was_last_active_before_that() -> None:
    play = Play(IDLE, connected=False)
    play.connect(idle="2m")
    assert play.wait("59s") == []
    assert play.wait("1s") == HIT


def test_a_reconnecting_page_that_is_still_idle_is_told_at_once() -> None:
    play = Play(IDLE)
    play.wait("1m")
    play.disconnect()
    assert play.wait("3m") == []
    assert play.connect(idle="4m") == HIT


def test_a_page_that_slept_past_its_session_is_left_alone() -> None:
    play = Play(IDLE)
    play.disconnect()
    play.wait("8h")
    assert play.connect(idle="8h") == []
    assert play.wait("1h") == []


def test_a_deadline_that_passed_on_a_dead_process_is_not_a_modal_for_later() -> None:
    play = Play(IDLE)
    play.now += 200_000
    assert play.take(Alarm(at=play.now, lost_nodes=("n1",))) == []
    assert not play.state.connections


def test_connections_of_other_processes_stay() -> None:
    play = Play(IDLE)
    play.connect("two", node="n2")
    play.wait("1m")
    play.take(Alarm(at=play.now, lost_nodes=("n1",)))
    assert list(play.state.connections) == ["two"]
    assert play.wait("2m") == HIT


# --- away ---

AWAY = marks("{away: 24h}")


def test_away_comes_true_once_per_absence() -> None:
    play = Play(AWAY)
    play.wait("1m")
    play.disconnect()
    assert play.wait("23h58m59s") == []
    assert play.wait("1s") == HIT
    assert play.wait("9d") == []
    play.track("seen_elsewhere")
    assert play.wait("24h") == HIT


def test_away_waits_for_everybody_to_leave_and_then_comes_true_at_once() -> None:
    play = Play(AWAY)
    play.connect("two")
    assert play.wait("25h") == []
    assert play.disconnect("one") == []
    assert play.disconnect("two") == HIT


def test_away_counts_users_who_were_never_connected() -> None:
    play = Play(AWAY, connected=False)
    assert play.wait("3d") == [], "a user who never did anything is not away"
    play.track("signed_up")
    assert play.wait("24h") == HIT


def test_away_survives_restarts_on_the_way() -> None:
    play = Play(AWAY)
    play.disconnect()
    for _ in range(23):
        assert play.wait("1h") == []
        play.restart()
    assert play.wait("1h") == HIT
    play.restart()
    assert play.wait("48h") == []


def test_away_overdue_while_no_server_ran_comes_true_once_with_each_length() -> None:
    play = Play(marks("[{away: 24h}, {away: 3d}]"))
    play.disconnect()
    assert play.sleep("10d") == HIT * 2
    assert play.due_in is None


def test_a_tab_that_comes_and_goes_without_activity_does_not_end_the_absence() -> None:
    play = Play(AWAY)
    play.disconnect()
    assert play.wait("24h") == HIT
    play.connect(idle="24h")
    play.disconnect()
    assert play.wait("48h") == []


# --- returns ---

RETURNS = marks("{returns: {after: 24h}}")


@pytest.mark.parametrize(("gap", "fires"), [("24h", True), ("23h59m59s", False), ("3d", True)])
def test_returns_is_the_first_activity_after_a_gap_at_least_that_long(gap: str, fires: bool) -> None:
    play = Play(RETURNS)
    play.disconnect()
    play.wait(gap)
    assert play.connect() == (HIT if fires else [])
    assert play.track("anything") == []


def test_the_first_visit_of_all_is_no_return() -> None:
    play = Play(RETURNS, connected=False)
    play.wait("9d")
    assert play.connect() == []


def test_last_visit_is_the_visit_before_and_stands_still_during_the_session() -> None:
    play = Play(marks("{event: look}", "if: now - user.last_visit >= duration('24h')"))
    play.wait("5m")
    play.track("bye")
    play.disconnect()
    play.wait("24h")
    play.connect()
    assert play.state.last_visit == START + 300_000
    for _ in range(3):
        play.wait("20m")
        assert play.track("look") == HIT
    play.wait("2h")
    assert play.track("look") == [], "the next session looks back on this one"


def test_in_the_first_session_the_last_visit_is_when_the_user_was_first_seen() -> None:
    play = Play(marks("{event: look}", "if: user.last_visit == user.first_seen"))
    play.wait("10m")
    assert play.track("look") == HIT


# --- segments ---

SEGMENTS = """
segment: pro
if: user.traits.plan == 'pro'
---
segment: busy-pro
if: "'pro' in user.segments && user.counters.uses >= 2"
---
counter: uses
of: use
---
trigger: in
when: {enters: busy-pro}
then: [{set: {in: true}}]
---
trigger: out
when: {leaves: busy-pro}
then: [{set: {out: true}}]
"""


def test_segments_are_entered_and_left_when_what_they_read_changes() -> None:
    play = Play(SEGMENTS)
    play.track("use")
    play.identify(plan="pro")
    assert list(play.state.segments) == ["pro"]
    assert play.track("use") == ["set {'in': True}"]
    assert play.track("use") == []
    assert play.identify(plan="free") == ["set {'out': True}"]
    assert list(play.state.segments) == []


def test_entering_and_leaving_are_events_that_rules_can_wait_for() -> None:
    play = Play(SEGMENTS + "---\n" + marks("{event: segment_entered, where: \"event.properties.segment == 'pro'\"}"))
    assert play.identify(plan="pro") == HIT


def test_a_segment_over_a_sliding_counter_is_left_by_time_alone() -> None:
    play = Play("""
        segment: busy
        if: user.counters.uses >= 2
        ---
        counter: uses
        of: use
        within: 10m
        ---
        trigger: out
        when: {leaves: busy}
        then: [{set: {out: true}}]
    """)
    play.track("use")
    play.wait("4m")
    play.track("use")
    assert play.wait("5m59s") == []
    assert play.wait("1s") == ["set {'out': True}"]


def test_a_segment_over_a_session_counter_is_left_when_the_next_session_begins() -> None:
    play = Play("""
        segment: skipper
        if: user.counters.skips >= 1
        ---
        counter: skips
        of: skip
        over: session
    """)
    play.track("skip")
    assert list(play.state.segments) == ["skipper"]
    play.wait("2h")
    play.track("hello")
    assert list(play.state.segments) == []


def test_a_segment_that_reads_nothing_is_judged_all_the_same() -> None:
    assert Play("segment: everybody\nif: 'true'").state.segments == ("everybody",)


def test_a_segment_over_the_clock_is_judged_at_every_event() -> None:
    play = Play("segment: long-session\nif: user.session.length >= duration('10m')")
    play.wait("9m")
    play.track("a")
    assert list(play.state.segments) == []
    play.wait("1m")
    play.track("a")
    assert list(play.state.segments) == ["long-session"]


@pytest.mark.parametrize(
    ("condition", "do"),
    [
        ("user.sessions >= 2", "session"),
        ("user.steps.invite == 'completed'", "step"),
        ("user.consents.mail", "consent"),
        ("'team' in user.goals", "goals"),
        ("user.locale == 'de'", "locale"),
        ("user.flow.position >= 1", "step"),
        ("user.counters['uses'] >= 1", "use"),
        ("user.counters[user.traits.which] >= 1", "use"),
        ("user.segments.exists(s, s == 'pro')", "pro"),
    ],
)
def test_a_segment_follows_whatever_it_reads(condition: str, do: str) -> None:
    play = Play(f"""
        segment: it
        if: "{condition}"
        ---
        segment: pro
        if: user.traits.plan == 'pro'
        ---
        counter: uses
        of: use
        ---
        flow: start
        steps: [{{id: invite}}, {{id: done}}]
    """)
    play.identify(which="uses")
    assert "it" not in play.state.segments
    match do:
        case "session":
            play.wait("1h")
            play.track("a")
        case "step":
            play.track("step_completed", step="invite")
        case "consent":
            play.consent(mail=True)
        case "goals":
            play.identify(goals=["team"])
        case "locale":
            play.identify(locale="de")
        case "use":
            play.track("use")
        case "pro":
            play.identify(plan="pro")
    assert "it" in play.state.segments


# --- changes ---


def test_changes_is_another_value_and_not_the_same_again() -> None:
    play = Play(marks("{changes: traits.plan}"))
    assert play.identify(plan="pro") == HIT
    assert play.identify(plan="pro", name="x") == []
    assert play.identify(plan="free") == HIT
    assert play.identify(plan=None) == HIT
    assert play.identify(plan=None) == []


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (1, 1.5), ("1", 1), ([1], [1, 2]), ({}, [])])
def test_values_of_another_type_are_other_values(before: object, after: object) -> None:
    play = Play(marks("{changes: traits.x}"))
    play.identify(x=before)
    assert play.identify(x=after) == HIT


def test_a_trait_set_by_a_rule_changes_too() -> None:
    play = Play(
        "trigger: s\nwhen: {event: upgraded}\nthen: [{set: {plan: pro}}]\n---\n" + marks("{changes: traits.plan}")
    )
    assert play.track("upgraded") == ["set {'plan': 'pro'}", *HIT]
    assert play.track("upgraded") == ["set {'plan': 'pro'}"]


def test_the_condition_sees_what_the_trait_was_and_is() -> None:
    play = Play(marks("{changes: traits.plan}", "if: event.properties.from == 'free' && event.properties.to == 'pro'"))
    assert play.identify(plan="free") == []
    assert play.identify(plan="pro") == HIT


# --- delay ---

DELAY = marks("{delay: {after: {event: invited}, for: 1h}}")


def test_a_delay_comes_true_that_long_after_the_event_wherever_the_user_is() -> None:
    play = Play(DELAY)
    play.track("invited")
    play.disconnect()
    play.restart()
    assert play.wait("59m59s") == []
    assert play.wait("1s") == HIT
    assert play.wait("9d") == []


def test_each_event_arms_a_wait_of_its_own_even_at_the_same_instant() -> None:
    play = Play("""
        trigger: t
        when: {delay: {after: {event: invited, where: event.properties.who != 'nobody'}, for: 1h}}
        then: [{emit: {event: reminded, properties: {who: {cel: event.properties.who}}}}]
        ---
        counter: reminders
        of: reminded
        distinct: event.properties.who
    """)
    for who in ("ann", "bob", "nobody"):
        play.track("invited", who=who)
    play.wait("10m")
    play.track("invited", who="cleo")
    assert len(play.wait("50m")) == 2
    assert len(play.wait("10m")) == 1
    assert set(play.state.counters["reminders"].values) == {"ann", "bob", "cleo"}


def test_the_condition_is_judged_when_the_wait_is_over() -> None:
    play = Play(marks("{delay: {after: {event: invited}, for: 1h}}", "if: user.traits.plan == 'pro'"))
    play.track("invited")
    play.identify(plan="pro")
    assert play.wait("1h") == HIT


def test_a_delay_counts_from_when_the_event_happened() -> None:
    play = Play(DELAY)
    play.wait("30m")
    play.track("invited", ago="1m")
    assert play.state.waits[0].due == play.now + 59 * 60_000
    assert play.wait("59m") == HIT


def test_cancel_on_ends_the_waits_of_its_trigger_and_of_no_other() -> None:
    play = Play(
        "trigger: u\nwhen: {delay: {after: {event: invited}, for: 2h}}\nthen: [{set: {u: 1}}]\n---\n"
        + marks(
            "{delay: {after: {event: invited}, for: 1h}}",
            "cancel_on: [{event: joined, where: event.properties.ok == true}, {event: left}]",
        )
    )
    play.track("invited")
    play.track("joined", ok=False)
    assert len(play.state.waits) == 2
    play.track("joined", ok=True)
    assert play.wait("1h") == []
    assert play.wait("1h") == ["set {'u': 1}"]
    play.track("invited")
    play.track("left")
    play.track("invited")
    assert play.wait("1h") == HIT


def test_a_wait_due_at_the_instant_of_its_cancellation_is_over_first() -> None:
    play = Play(marks("{delay: {after: {event: invited}, for: 1h}}", "cancel_on: [{event: joined}]"))
    play.track("invited")
    play.now += 3_600_000
    assert play.track("joined") == HIT


def test_an_event_may_cancel_what_came_before_and_arm_anew() -> None:
    play = Play(marks("{delay: {after: {event: typed}, for: 10s}}", "cancel_on: [{event: typed}]"))
    for _ in range(5):
        play.track("typed")
        assert play.wait("9s") == []
    assert play.wait("1s") == HIT


@pytest.mark.parametrize(
    ("on_change", "after_30m", "after_1h"), [("finish", HIT, []), ("restart", [], HIT), ("cancel", [], [])]
)
def test_who_is_waiting_when_the_rule_changes(on_change: str, after_30m: list[str], after_1h: list[str]) -> None:
    play = Play(marks("{delay: {after: {event: invited}, for: 1h}}", f"on_change: {on_change}"))
    play.track("invited")
    play.wait("30m")
    play.reload(marks("{delay: {after: {event: invited}, for: 1h}}", f"on_change: {on_change}", "description: new"))
    assert play.wait("30m") == after_30m
    assert play.wait("30m") == after_1h


@pytest.mark.parametrize("on_change", ["finish", "restart", "cancel"])
def test_a_change_elsewhere_leaves_the_wait_alone(on_change: str) -> None:
    rule = marks("{delay: {after: {event: invited}, for: 1h}}", f"on_change: {on_change}")
    play = Play(rule)
    play.track("invited")
    play.wait("30m")
    play.reload(rule + MESSAGES)
    assert play.wait("30m") == HIT


def test_a_rule_that_is_gone_no_longer_waits() -> None:
    play = Play(DELAY)
    play.track("invited")
    play.reload(marks("{event: invited}").replace("trigger: t", "trigger: another"))
    assert play.state.waits == ()
    assert play.wait("2h") == []


def test_a_delay_of_nothing_is_now() -> None:
    assert Play(marks("{delay: {after: {event: invited}, for: 0s}}")).track("invited") == HIT


def test_a_delay_of_nothing_that_feeds_itself_comes_to_an_end() -> None:
    play = Play("trigger: t\nwhen: {delay: {after: {event: x}, for: 0s}}\nthen: [{emit: {event: x}}]")
    assert 1 <= len(play.track("x")) <= 16
    assert "t: loop" in play.held_back()
    assert play.due_in is not None
    assert play.due_in > 0


# --- session ---

ENDED = marks("{session: ended}")


def test_a_session_starts_with_activity_and_ends_at_the_last_one_and_the_idle_limit() -> None:
    play = Play(marks("{session: started}"), connected=False)
    assert play.connect() == HIT
    assert play.track("a") == []
    assert play.state.sessions == 1
    play = Play(ENDED)
    play.wait("10m")
    play.track("a")
    assert play.wait("29m59s") == []
    assert play.wait("1s") == HIT
    session = play.state.session
    assert session is not None
    assert (session.started, session.ended) == (START, START + 40 * 60_000)


def test_a_session_is_stamped_with_when_it_ended_however_late_that_is_found() -> None:
    play = Play(ENDED)
    assert play.sleep("5h") == HIT
    session = play.state.session
    assert session is not None
    assert session.ended == START + 30 * 60_000


def test_what_waits_for_the_end_of_a_session_counts_from_its_end() -> None:
    play = Play(marks("{delay: {after: {event: session_ended}, for: 1h}}"))
    assert play.sleep("80m") == []
    assert play.wait("10m") == HIT


def test_a_server_that_pushes_does_not_extend_the_session() -> None:
    play = Play("trigger: p\nwhen: {idle: 10m}\nthen: [{prompt: help}]\n---\n" + ENDED + MESSAGES)
    assert play.wait("10m") == ["prompt help"]
    play.track("prompt_shown", message="help")
    assert play.wait("20m") == HIT


def test_a_session_has_a_longest_length_whatever_the_user_does() -> None:
    play = Play("policy: default\nsession: {idle: 30m, max: 2h}\n---\n" + ENDED)
    hits = [hit for _ in range(12) for hit in [*play.wait("10m"), *play.track("a")]]
    assert hits == HIT
    assert play.state.sessions == 2
    assert play.state.session is not None
    assert play.state.session.started == START + 2 * 3_600_000


def test_an_activity_at_the_very_end_of_a_session_begins_the_next() -> None:
    play = Play(ENDED)
    play.wait("30m")
    play.track("a")
    assert play.state.sessions == 2


def test_sessions_do_not_overlap_when_an_event_is_told_too_late() -> None:
    play = Play(ENDED)
    play.wait("40m")
    first = play.state.session
    play.track("a", ago="20m")
    second = play.state.session
    assert first is not None
    assert second is not None
    assert second.started >= first.ended


def test_connecting_anew_within_the_limit_is_the_same_session() -> None:
    play = Play(ENDED)
    play.disconnect()
    play.wait("29m")
    play.connect("two")
    assert play.state.sessions == 1


# --- duplicates, order, ties ---


def test_an_event_id_is_applied_once() -> None:
    play = Play(marks("{count: {event: a, at_least: 2}}"))
    play.track("a", event_id="same")
    before = play.state
    play.wait("1m")
    assert play.track("a", event_id="same") == []
    assert play.state is before
    play.restart()
    assert play.track("a", event_id="same") == []
    assert play.track("a", event_id="new") == HIT


def test_what_fell_due_before_the_event_comes_before_it() -> None:
    play = Play(marks("{delay: {after: {event: a}, for: 1m}}") + "---\n" + marks("{event: a}").replace("t\n", "u\n", 1))
    play.track("a")
    play.now += 60_000
    done = step(play.program, play.state, Track(id="x", name="a", at=play.now), play.now)
    assert [line.trigger for line in done.trace if line.outcome == "fired"] == ["t", "u"]


def test_what_falls_due_at_one_instant_is_judged_together_by_priority() -> None:
    play = Play(
        """
        trigger: low
        when: {idle: 5m}
        then: [{prompt: other}]
        ---
        trigger: high
        when: {delay: {after: {event: a}, for: 5m}}
        priority: high
        then: [{prompt: help}]
        ---
        message: help
        kind: modal
        ---
        message: other
        kind: toast
        """
    )
    play.track("a")
    assert play.wait("5m") == ["prompt help"]
    assert play.held_back() == ["low: busy"]


def test_a_catching_up_server_decides_what_it_missed_in_the_order_of_time() -> None:
    play = Play("""
        trigger: third
        when: {session: ended}
        then: [{set: {third: 1}}]
        ---
        trigger: second
        when: {delay: {after: {event: a}, for: 20m}}
        then: [{set: {second: 1}}]
        ---
        trigger: first
        when: {idle: 3m}
        then: [{set: {first: 1}}]
    """)
    play.track("a")
    assert play.sleep("6h") == ["set {'first': 1}", "set {'second': 1}", "set {'third': 1}"]
    assert play.due_in is None
