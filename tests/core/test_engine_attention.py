"""Who may speak, and when: limits, cooldowns, the policy's caps, priority, one prompt on the screen, late events."""

from __future__ import annotations

from typing import Any

import pytest
from plays import Play

from handrail.core.frames import Prompt, Withdraw

HELP = """
---
message: help
kind: modal
title: Need a hand?
expires: 10m
actions:
  - {label: Show me, do: {flow: short}}
  - {label: Tell sales, do: {emit: sales-called}}
  - {label: Later, do: {snooze: 1h}}
  - {label: No thanks, do: dismiss}
---
message: other
kind: toast
---
flow: start
steps: [{id: one}, {id: two}]
variants: [{id: short, steps: [one]}]
"""


def mark(*more: str, name: str = "t", on: str = "go") -> str:
    return "\n".join([f"trigger: {name}", f"when: {{event: {on}}}", *more, "then: [{set: {hit: true}}]", "---\n"])


def prompting(*more: str, name: str = "p", on: str = "go", message: str = "help") -> str:
    return "\n".join([f"trigger: {name}", f"when: {{event: {on}}}", *more, f"then: [{{prompt: {message}}}]", "---\n"])


def rules(*triggers: str, policy: str = "skew: 2m") -> str:
    return "".join(triggers) + f"policy: default\n{policy}" + HELP


# --- limit ---


def outcomes(play: Play, *spans: str) -> list[bool]:
    """Whether `go` fired, tracked now and again after each span."""
    fired = [bool(play.track("go"))]
    for span in spans:
        play.wait(span)
        fired.append(bool(play.track("go")))
    return fired


def test_once_is_once_ever_over_sessions_and_restarts() -> None:
    play = Play(rules(mark("limit: once")))
    assert outcomes(play, "1m", "2h") == [True, False, False]
    play.restart()
    assert outcomes(play, "30d") == [False, False]
    assert set(play.held_back()) == {"t: limit"}


def test_a_limit_per_session_counts_in_each_session_anew() -> None:
    play = Play(rules(mark("limit: 2 per session")))
    assert outcomes(play, "1m", "1m", "31m", "1m", "1m") == [True, True, False, True, True, False]


def test_a_limit_per_window_slides() -> None:
    play = Play(rules(mark("limit: 2 per 1h")))
    assert outcomes(play, "30m", "29m59s", "1s", "29m59s", "1s") == [True, True, False, True, False, True]


def test_every_limit_of_a_list_holds() -> None:
    play = Play(rules(mark("limit: [1 per session, 2 per 7d]")))
    assert outcomes(play, "1m", "1h", "1h", "7d") == [True, False, True, False, True]


def test_a_cooldown_is_over_after_exactly_its_length() -> None:
    play = Play(rules(mark("cooldown: 24h")))
    assert outcomes(play, "23h59m59s", "1s") == [True, False, True]
    assert play.held_back() == ["t: cooldown"]


def test_a_limit_counts_the_triggers_own_firings_only() -> None:
    play = Play(rules(mark("limit: once", name="t"), mark("limit: once", name="u", on="walk")))
    assert play.track("go")
    assert play.track("walk")


# --- policy ---


def dismissed(play: Play) -> None:
    if play.on_screen:
        play.track("prompt_dismissed", message=play.on_screen)


def prompted(play: Play, *spans: str) -> list[bool]:
    fired = []
    for span in ("0s", *spans):
        play.wait(span)
        fired.append(bool(play.track("go")))
        dismissed(play)
    return fired


def test_the_policy_caps_prompts_over_all_triggers() -> None:
    play = Play(
        rules(prompting(), prompting(name="q", on="walk", message="other"), policy="prompts: {limit: 2 per session}")
    )
    assert prompted(play) == [True]
    assert play.track("walk") == ["prompt other"]
    dismissed(play)
    assert prompted(play, "31m") == [False, True]
    assert play.held_back() == ["p: cap"]


def test_a_gap_keeps_prompts_apart() -> None:
    play = Play(rules(prompting(), policy="prompts: {gap: 30s}"))
    assert prompted(play, "29s", "1s") == [True, False, True]
    assert play.held_back() == ["p: gap"]


def test_the_policy_does_not_hold_back_what_shows_nothing() -> None:
    play = Play(rules(mark(), policy="prompts: {limit: 0 per session}"))
    assert play.track("go")


MAIL = """trigger: m
when: {event: mail}
then: [{webhook: letter}]
---
webhook: letter
url: https://mail.example/send
secret: a-secret-that-is-long-enough-for-standard
channel: email
---
trigger: c
when: {event: call}
then: [{webhook: crm}]
---
webhook: crm
url: https://crm.example/
secret: a-secret-that-is-long-enough-for-standard
---
"""


def test_e_mail_has_caps_of_its_own_and_other_webhooks_have_none() -> None:
    play = Play(rules(MAIL, policy="email: {limit: [1 per 7d]}"))
    assert play.track("mail") == ["webhook letter"]
    assert play.track("mail") == []
    assert play.held_back() == ["m: cap"]
    assert [play.track("call") for _ in range(3)] == [["webhook crm"]] * 3
    play.wait("7d")
    assert play.track("mail") == ["webhook letter"]


def test_prompts_and_e_mail_share_one_budget() -> None:
    play = Play(rules(MAIL, prompting(), policy="budget: 2 per 24h"))
    assert play.track("mail")
    play.wait("1h")
    assert prompted(play, "1m") == [True, False]
    assert play.track("mail") == []
    assert play.held_back() == ["p: cap", "m: cap"]
    play.wait("22h59m")
    assert play.track("mail"), "the first e-mail no longer counts, the prompt still does"
    assert play.track("mail") == []


def test_a_cap_may_count_further_than_what_is_kept_by_default() -> None:
    play = Play(rules(prompting(), policy="prompts: {limit: 250 per 7d}"))
    assert sum(prompted(play, *["1m"] * 259)) == 250


def test_a_prompt_counts_when_it_is_decided_even_with_only_hidden_tabs() -> None:
    play = Play(rules(prompting("limit: 1 per session")))
    play.hide()
    assert play.track("go") == ["prompt help"]
    assert play.on_screen == "help"


# --- order ---


def test_priority_comes_first_then_the_order_of_documents() -> None:
    names = [("a", "lowest"), ("b", ""), ("c", "highest"), ("d", "medium"), ("e", "low"), ("f", "high"), ("g", "high")]
    text = rules(*(mark(*([f"priority: {level}"] if level else []), name=name) for name, level in names))
    play = Play(text)
    play.track("go")
    assert "".join(line.trigger for line in play.trace) == "cfgbdea"


def test_one_prompt_wins_and_the_others_are_told_busy() -> None:
    play = Play(rules(prompting(name="a"), prompting("priority: high", name="b", message="other"), mark()))
    assert play.track("go") == ["prompt other", "set {'hit': True}"]
    assert play.held_back() == ["a: busy"]


def test_a_newcomer_never_displaces_what_is_on_the_screen() -> None:
    play = Play(rules(prompting(), prompting("priority: highest", name="q", on="walk", message="other")))
    play.track("go")
    assert play.track("walk") == []
    assert play.on_screen == "help"


def test_a_suppressed_trigger_does_not_count_as_fired() -> None:
    play = Play(rules(prompting(), prompting("limit: once", name="q", on="walk", message="other")))
    play.track("go")
    play.track("walk")
    dismissed(play)
    assert play.track("walk") == ["prompt other"]


def test_a_trigger_acts_whole_or_not_at_all() -> None:
    both = "trigger: q\nwhen: {event: walk}\nthen: [{set: {seen: true}}, {prompt: other}]\n---\n"
    play = Play(rules(prompting(), both))
    play.track("go")
    assert play.track("walk") == []
    assert "seen" not in play.state.traits


def test_a_trigger_may_clear_the_screen_for_its_own_prompt() -> None:
    swap = "trigger: q\nwhen: {event: walk}\nthen: [{withdraw: help}, {prompt: other}]\n---\n"
    play = Play(rules(prompting(), swap))
    play.track("go")
    play.clear()
    assert play.track("walk") == ["withdraw help", "prompt other"]
    withdrawn, shown = play.frames
    assert isinstance(withdrawn, Withdraw)
    assert withdrawn.reason == "withdrawn"
    assert isinstance(shown, Prompt)
    assert shown.offset == withdrawn.offset + 1


def test_clearing_the_screen_afterwards_does_not_make_room() -> None:
    late = "trigger: q\nwhen: {event: walk}\nthen: [{prompt: other}, {withdraw: help}]\n---\n"
    play = Play(rules(prompting(), late))
    play.track("go")
    assert play.track("walk") == []
    assert play.held_back() == ["q: busy"]


def test_withdrawing_what_is_not_on_the_screen_sends_nothing() -> None:
    play = Play(rules("trigger: w\nwhen: {event: go}\nthen: [{withdraw: help}]\n---\n"))
    assert play.track("go") == ["withdraw help"]
    assert play.frames == []


# --- on the screen ---


def test_a_prompt_carries_what_the_page_needs_and_expires_everywhere() -> None:
    play = Play(rules(prompting()))
    play.track("go")
    (prompt,) = play.pushed(Prompt)
    assert (prompt.message, prompt.kind, prompt.title, prompt.trigger) == ("help", "modal", "Need a hand?", "p")
    assert prompt.expires_at == "2026-01-05T09:10:00.000Z"
    play.wait("9m59s")
    assert play.on_screen == "help"
    play.wait("1s")
    assert play.on_screen is None
    (withdrawn,) = play.pushed(Withdraw)
    assert (withdrawn.id, withdrawn.reason) == (prompt.id, "expired")


def test_what_expires_makes_room_for_what_falls_due_at_that_instant() -> None:
    play = Play(rules(prompting(), "trigger: i\nwhen: {idle: 10m}\nthen: [{prompt: other}]\n---\n"))
    play.track("go")
    assert play.wait("10m") == ["prompt other"]


@pytest.mark.parametrize("how", ["dismissed", "completed", "clicked", "snoozed"])
@pytest.mark.parametrize("named", ["prompt", "message"])
def test_handling_a_prompt_takes_it_off_every_screen(how: str, named: str) -> None:
    play = Play(rules(prompting()))
    play.connect("two")
    play.track("go")
    (prompt,) = play.pushed(Prompt)
    play.track(f"prompt_{how}", **{named: prompt.id if named == "prompt" else "help"})
    assert play.on_screen is None
    assert [(each.id, each.reason) for each in play.pushed(Withdraw)] == [(prompt.id, how)]


def test_what_has_expired_by_now_is_in_nobodys_way() -> None:
    brief = "message: brief\nkind: toast\nexpires: 30s\n---\n"
    play = Play(rules(prompting(message="brief"), prompting(name="o", on="other"), brief))
    play.track("go")
    play.now += 60_000  # and no alarm rang yet
    assert play.track("other", ago="45s") == ["prompt help"]
    assert [type(frame).__name__ for frame in play.frames] == ["Prompt", "Withdraw", "Prompt"]
    assert play.on_screen == "help"


def test_showing_it_takes_it_off_no_screen() -> None:
    play = Play(rules(prompting()))
    play.track("go")
    play.track("prompt_shown", message="help")
    assert play.on_screen == "help"
    assert play.state.prompt is not None
    assert play.state.prompt.shown


@pytest.mark.parametrize("properties", [{}, {"prompt": "e1-99"}, {"message": "other"}, {"prompt": None}, {"prompt": 1}])
def test_an_event_about_another_prompt_is_only_history(properties: dict[str, Any]) -> None:
    play = Play(rules(prompting()))
    play.track("go")
    play.track("prompt_dismissed", **properties)
    assert play.on_screen == "help"


def test_rules_may_wait_for_what_the_user_does_with_a_prompt() -> None:
    play = Play(rules(prompting(), mark(on="prompt_dismissed")))
    play.track("go")
    assert play.track("prompt_dismissed", message="help") == ["set {'hit': True}"]


def test_a_button_may_choose_a_flow() -> None:
    play = Play(rules(prompting()))
    play.track("go")
    play.track("prompt_clicked", message="help", action=0)
    assert play.state.flow is not None
    assert (play.state.flow.id, play.state.flow.variant, play.state.flow.chosen) == ("start", "short", True)


def test_a_button_may_emit_an_event() -> None:
    play = Play(rules(prompting(), mark(on="sales-called", name="s")))
    play.track("go")
    assert play.track("prompt_clicked", message="help", action=1) == ["set {'hit': True}"]


@pytest.mark.parametrize("action", [-1, 4, 99, "0", None, 1.0, [0]])
def test_a_button_that_is_not_there_only_takes_the_prompt_away(action: object) -> None:
    play = Play(rules(prompting(), mark(on="sales-called", name="s")))
    play.track("go")
    assert play.track("prompt_clicked", message="help", action=action) == []
    assert play.on_screen is None


def test_the_buttons_that_count_are_the_ones_the_user_saw() -> None:
    play = Play("""
        trigger: p
        when: {event: go}
        then: [{prompt: help}]
        ---
        message: help
        kind: modal
        actions: [{label: No}]
        locales:
          de: {actions: [{label: Ja, do: {emit: agreed}}]}
        ---
        trigger: a
        when: {event: agreed}
        then: [{set: {agreed: true}}]
    """)
    play.identify(locale="de-AT")
    play.track("go")
    assert play.track("prompt_clicked", message="help", action=0) == ["set {'agreed': True}"]


# --- snooze ---

SECOND = "message: help2\nkind: toast\n---\n"


@pytest.mark.parametrize(("properties", "span"), [({}, "1h"), ({"for": "10m"}, "10m"), ({"for": "soon"}, "1h")])
def test_a_snoozed_prompt_comes_back_without_being_counted(properties: dict[str, Any], span: str) -> None:
    play = Play(rules(prompting("limit: once"), policy="prompts: {limit: 1 per 7d}"))
    play.track("go")
    play.track("prompt_snoozed", message="help", **properties)
    play.restart()
    play.clear()
    assert play.wait(span) == []
    assert play.on_screen == "help"
    assert [each.trigger for each in play.pushed(Prompt)] == ["p"]


def test_a_snoozed_prompt_does_not_displace_another() -> None:
    play = Play(rules(prompting(), prompting(name="q", on="walk", message="other")))
    play.track("go")
    play.track("prompt_snoozed", message="help")
    play.track("walk")
    play.wait("1h")
    assert play.on_screen == "other"
    assert play.held_back() == ["p: busy"]
    play.wait("1h")
    play.track("prompt_dismissed", message="other")
    assert play.on_screen == "help"


def test_a_snoozed_prompt_waits_a_day_for_the_screen() -> None:
    play = Play(rules(prompting(), prompting(name="q", on="walk", message="other")))
    play.track("go")
    play.track("prompt_snoozed", message="help")
    play.track("walk")
    play.wait("25h")
    assert (play.on_screen, play.state.waits) == ("other", ())
    play.track("prompt_dismissed", message="other")
    assert play.on_screen is None


def test_two_snoozed_prompts_come_back_one_after_the_other() -> None:
    play = Play(rules(prompting(), prompting(name="q", on="walk", message="help2"), SECOND))
    play.track("go")
    play.track("prompt_snoozed", message="help")
    play.track("walk")
    play.track("prompt_snoozed", message="help2", **{"for": "1h"})
    play.wait("1h")
    assert play.on_screen == "help"
    play.track("prompt_dismissed", message="help")
    assert play.on_screen == "help2"


def test_a_snoozed_message_that_is_gone_stays_away() -> None:
    play = Play(rules(prompting()))
    play.track("go")
    play.track("prompt_snoozed", message="help")
    play.reload(rules(mark()).replace("message: help", "message: helpful"))
    play.wait("2h")
    assert play.on_screen is None


def test_a_message_without_a_snooze_is_not_snoozed_for_nothing() -> None:
    play = Play(rules(prompting(message="other")))
    play.track("go")
    play.track("prompt_snoozed", message="other")
    assert play.state.waits == ()
    assert play.on_screen is None


# --- late events ---


def test_a_late_event_updates_the_state_and_never_fires_a_live_prompt() -> None:
    counter = "counter: goes\nof: go\n---\n"
    play = Play(rules(prompting(), mark(), counter))
    play.wait("10m")
    play.track("anything")
    assert play.track("go", ago="3m") == ["set {'hit': True}"]
    assert play.held_back() == ["p: late"]
    assert play.state.counters["goes"].total == 1
    assert play.track("go", ago="2m") == ["prompt help", "set {'hit': True}"], "within the skew it is not late"


def test_the_policy_says_how_late_is_late() -> None:
    play = Play(rules(prompting(), policy="skew: 10s"))
    play.wait("1m")
    play.track("anything")
    assert play.track("go", ago="11s") == []
    assert play.track("go", ago="10s") == ["prompt help"]


def test_a_late_event_cancels_a_wait() -> None:
    nag = """
trigger: n
when: {delay: {after: {event: go}, for: 1h}}
cancel_on: [{event: done}]
then: [{prompt: help}]
---
"""
    play = Play(rules(nag))
    play.track("go")
    play.wait("20m")
    play.track("anything")
    play.track("done", ago="5m")
    assert play.wait("2h") == []


@pytest.mark.parametrize(("then", "decided"), [("{prompt: help}", []), ("{set: {n: 1}}", ["set {'n': 1}"])])
def test_a_delay_that_a_late_event_finds_over_is_no_live_prompt(then: str, decided: list[str]) -> None:
    play = Play(rules(f"trigger: n\nwhen: {{delay: {{after: {{event: go}}, for: 5m}}}}\nthen: [{then}]\n---\n"))
    play.wait("20m")
    play.track("anything")
    assert play.track("go", ago="10m") == decided
    assert play.track("go", ago="4m") == [], "this one's time is still to come"
    assert bool(play.wait("1m")) is True


def test_what_follows_from_a_late_event_is_late_too() -> None:
    chain = """
segment: pro
if: user.traits.plan == 'pro'
---
trigger: e
when: {enters: pro}
then: [{prompt: help}]
---
"""
    setter = "trigger: s\nwhen: {event: upgraded}\nthen: [{set: {plan: pro}}, {emit: {event: go}}]\n---\n"
    play = Play(rules(chain, setter, prompting()))
    play.wait("10m")
    play.track("anything")
    assert play.track("upgraded", ago="5m") == ["set {'plan': 'pro'}", "emit {'event': 'go', 'properties': {}}"]
    assert sorted(play.held_back()) == ["e: late", "p: late"]


def test_a_late_event_does_not_hold_back_what_time_brings_at_the_same_moment() -> None:
    play = Play(rules("trigger: i\nwhen: {idle: 10m}\nthen: [{prompt: help}]\n---\n"))
    play.wait("1m")
    play.track("anything")
    play.now += 600_000
    assert play.track("old", ago="10m") == ["prompt help"]


def test_a_dismissal_that_comes_late_still_clears_the_screen() -> None:
    play = Play(rules(prompting()))
    play.track("go")
    play.wait("5m")
    play.track("anything")
    play.track("prompt_dismissed", ago="3m", message="help")
    assert play.on_screen is None
