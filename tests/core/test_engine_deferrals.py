"""What waits for a better moment: quiet hours, calendar days, a screen that is taken, and who may take it."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from plays import Play
from test_engine_attention import mark, prompting, rules

from handrail.core.frames import Withdraw
from handrail.core.rules import load
from handrail.core.state import Wait, load_state

LETTER = "webhook: letter\nurl: https://mail.example/\nchannel: email\n---\n"
NIGHT = 'quiet_hours: {from: "22:00", to: "07:00"}'


def mailing(*more: str, when: str = "{event: go}", name: str = "m") -> str:
    return "\n".join([f"trigger: {name}", f"when: {when}", *more, "then: [{webhook: letter}]", "---\n"])


def at(play: Play, clock: str, day: int = 5) -> None:
    """Let the time pass until this UTC time in January 2026 (the play starts on the 5th at 09:00)."""
    hour, minute = clock.split(":")
    until = int(datetime.fromisoformat(f"2026-01-{day:02}T{hour}:{minute}:00+00:00").timestamp() * 1000)
    play.wait(f"{(until - play.now) // 1000}s")


# --- quiet hours ---


def test_an_email_in_quiet_hours_is_recorded_and_sent_at_their_end() -> None:
    play = Play(LETTER + mailing() + rules(policy=NIGHT), connected=False)
    at(play, "22:00")
    assert play.track("go", plan="solo") == []
    assert play.held_back() == ["m: quiet"]
    assert "decided afresh at 2026-01-06T07:00:00.000Z" in play.trace[-1].detail
    play.restart()
    assert play.wait("8h59m59s") == []
    assert play.wait("1s") == ["webhook letter"]
    assert play.track("go") == ["webhook letter"], "quiet is over"


def test_the_conditions_and_limits_are_those_of_the_end() -> None:
    more = ("if: user.traits.plan == 'solo'", "limit: 1 per 7d")
    play = Play(LETTER + mailing(*more) + rules(policy=NIGHT), connected=False)
    play.identify(plan="solo")
    at(play, "23:00")
    play.track("go")
    play.track("go")
    assert play.wait("8h") == ["webhook letter"]
    assert play.held_back() == ["m: quiet", "m: quiet", "m: limit"]
    at(play, "23:00", 20)
    play.track("go")
    play.identify(plan="pro")
    assert play.wait("8h") == []
    assert play.trace[-1].outcome == "not-met"


def test_drop_only_records() -> None:
    play = Play(LETTER + mailing() + rules(policy=NIGHT.replace("}", ", then: drop}")), connected=False)
    at(play, "23:00")
    assert play.track("go") == []
    assert play.wait("24h") == []
    assert play.held_back() == ["m: quiet"]


def test_quiet_is_by_the_users_own_clock() -> None:
    play = Play(LETTER + mailing() + rules(policy=NIGHT), connected=False)
    play.identify(timezone="America/New_York")
    at(play, "23:00")
    assert play.track("go") == ["webhook letter"]
    at(play, "03:00", 6)
    assert play.track("go") == []
    assert play.state.waits[0].due - play.now == 9 * 3_600_000


def test_an_unknown_zone_is_utc_and_the_trace_says_so() -> None:
    play = Play(LETTER + mailing() + rules(policy=NIGHT), connected=False)
    play.identify(timezone="Mars/Phobos")
    at(play, "23:00")
    play.track("go")
    assert "quiet from 22:00 to 07:00, in UTC: 'Mars/Phobos' is no time zone" in play.trace[-1].detail


def test_an_away_email_put_off_is_dropped_when_the_user_comes_back() -> None:
    play = Play(LETTER + mailing(when="{away: 13h}") + rules(policy=NIGHT), connected=False)
    play.track("hello")
    assert play.wait("14h") == []
    assert play.held_back() == ["m: quiet"]
    back = Play(LETTER + mailing(when="{away: 13h}") + rules(policy=NIGHT), connected=False)
    back.track("hello")
    back.wait("14h")
    back.track("hello")
    assert back.trace[-1].detail == "the user is back"
    assert play.wait("8h") == ["webhook letter"]
    assert back.wait("8h") == []


def test_an_email_about_an_event_is_sent_though_the_user_is_back() -> None:
    play = Play(LETTER + mailing(when="[{event: away}, {event: go}]") + rules(policy=NIGHT), connected=False)
    at(play, "23:00")
    play.track("away")
    play.track("hello")
    assert play.wait("8h") == ["webhook letter"]


def test_cancel_on_and_a_change_of_the_rule_end_what_was_put_off() -> None:
    play = Play(LETTER + mailing("cancel_on: [{event: no}]") + rules(policy=NIGHT), connected=False)
    at(play, "23:00")
    play.track("go")
    play.track("no")
    assert play.state.waits == ()
    for on_change, kept in (("finish", 1), ("restart", 1), ("cancel", 0)):
        play.track("go")
        play.reload(LETTER + mailing(f"on_change: {on_change}", "cooldown: 1s") + rules(policy=NIGHT))
        assert len(play.state.waits) == kept, on_change
        play.wait("24h")
        play.reload(LETTER + mailing() + rules(policy=NIGHT))


def test_prompts_are_quiet_where_the_policy_says_so_and_only_for_who_is_there_later() -> None:
    policy = NIGHT.replace("}", ", applies_to: [prompts]}")
    play = Play(LETTER + mailing(on := "priority: low") + prompting(on) + rules(policy=policy))
    at(play, "23:00")
    assert play.track("go") == ["webhook letter"]
    assert play.wait("8h") == ["prompt help"]
    play.track("prompt_dismissed", message="help")
    at(play, "23:00", 6)
    play.track("go")
    play.disconnect()
    assert play.wait("8h") == []
    assert play.trace[-1].detail == "nobody is looking any more"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{from: "22:00", to: "22:00"}', "2:14: quiet_hours: 'from' and 'to' are the same time"),
        ('{from: "24:00", to: "07:00"}', "expected a time of day from '00:00' to '23:59', found '24:00'"),
        ('{from: 22, to: "07:00"}', "expected a time of day from '00:00' to '23:59', found 22"),
        ('{from: "22:00"}', "missing key 'to' in quiet_hours"),
        ('{from: "22:00", to: "07:00", applies_to: [sms]}', "expected one of email, prompts, found 'sms'"),
        ('{from: "22:00", to: "07:00", applies_to: []}', "expected a list of at least 1"),
        ('{from: "22:00", to: "07:00", then: wait}', "expected one of defer, drop, found 'wait'"),
    ],
)
def test_quiet_hours_that_cannot_be_are_refused(text: str, fault: str) -> None:
    [problem] = load({"p.yaml": f"policy: default\nquiet_hours: {text}"}, {}).problems
    assert fault in str(problem)


# --- calendar days ---


def test_a_limit_per_day_starts_again_at_the_users_midnight() -> None:
    play = Play(rules(mark("limit: 2 per day")), connected=False)
    play.identify(timezone="America/New_York")
    fired = []
    for day, clock in ((5, "20:00"), (5, "21:00"), (6, "04:59"), (6, "05:00"), (6, "05:01"), (6, "12:00")):
        at(play, clock, day)
        fired.append(bool(play.track("go")))
    assert fired == [True, True, False, True, True, False]


def test_caps_per_day_bound_prompts_and_budget() -> None:
    policy = "prompts: {limit: 2 per day}\nbudget: 3 per day"
    play = Play(LETTER + mailing(when="{event: mail}") + rules(prompting(), policy=policy))
    told = []
    for event in ("go", "go", "go", "mail", "mail"):
        told += play.track(event)
        play.track("prompt_dismissed", message="help")
    assert told == ["prompt help", "prompt help", "webhook letter"]
    assert play.held_back() == ["p: cap", "m: cap"]
    at(play, "00:00", 6)
    assert play.track("go") == ["prompt help"]


# --- who may take the screen ---

TAKER = ("preempt: true", "priority: high")


def test_a_preempting_trigger_of_higher_priority_displaces_what_is_on_the_screen() -> None:
    play = Play(rules(prompting(), prompting(*TAKER, name="q", on="now", message="other")))
    play.track("go")
    assert play.track("now") == ["prompt other"]
    [withdrawn] = play.pushed(Withdraw)
    assert (withdrawn.reason, play.on_screen) == ("preempted", "other")


@pytest.mark.parametrize("more", [["preempt: true"], ["priority: high"], ["preempt: true", "priority: low"]])
def test_without_preempt_or_a_strictly_higher_priority_it_gives_way(more: list[str]) -> None:
    play = Play(rules(prompting(), prompting(*more, name="q", on="now", message="other")))
    play.track("go")
    assert play.track("now") == []
    assert (play.on_screen, play.held_back()) == ("help", ["q: busy"])


def test_preempting_does_not_pass_caps_and_gaps() -> None:
    play = Play(rules(prompting(), prompting(*TAKER, name="q", on="now", message="other"), policy="prompts: {gap: 1m}"))
    play.track("go")
    assert play.track("now") == []
    assert play.held_back() == ["q: gap"]


# --- when blocked ---

DEFER = "when_blocked: {defer: 10m}"


def blocked(*more: str, policy: str = "skew: 2m") -> Play:
    """`help` is on the screen, and `q` was blocked by it."""
    play = Play(rules(prompting(), prompting(DEFER, *more, name="q", on="now", message="other"), policy=policy))
    play.track("go")
    assert play.track("now") == []
    return play


def test_what_a_prompt_blocks_comes_as_soon_as_the_screen_is_free() -> None:
    play = blocked()
    assert "decided afresh when it is free, before 2026-01-05T09:10:00.000Z" in play.trace[-1].detail
    play.restart()
    play.wait("5m")
    assert play.track("prompt_dismissed", message="help") == ["prompt other"]
    assert play.held_back() == ["q: busy"]


def test_the_end_of_the_span_is_in_time_for_a_screen_that_becomes_free_at_it() -> None:
    play = blocked()
    assert play.wait("9m59s") == []
    assert play.wait("1s") == ["prompt other"], "`help` expires at that instant"


def test_it_is_dropped_when_the_screen_is_not_free_in_time() -> None:
    play = Play(rules(prompting(message="other"), prompting(DEFER, name="q", on="now")))
    play.track("go")
    play.track("now")
    assert play.wait("10m") == []
    assert play.trace[-1].detail == "the screen was not free in time"
    assert play.track("prompt_dismissed", message="other") == []
    assert play.state.waits == ()


def test_its_condition_is_judged_afresh() -> None:
    play = blocked("if: size(user.traits) == 0")
    play.identify(plan="pro")
    assert play.track("prompt_dismissed", message="help") == []
    assert play.trace[-1].outcome == "not-met"


def test_a_gap_that_is_over_within_the_span_is_waited_for() -> None:
    play = blocked(policy="prompts: {gap: 30s}")
    assert play.held_back() == ["q: gap"]
    play.track("prompt_dismissed", message="help")
    assert play.wait("29s") == []
    assert play.wait("1s") == ["prompt other"]


def test_one_block_after_another_is_waited_for_within_the_one_span() -> None:
    play = blocked(policy="prompts: {gap: 6m}")
    play.wait("6m")
    assert play.held_back() == ["q: gap", "q: busy"]
    play.wait("3m59s")
    assert play.track("prompt_dismissed", message="help") == ["prompt other"]


def test_a_gap_beyond_the_span_and_a_cap_without_end_drop_it() -> None:
    for policy in ("prompts: {gap: 11m}", "prompts: {limit: 1 per session}"):
        assert blocked(policy=policy).state.waits == ()


def test_a_window_that_opens_within_the_span_is_waited_for() -> None:
    play = blocked(policy="prompts: {limit: 1 per 8m}")
    play.track("prompt_dismissed", message="help")
    assert play.wait("8m") == ["prompt other"]


def test_of_two_caps_both_are_waited_for_at_once_and_one_without_end_is_not() -> None:
    play = blocked(policy="prompts: {limit: [1 per 2m, 1 per 8m]}")
    play.track("prompt_dismissed", message="help")
    assert play.wait("8m") == ["prompt other"]
    assert play.held_back() == ["q: cap"], "not held back once more after two minutes"
    play = blocked(policy="prompts: {limit: 1 per 2m}\nbudget: 1 per 8m")
    play.track("prompt_dismissed", message="help")
    assert play.wait("8m") == ["prompt other"]
    assert play.held_back() == ["q: cap"]
    for policy in ("prompts: {limit: [1 per 2m, 1 per session]}", "prompts: {limit: 1 per 2m}\nbudget: 1 per session"):
        play = blocked(policy=policy)
        assert (play.state.waits, play.wait("10m"), play.held_back()) == ((), [], ["q: cap"])


def test_what_may_preempt_takes_the_screen_from_what_came_there_meanwhile() -> None:
    low = "trigger: s\nwhen: {event: other}\nthen: [{withdraw: help}, {prompt: other}]\npriority: low\n---\n"
    urgent = prompting(DEFER, "preempt: true", "priority: high", name="q", on="now")
    play = Play(rules(prompting("priority: high"), urgent, low))
    play.track("go")
    assert play.track("now") == []
    assert play.track("other") == ["withdraw help", "prompt other", "prompt help"]
    assert play.state.prompt is not None
    assert play.state.prompt.prompt.trigger == "q"


def test_of_two_that_wait_for_the_screen_the_higher_comes_first_and_the_other_after_it() -> None:
    waiting = (
        prompting(DEFER, name="q", on="now"),
        prompting(DEFER, "priority: high", name="r", on="soon", message="other"),
    )
    play = Play(rules(prompting(), *waiting))
    for event in ("go", "now", "soon"):
        play.track(event)
    play.wait("1m")
    assert play.track("prompt_dismissed", message="help") == ["prompt other"]
    assert play.track("prompt_dismissed", message="other") == ["prompt help"]


def test_an_idle_prompt_that_was_put_off_is_not_for_who_is_active_again() -> None:
    idle = f"trigger: q\nwhen: {{idle: 3m}}\n{DEFER}\nthen: [{{prompt: other}}]\n---\n"
    play = Play(rules(prompting(), idle))
    play.track("go")
    play.wait("4m")
    assert play.track("prompt_dismissed", message="help") == []
    assert [line.outcome for line in play.trace][-1] == "cancelled"
    still = Play(rules(prompting(), idle))
    still.track("go")
    assert still.wait("10m") == ["prompt other"], "the prompt before expired, and they are still still"


def test_late_events_and_limits_of_its_own_are_not_put_off() -> None:
    play = Play(rules(prompting(), prompting(DEFER, "limit: once", name="q", on="now", message="other")))
    play.track("go")
    play.track("now", ago="5m")
    assert play.state.waits == ()
    play = Play(rules(prompting(DEFER, "limit: once")))
    play.track("go")
    play.track("go")
    assert (play.held_back(), play.state.waits) == (["p: limit"], ())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("later", "t.yaml:4:15: when_blocked: expected drop, or a span such as {defer: 10m}, found 'later'"),
        ("{defer: soon}", "'soon' is not a duration"),
        ("{wait: 10m}", "unknown key 'wait' in when_blocked"),
    ],
)
def test_what_when_blocked_cannot_be_is_refused(text: str, fault: str) -> None:
    source = f"trigger: t\nwhen: {{event: go}}\nthen: [{{set: {{a: 1}}}}]\nwhen_blocked: {text}"
    problems = load({"t.yaml": source}, {}).problems
    assert any(fault in str(problem) for problem in problems), problems


def test_a_slip_in_an_action_is_told_alone() -> None:
    source = prompting("preempt: true", DEFER).replace("prompt: help", "promt: help")
    assert [str(problem) for problem in load({"t.yaml": source}, {}).problems] == [
        "t.yaml:5:9: unknown action 'promt'; did you mean 'prompt'?"
    ]


def test_what_has_no_effect_is_warned_about() -> None:
    problems = load({"t.yaml": mark("preempt: true", DEFER)}, {}).problems
    assert [str(problem) for problem in problems] == [
        "t.yaml:3:10: warning: has no effect: the trigger has no prompt",
        "t.yaml:4:15: warning: has no effect: only prompts and e-mails are ever blocked by the policy",
    ]


# --- states of before ---


def test_a_wait_of_before_is_read() -> None:
    old = {"user": "u", "epoch": "e", "waits": [[5, "t", 0, "r", "go", {"a": 1}, ""]]}
    state = load_state(msgspec.msgpack.encode(old), {})
    assert state.waits == (Wait(5, "t", 0, "r", "go", {"a": 1}, ""),)
    assert state.waits[0].until == 0
