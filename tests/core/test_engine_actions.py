"""Each kind of `then`, and what is pushed of it: content, flows, messages, webhooks, traits, emitted events."""

from __future__ import annotations

from typing import Any

import pytest
from plays import START, Play

from handrail.core import engine
from handrail.core.frames import Content, Flow, Prompt, encode


def on(event: str, then: str, name: str = "", *more: str) -> str:
    return "\n".join([f"trigger: {name or event}", f"when: {{event: {event}}}", *more, f"then: [{then}]", "---\n"])


# --- content ---

TIP = """
message: tip
kind: inline
title: "Tip for {{ user.traits.first_name | default('you') }}"
body: "You used {{ event.properties.feature }}{{ event.properties.nothing.at.all }}."
actions: [{label: More, do: {url: /more}}]
style: {icon: bulb}
variants:
  - {id: team, if: user.traits.plan == 'team', body: Invite a teammate.}
"""


def test_a_slot_is_filled_told_once_and_emptied() -> None:
    play = Play(
        on("use", "{content: {slot: side, message: tip}}") + on("done", "{content: {slot: side, message: null}}") + TIP
    )
    assert play.track("use", feature="boards") == ["content {'slot': 'side', 'message': 'tip'}"]
    (filled,) = play.pushed(Content)
    assert filled.slot == "side"
    assert filled.block is not None
    assert (filled.block.title, filled.block.body) == ("Tip for you", "You used boards.")
    assert filled.block.actions[0].do == {"url": "/more"}
    assert filled.block.style == {"icon": "bulb"}
    play.clear()
    assert play.track("use", feature="boards"), "it is decided again"
    assert play.frames == [], "but nothing about the page changes"
    play.track("use", feature="charts")
    assert len(play.pushed(Content)) == 1
    play.clear()
    play.track("done")
    play.track("done")
    assert [each.block for each in play.pushed(Content)] == [None]
    assert play.state.slots == {}


def test_a_snapshot_shows_slots_flow_and_prompts_not_yet_expired() -> None:
    play = Play(
        on("use", "{content: {slot: side, message: tip}}, {prompt: hello}")
        + "message: hello\nkind: toast\nexpires: 1m\n---\nflow: start\nsteps: [{id: one}]\n---\n"
        + TIP
    )
    play.track("use", feature="boards")
    flow, slots, prompts = engine.snapshot(play.program, play.state, play.now)
    assert flow is not None
    assert [each.id for each in flow.steps] == ["one"]
    assert list(slots) == ["side"]
    assert [each.message for each in prompts] == ["hello"]
    assert engine.snapshot(play.program, play.state, play.now + 59_999)[2] == prompts
    assert engine.snapshot(play.program, play.state, play.now + 60_000)[2] == ()


# --- messages ---

GREETING = """
message: hi
kind: modal
title: Hello
body: Welcome.
anchor: "#top"
locales:
  de: {title: Hallo, body: Willkommen.}
  pt_BR: {title: Olá}
variants:
  - id: team
    if: "'team' in user.goals"
    body: Bring your team.
    locales: {de: {body: Bring dein Team mit.}}
  - {if: user.sessions > 1, title: Hello again}
"""


@pytest.mark.parametrize(
    ("traits", "title", "body", "variant"),
    [
        ({}, "Hello", "Welcome.", None),
        ({"locale": "de"}, "Hallo", "Willkommen.", None),
        ({"locale": "de-AT"}, "Hallo", "Willkommen.", None),
        ({"locale": "DE_ch"}, "Hallo", "Willkommen.", None),
        ({"locale": "pt-BR"}, "Olá", "Welcome.", None),
        ({"locale": "pt-PT"}, "Hello", "Welcome.", None),
        ({"locale": "deutsch"}, "Hello", "Welcome.", None),
        ({"locale": 7}, "Hello", "Welcome.", None),
        ({"goals": ["team"]}, "Hello", "Bring your team.", "team"),
        ({"goals": ["team"], "locale": "de"}, "Hallo", "Bring dein Team mit.", "team"),
    ],
)
def test_a_message_is_laid_in_layers(traits: dict[str, Any], title: str, body: str, variant: str | None) -> None:
    play = Play(on("go", "{prompt: hi}") + GREETING)
    play.identify(**traits)
    play.track("go")
    (prompt,) = play.pushed(Prompt)
    assert (prompt.title, prompt.body, prompt.variant, prompt.anchor) == (title, body, variant, "#top")


def test_a_variant_without_a_name_goes_by_its_place_and_the_first_that_holds_wins() -> None:
    play = Play(on("go", "{prompt: hi}") + GREETING)
    play.wait("1h")
    play.track("go")
    (prompt,) = play.pushed(Prompt)
    assert (prompt.title, prompt.variant) == ("Hello again", "1")
    play.track("prompt_dismissed", message="hi")
    play.identify(goals=["team"])
    play.track("go")
    assert play.pushed(Prompt)[1].variant == "team"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ user.traits.first_name }}!", "!"),
        ("{{ user.traits.first_name | default('there') }}", "there"),
        ("{{ user.traits.company.name.first }}", ""),
        ("{{ event.properties.x.y }}", ""),
        ("{{ event.name }} {{ user.id }} {{ user.sessions }}", "go u-1 1"),
        ("{{ user.counters.goes }}", "1"),
        ("{{ user.session.length }}s", "0s"),
        ("{{ user.traits.tags | join(', ') }}", "a, b"),
        ("{{ user.traits.html }}", "<b>&</b>"),
        ("{{ now[:10] }}", "2026-01-05"),
    ],
)
def test_templates_read_the_user_and_what_is_missing_is_empty(template: str, text: str) -> None:
    play = Play(on("go", "{prompt: m}") + f'message: m\nkind: toast\ntitle: "{template}"\n---\ncounter: goes\nof: go')
    play.identify(tags=["a", "b"], html="<b>&</b>")
    play.track("go")
    assert play.pushed(Prompt)[0].title == text


def test_a_text_that_cannot_be_rendered_costs_its_own_action_only() -> None:
    play = Play(
        on("go", "{prompt: m}, {set: {seen: true}}")
        + 'message: m\nkind: toast\nactions: [{label: Later, do: {snooze: 1h}}]\ntitle: "{{ user.traits.n | round }}"'
    )
    play.identify(n=1.4)
    play.track("go")
    play.track("prompt_snoozed", message="m")
    play.identify(n="many")
    assert play.track("go") == ["set {'seen': True}"]
    assert [(line.outcome, line.reason) for line in play.trace if line.outcome == "failed"] == [("failed", "template")]
    play.clear()
    assert play.wait("1h") == []
    assert [line.outcome for line in play.trace] == ["failed"], (
        "the snoozed one fails the same way, and nothing else does"
    )


# --- flows ---

FLOW = """
flow: start
steps:
  - {id: welcome, component: welcome-card}
  - {id: workspace, skippable: true}
  - {id: invite, if: "'team' in user.goals"}
  - {id: done}
variants:
  - {id: quick, if: "'low' in user.segments", steps: [welcome, done]}
  - {id: short, steps: [workspace]}
---
segment: low
if: user.traits.score < 3
---
flow: tour
steps: [{id: look}]
---
"""


def steps(play: Play) -> tuple[str, ...]:
    assert play.state.flow is not None
    return play.state.flow.steps


def position(play: Play) -> int:
    assert play.state.flow is not None
    return play.state.flow.position


def test_a_new_user_starts_on_the_first_flow_and_is_told_nothing_of_it_twice() -> None:
    play = Play(FLOW)
    assert steps(play) == ("welcome", "workspace", "done")
    assert play.frames == []


def test_a_flow_goes_on_as_steps_are_done_and_what_is_done_stays_done() -> None:
    play = Play(FLOW)
    play.track("step_viewed", step="welcome")
    assert position(play) == 0
    play.track("step_completed", step="welcome")
    assert position(play) == 1
    play.track("step_skipped", step="workspace")
    assert position(play) == 2
    play.track("step_viewed", step="workspace")
    play.track("step_skipped", step="welcome")
    assert play.state.steps == {"welcome": "completed", "workspace": "skipped"}
    play.track("step_completed", step="workspace")
    play.track("step_completed", step="done")
    assert position(play) == 3
    last = play.pushed(Flow)[-1]
    assert (last.position, last.reason) == (3, "progress")
    assert [each.status for each in last.steps] == ["completed"] * 3
    assert (last.steps[0].component, last.steps[1].component, last.steps[1].skippable) == (
        "welcome-card",
        "workspace",
        True,
    )


def test_every_page_hears_of_progress_anywhere_in_the_flow() -> None:
    play = Play(FLOW)
    play.track("step_completed", step="done")
    assert [each.status for each in play.pushed(Flow)[-1].steps] == ["", "", "completed"]
    play.clear()
    play.track("step_completed", step="done")
    play.track("step_completed", step="look")
    assert play.frames == [], "nothing on the page changed"


@pytest.mark.parametrize("step", [None, 3, "", "unheard-of", ["welcome"]])
def test_steps_of_no_flow_are_remembered_at_most(step: object) -> None:
    play = Play(FLOW)
    play.track("step_completed", step=step)
    assert position(play) == 0


def test_a_flow_is_assembled_anew_when_a_segment_or_a_goal_changes() -> None:
    play = Play(FLOW)
    play.track("step_completed", step="welcome")
    play.identify(score=1)
    assert play.state.flow is not None
    assert (play.state.flow.variant, steps(play), position(play)) == ("quick", ("welcome", "done"), 1)
    assert play.pushed(Flow)[-1].reason == "segments"
    play.identify(score=9, goals=["team"])
    assert (play.state.flow.variant, steps(play)) == (None, ("welcome", "workspace", "invite", "done"))
    assert position(play) == 1, "what is done stays done"


def test_a_variant_without_if_is_only_ever_chosen() -> None:
    assert steps(Play(FLOW)) == ("welcome", "workspace", "done")


def test_a_variant_chosen_outright_stays_until_a_trigger_chooses_again() -> None:
    play = Play(on("brief", "{flow: start/short}") + on("normal", "{flow: start}") + on("tour", "{flow: tour}") + FLOW)
    assert play.track("brief") == ["flow start/short"]
    assert steps(play) == ("workspace",)
    assert play.pushed(Flow)[-1].reason == "trigger:brief"
    play.identify(score=1)
    assert steps(play) == ("workspace",)
    play.clear()
    assert play.track("brief") == ["flow start/short"]
    assert play.frames == [], "the user is on it already"
    play.track("tour")
    assert steps(play) == ("look",)
    play.track("normal")
    assert steps(play) == ("welcome", "done"), "by segment again"


def test_a_variant_is_found_by_its_own_name() -> None:
    play = Play(on("brief", "{flow: short}") + FLOW)
    assert play.track("brief") == ["flow short"]
    assert steps(play) == ("workspace",)


def test_a_chosen_variant_that_is_gone_gives_way_to_the_segments() -> None:
    play = Play(on("brief", "{flow: short}") + FLOW)
    play.track("brief")
    play.reload(FLOW.replace("  - {id: short, steps: [workspace]}\n", ""))
    assert steps(play) == ("welcome", "workspace", "done")
    play.identify(score=1)
    assert steps(play) == ("welcome", "done")


def test_a_flow_that_is_gone_gives_way_to_the_first() -> None:
    play = Play(on("tour", "{flow: tour}") + FLOW)
    play.track("tour")
    play.reload(FLOW.replace("flow: tour", "flow: another"))
    assert steps(play) == ("welcome", "workspace", "done")
    assert play.pushed(Flow)[-1].reason == "rules"


def test_a_flow_may_follow_a_count_that_falls_by_time() -> None:
    play = Play("""
        counter: errors
        of: error
        within: 10m
        ---
        flow: start
        steps: [{id: form}, {id: help, if: user.counters.errors >= 2}]
    """)
    play.track("error")
    play.track("error")
    assert steps(play) == ("form", "help")
    play.wait("10m")
    assert steps(play) == ("form",)


# --- webhooks ---

SIGNED = "secret: a-secret-that-is-long-enough-for-standard\n"
PLAIN = (
    on("go", "{webhook: crm, data: {plan: '{{ user.traits.plan }}', n: 3}}")
    + f"webhook: crm\nurl: https://crm.example/\n{SIGNED}"
)
OWN = (
    on("go", "{webhook: mail, data: {highlight: '{{ event.properties.best }}'}}")
    + on("bare", "{webhook: mail}")
    + f"webhook: mail\nurl: https://mail.example/\n{SIGNED}channel: email\n"
    + "body:\n  to: '{{ user.traits.email }}'\n  list: ['{{ data.highlight }}', 2]\n"
    + "  name: \"{{ user.traits.name | default('there') }}\"\n"
)


def test_a_webhook_without_a_body_sends_type_time_user_and_data() -> None:
    play = Play(PLAIN)
    play.identify(plan="pro")
    assert play.track("go") == ["webhook crm"]
    (call,) = play.calls
    assert (call.webhook, call.trigger, call.at) == ("crm", "go", START)
    assert call.body == {
        "type": "handrail.crm",
        "timestamp": "2026-01-05T09:00:00.000Z",
        "data": {"user_id": "u-1", "trigger": "go", "plan": "pro", "n": 3},
    }


def test_a_webhook_with_a_body_sends_that_with_the_data_beside_it() -> None:
    play = Play(OWN)
    play.identify(email="a@example.org")
    play.track("go", best="boards")
    play.track("bare")
    assert [call.body for call in play.calls] == [
        {"to": "a@example.org", "list": ["boards", 2], "name": "there", "data": {"highlight": "boards"}},
        {"to": "a@example.org", "list": ["", 2], "name": "there"},
    ]


def test_message_ids_are_unique_and_the_same_when_stepped_again() -> None:
    play, again = Play(OWN), Play(OWN)
    for each in (play, again):
        for _ in range(3):
            each.track("go")
            each.restart()
    ids = [call.id for call in play.calls]
    assert len(set(ids)) == 3
    assert ids == [call.id for call in again.calls]


def test_a_parked_webhook_is_called_all_the_same() -> None:
    play = Play(on("go", "{webhook: crm}") + "webhook: crm\nurl: ${CRM_URL}\n" + SIGNED)
    play.track("go")
    assert len(play.calls) == 1


# --- set ---


def test_set_takes_literals_and_expressions_and_null_removes() -> None:
    play = Play(
        on(
            "go",
            "{set: {plan: pro, tags: [a, {cel: b}], n: {cel: user.sessions + 1}, old: null, at: {cel: now},"
            " f: {cel: event.properties.f}}}",
        )
    )
    play.identify(old=1, f="kept")
    play.track("go")
    assert play.state.traits == {
        "plan": "pro",
        "tags": ["a", {"cel": "b"}],
        "n": 2,
        "at": "2026-01-05T09:00:00.000Z",
        "f": "kept",
    }, "an expression that meets an error leaves the trait alone"


def test_triggers_of_one_moment_see_what_those_before_them_set() -> None:
    play = Play(
        on("go", "{set: {n: 1}}", "first", "priority: high")
        + on("go", "{set: {m: {cel: user.traits.n + 1}}}", "second", "if: user.traits.n == 1")
    )
    play.track("go")
    assert play.state.traits == {"n": 1, "m": 2}


# --- emit ---


def test_an_emitted_event_is_an_event_like_any_other_but_no_activity() -> None:
    play = Play(
        "trigger: i\nwhen: {idle: 3m}\nthen:\n"
        "  - emit: {event: bored, properties: {s: {cel: event.properties.for_s}, k: v}}\n---\n"
        + on("bored", "{set: {bored: {cel: event.properties.s}}}", "b", "if: event.properties.k == 'v'")
        + "counter: boredoms\nof: bored\n---\n"
        + "trigger: j\nwhen: {idle: 5m}\nthen: [{set: {longer: true}}]"
    )
    assert play.wait("3m")[1] == "set {'bored': {'cel': 'event.properties.s'}}"
    assert play.state.traits["bored"] == 180
    assert play.state.counters["boredoms"].total == 1
    assert play.wait("2m") == ["set {'longer': True}"]


def test_each_of_two_emitted_events_is_considered() -> None:
    play = Play(
        on("go", "{emit: {event: nudge, properties: {n: 1}}}, {emit: {event: nudge, properties: {n: 2}}}")
        + on("nudge", "{set: {last: {cel: event.properties.n}}}", "n", "if: event.properties.n == 2")
    )
    play.track("go")
    assert play.state.traits == {"last": 2}


@pytest.mark.parametrize(
    "loop",
    [
        on("a", "{emit: {event: a}}"),
        on("a", "{emit: {event: b}}") + on("b", "{emit: {event: a}}"),
        on("a", "{set: {n: 1}}")
        + "trigger: f\nwhen: {changes: traits.n}\nthen: [{set: {n: {cel: user.traits.n + 1}}}]\n---\n",
        on("a", ", ".join(["{emit: {event: a}}"] * 10)),
    ],
)
def test_rules_that_wake_each_other_for_ever_are_stopped_and_told(loop: str) -> None:
    play = Play(loop)
    play.track("a")
    assert any(line.reason == "loop" for line in play.trace)
    assert len(play.trace) < 2_000
    assert play.due_in is not None
    assert play.due_in > 0


# --- learning from the context ---


def test_locale_and_time_zone_come_from_the_context_where_the_profile_is_silent() -> None:
    play = Play("trigger: t\nwhen: {changes: traits.locale}\nthen: [{set: {told: true}}]")
    play.identify(context={"locale": "de-AT", "timezone": "Europe/Vienna", "page": {"path": "/"}})
    assert play.state.traits == {"locale": "de-AT", "timezone": "Europe/Vienna", "told": True}
    play.identify(context={"locale": "fr"}, timezone="Europe/Paris")
    assert play.state.traits == {"locale": "de-AT", "timezone": "Europe/Paris", "told": True}
    play.identify(context={"locale": 7, "timezone": None})
    assert play.state.traits["locale"] == "de-AT"


# --- numbering ---


def test_numbered_messages_count_by_one_whatever_they_are() -> None:
    play = Play(
        on("go", "{content: {slot: side, message: tip}}, {prompt: hello}, {flow: tour}")
        + "message: hello\nkind: toast\n---\n"
        + FLOW
        + TIP
    )
    play.track("go", feature="x")
    play.track("prompt_dismissed", message="hello")
    play.track("go", feature="y")
    assert [frame.offset for frame in play.frames] == list(range(1, len(play.frames) + 1))
    assert play.state.offset == len(play.frames)
    assert all(encode(frame) for frame in play.frames)


def test_counters_read_zero_before_they_are_touched() -> None:
    play = Play(
        on("go", "{set: {n: {cel: user.counters.uses}}}", "g", "if: user.counters.uses == 0") + "counter: uses\nof: use"
    )
    play.track("go")
    assert play.state.traits == {"n": 0}
