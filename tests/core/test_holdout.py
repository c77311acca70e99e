"""Users who are left alone: who they are, what they are spared, and that their records compare."""

from __future__ import annotations

import pytest
from plays import Play
from test_engine_attention import mark, prompting, rules

from handrail.core.frames import Flow, Prompt
from handrail.core.holdout import held_out
from handrail.core.rules import load

IDS = [f"user-{number}" for number in range(10_000)]
ALL = "holdout: 100%"


def test_who_is_held_out_is_for_good() -> None:
    assert [user for user in IDS[:100] if held_out(user, 500)] == ["user-31", "user-62", "user-91"]


@pytest.mark.parametrize("share", [25, 500, 2_000, 5_000, 9_950])
def test_the_share_is_kept(share: int) -> None:
    held = sum(held_out(user, share) for user in IDS)
    deviation = (share / 10_000 * (1 - share / 10_000) * 10_000) ** 0.5
    assert abs(held - share) < 4 * deviation
    assert not any(held_out(user, 0) for user in IDS)
    assert all(held_out(user, 10_000) for user in IDS)


def test_who_is_held_out_stays_so_when_the_share_grows() -> None:
    assert {user for user in IDS if held_out(user, 100)} < {user for user in IDS if held_out(user, 101 + 400)}


@pytest.mark.parametrize(("text", "share"), [("0%", 0), ("5%", 500), ("0.25%", 25), ("12.5%", 1_250), ("100%", 10_000)])
def test_percentages(text: str, share: int) -> None:
    loaded = load({"p.yaml": f"policy: default\nholdout: {text}"}, {})
    assert loaded.program is not None
    assert loaded.program.policy.holdout == share


@pytest.mark.parametrize("text", ["5", "5 %", "-1%", "101%", "100.01%", "0.125%", "half", "5,5%", ".5%", "[5%]"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    [problem] = load({"p.yaml": f"policy: default\nholdout: {text}"}, {}).problems
    assert str(problem).startswith("p.yaml:2:10: holdout: expected a percentage from 0% to 100%")


def test_they_get_nothing_and_it_is_recorded_when_they_would_have() -> None:
    play = Play(
        f"""
        trigger: t
        when: {{event: go}}
        then:
          - set: {{asked: true}}
          - prompt: help
          - content: {{slot: side, message: help}}
          - flow: start/short
          - webhook: letter
          - emit: {{event: asked}}
        ---
        trigger: u
        when: {{event: asked}}
        then: [{{set: {{seen: true}}}}]
        ---
        webhook: letter
        url: https://mail.example/
        channel: email
        ---
        {rules(policy=ALL).replace(chr(10), chr(10) + " " * 8)}
        """
    )
    shown = len(play.frames)
    assert play.track("go") == [
        "set {'asked': True}",
        "emit {'event': 'asked', 'properties': {}}",
        "set {'seen': True}",
    ]
    assert (play.held_back(), play.calls, len(play.frames)) == (["t: holdout"], [], shown)
    assert (play.state.prompt, play.state.slots) == (None, {})
    assert len(play.state.prompted) == len(play.state.mailed) == 1


def test_what_would_not_have_come_anyway_is_recorded_with_its_own_reason() -> None:
    policy = f"prompts: {{limit: 3 per day, gap: 1m}}\n{ALL}"
    play = Play(rules(prompting(), prompting("limit: once", name="q", on="walk", message="other"), policy=policy))
    for event, span in zip(
        ("walk", "walk", "go", "go", "go", "go"), ("2m", "2m", "30s", "2m", "2m", "24h"), strict=True
    ):
        assert play.track(event) == []
        play.wait(span)
    play.track("go")
    assert play.held_back() == [f"q: {each}" for each in ("holdout", "limit")] + [
        f"p: {each}" for each in ("holdout", "gap", "holdout", "cap", "holdout")
    ]


def test_a_late_event_would_have_shown_nothing() -> None:
    play = Play(rules(prompting(), policy=ALL))
    play.track("walk")
    play.track("go", ago="5m")
    assert play.held_back() == ["p: late"]


def test_what_nobody_sees_goes_on() -> None:
    play = Play(rules(mark(), policy=ALL))
    assert play.track("go") == ["set {'hit': True}"]
    assert play.held_back() == []


def test_a_snooze_from_before_the_holdout_does_not_come_back_but_slots_are_emptied() -> None:
    more = "trigger: side\nwhen: {event: fill}\nthen: [{content: {slot: s, message: other}}]\n---\n"
    empty = "trigger: none\nwhen: {event: empty}\nthen: [{content: {slot: s, message: null}}]\n---\n"
    play = Play(rules(prompting(), more, empty))
    play.track("go")
    play.track("fill")
    play.track("prompt_snoozed", message="help")
    play.reload(rules(prompting(), more, empty, policy=ALL))
    play.clear()
    play.wait("1h")
    assert (play.pushed(Prompt), play.pushed(Flow), play.held_back()) == ([], [], ["p: holdout"])
    assert play.track("empty")
    assert play.state.slots == {}
