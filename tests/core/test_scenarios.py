"""Tests in YAML on a virtual clock: they pass and fail for the right reason, and say where and why."""

from __future__ import annotations

from textwrap import dedent

import pytest
from plays import compiled
from test_rules import CONTRACT

from handrail.core.program import Program
from handrail.core.scenarios import Result, run
from handrail.core.testfiles import read_tests

RULES = """
trigger: greet
when: {session: started}
then: [{prompt: hello}]
limit: once
---
trigger: nudge
when: {event: go}
then:
  - prompt: tip
  - content: {slot: side, message: tip}
  - flow: start/short
  - set: {plan: pro, n: {cel: user.sessions}}
  - emit: {event: nudged, properties: {how: softly}}
  - withdraw: hello
---
trigger: mail
when: {away: 24h}
then: [{webhook: letter}]
---
trigger: still
when: {idle: 3m}
if: "'slow' in user.segments"
then: [{prompt: tip}]
limit: 1 per session
---
message: hello
kind: toast
expires: 1m
---
message: tip
kind: toast
expires: 1m
variants: [{id: german, if: user.locale == 'de', body: Hallo}]
---
flow: start
steps: [{id: one}]
variants: [{id: short, steps: [one]}]
---
webhook: letter
url: https://mail.example/
"""


@pytest.fixture(scope="module")
def program() -> Program:
    return compiled(RULES)


def play(program: Program, text: str) -> Result:
    scenarios, problems = read_tests({"r.test.yaml": dedent(text)}, program)
    assert problems == []
    (scenario,) = scenarios
    return run(program, scenario)


def check(program: Program, given: str, *timeline: str) -> Result:
    entries = "\n".join(f"  - {{{entry}}}" for entry in timeline)
    return play(program, f"test: it\n{given}timeline:\n{entries}\n")


def test_a_test_may_say_where_and_on_what_the_user_is() -> None:
    program = compiled(
        "trigger: t\nwhen: {event: a}\nif: user.location.country == 'DE' && user.device.type == 'mobile'\n"
        "then: [{set: {t: true}}]"
    )
    at_home = "given: {location: {country: DE}, device: {type: mobile}}\n"
    assert check(program, at_home, "at: 0s, event: a", "at: 0s, expect: [{trigger: t}]").passed
    assert check(program, "given: {location: {country: DE}}\n", "at: 0s, event: a", "at: 0s, expect: []").passed


def test_the_contracts_own_test_passes() -> None:
    result = play(
        compiled(CONTRACT),
        """
        test: a stuck newcomer is offered help once a session
        given: {traits: {plan: trial}, segments: [low-engagement]}
        timeline:
          - {at: 0s, event: step_viewed, properties: {step: workspace}}
          - {at: 3m, expect: [{prompt: need-a-hand, trigger: stuck-newcomer}]}
          - {at: 20m, expect: []}
        """,
    )
    assert result.passed, result


def test_a_failure_says_where_what_was_expected_and_what_was_decided(program: Program) -> None:
    result = play(
        program,
        """
        test: the wrong greeting
        timeline:
          - {at: 0s, expect: [{prompt: tip, trigger: greet}]}
          - at: 2h
            expect:
              - {webhook: letter}
        """,
    )
    first, second = result.failures
    assert (first.path, first.line, first.at) == ("r.test.yaml", 4, "0s")
    assert first.expected == ("prompt: tip, trigger: greet",)
    assert first.decided == ("prompt: hello, trigger: greet",)
    assert (second.line, second.at, second.expected, second.decided) == (5, "2h", ("webhook: letter",), ())
    assert any(line.startswith("0s greet fired") for line in result.log)


def test_every_action_of_then_is_listed_in_order_as_it_is_written(program: Program) -> None:
    entries = [
        "at: 2m, event: go",
        "at: 2m, expect: [{prompt: tip, variant: german}, {content: {slot: side}, trigger: nudge}, {flow: start/short},"
        " {set: {plan: pro, n: {cel: user.sessions}}}, {emit: {event: nudged, properties: {how: softly}}},"
        " {withdraw: hello}]",
    ]
    given = "given: {locale: de}\n"
    assert check(program, given, "at: 0s, expect: [{prompt: hello}]", *entries).passed
    shorter = entries[1].replace(", {withdraw: hello}", "")
    assert not check(program, given, "at: 0s, expect: [{prompt: hello}]", entries[0], shorter).passed
    swapped = entries[1].replace("slot: side", "slot: top")
    assert not check(program, given, "at: 0s, expect: [{prompt: hello}]", entries[0], swapped).passed


def test_suppressions_count_only_where_the_list_names_one(program: Program) -> None:
    silent = ["at: 0s, expect: [{prompt: hello}]", "at: 10s, event: go"]
    assert check(program, "", *silent, "at: 10s, expect: []").passed
    named = "at: 10s, expect: [{suppressed: busy, trigger: nudge}]"
    assert check(program, "", *silent, named).passed
    assert not check(program, "", *silent, named.replace("busy", "gap")).passed
    assert not check(program, "", *silent, "at: 10s, event: go", named).passed, "then all of them"
    assert not check(program, "", "at: 0s", named).passed


def test_given_says_who_the_user_is_and_when_it_is(program: Program) -> None:
    assert check(program, "given: {segments: [slow]}\n", "at: 3m, expect: [{prompt: hello}, {prompt: tip}]").passed
    assert check(program, "", "at: 3m, expect: [{prompt: hello}]").passed
    rules = compiled("""
        trigger: t
        when: {event: go}
        if: user.timezone == 'Europe/Vienna' && user.traits.plan == 'x' && now >= timestamp('2026-03-01T00:00:00Z')
        then: [{set: {ok: true}}]
    """)
    given = "given: {traits: {plan: x}, timezone: Europe/Vienna, now: '2026-03-01T00:00:00+00:00'}\n"
    assert check(rules, given, "at: 0s, event: go", "at: 0s, expect: [{set: {ok: true}}]").passed
    assert check(rules, given.replace("2026-03-01T", "2026-02-01T"), "at: 0s, event: go", "at: 0s, expect: []").passed


def test_a_user_may_be_away_and_come_and_go(program: Program) -> None:
    away = "given: {connected: false}\n"
    assert check(
        program, away, "at: 5m, expect: []", "at: 5m, connect: true", "at: 5m, expect: [{prompt: hello}]"
    ).passed
    left = [
        "at: 1m, disconnect: true",
        "at: 23h59m59s, expect: [{prompt: hello}]",
        "at: 24h, expect: [{webhook: letter}]",
    ]
    assert check(program, "", *left).passed
    assert check(program, "", "at: 25h, expect: [{prompt: hello}]").passed, "nobody left"


def test_hidden_tabs_and_activity_are_entries(program: Program) -> None:
    given = "given: {segments: [slow]}\n"
    hello = "at: 0s, expect: [{prompt: hello}]"
    assert check(program, given, hello, "at: 1m, visible: false", "at: 20m, expect: []").passed
    assert check(
        program, given, hello, "at: 2m, activity: true", "at: 4m59s, expect: []", "at: 5m, expect: [{prompt: tip}]"
    ).passed
    seen = [
        "at: 1m, visible: false",
        "at: 5m, visible: true",
        "at: 7m59s, expect: []",
        "at: 8m, expect: [{prompt: tip}]",
    ]
    assert check(program, given, hello, *seen).passed


def test_identify_and_consent_are_entries() -> None:
    rules = compiled("""
        segment: ok
        if: user.consents.mail && user.traits.plan == 'pro'
        ---
        trigger: t
        when: {enters: ok}
        then: [{set: {ok: true}}]
    """)
    timeline = ["at: 0s, identify: {plan: pro}", "at: 1m, expect: []", "at: 1m, consent: {mail: true}"]
    assert check(rules, "", *timeline, "at: 1m, expect: [{trigger: t}]").passed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("test: x\ntimeline:\n  - {at: 0s, evnt: a}", "3:14: unknown key 'evnt' in timeline[0]; did you mean 'event'?"),
        ("test: x\ntimeline:\n  - {event: a}", "3:5: missing key 'at' in timeline[0]"),
        ("test: x\ntimeline: []", "2:11: timeline: "),
        ("test: x", "1:1: missing key 'timeline'"),
        ("test: x\ngiven: {now: noon}\ntimeline: [{at: 0s}]", "2:14: 'noon' is not a time"),
        ("test: x\ngiven: {now: '2026-01-01T00:00:00'}\ntimeline: [{at: 0s}]", "2:14: "),
        (
            "test: x\ntimeline: [{at: 0s, event: a, connect: true}]",
            "2:12: an entry is one of event and connect, not both",
        ),
        ("test: x\ntimeline: [{at: 0s, properties: {a: 1}}]", "2:21: properties belong to an event"),
        ("test: x\ntimeline: [{at: 2m}, {at: 1m}]", "2:27: the timeline runs backwards here"),
        ("test: x\ntimeline: [{at: 0s, expect: [{promt: tip}]}]", "2:31: unknown key 'promt'; did you mean 'prompt'?"),
        (
            "test: x\ntimeline: [{at: 0s, expect: [{prompt: tipp}]}]",
            "2:39: no message is named 'tipp'; did you mean 'tip'?",
        ),
        ("test: x\ntimeline: [{at: 0s, expect: [{trigger: gret}]}]", "2:40: no trigger is named 'gret'"),
        ("test: x\ntimeline: [{at: 0s, expect: [{webhook: x}]}]", "2:40: no webhook is named 'x'"),
        ("test: x\ntimeline: [{at: 0s, expect: [{suppressed: lmit}]}]", "2:43: no suppression is called 'lmit'"),
        ("test: x\ntimeline: [{at: soon}]", "2:17: "),
        ("trigger: x\nwhen: {event: a}", "1:1: a document of a test file begins with 'test: NAME'"),
        ("name: x\ntest: y\ntimeline: [{at: 0s}]", "1:1: a document of a test file begins with 'test: NAME'"),
        ("test: x\ngiven: {trait: {a: 1}}\ntimeline: [{at: 0s}]", "2:9: unknown key 'trait' in given; did you mean"),
        ("test: x\ntimeline: []", "2:11: timeline: expected a list of at least 1, found an empty list"),
        ("test: x\ntimeline: [{at: 0s, expect: [{withdraw: tipp}]}]", "2:41: no message is named 'tipp'; did you"),
        ("test: x\ntimeline: [{at: 0s, expect: [{content: {message: tipp}}]}]", "2:50: no message is named 'tipp'"),
        ("test: x\ntimeline: [{at: 0s, expect: [{content: {slt: a}}]}]", "2:41: unknown key 'slt' in content"),
        (
            "test: x\ngiven: {connected: false}\ntimeline: [{at: 0s, visible: true}]",
            "3:12: nobody is connected here: put 'connect: true' before it",
        ),
        ("test: x\ntimeline: [{at: 0s, disconnect: true}, {at: 1s, activity: true}]", "2:40: nobody is connected here"),
    ],
)
def test_what_is_told_of_a_faulty_test(program: Program, text: str, told: str) -> None:
    scenarios, problems = read_tests({"r.test.yaml": text}, program)
    assert scenarios == []
    assert any(str(problem).startswith(f"r.test.yaml:{told}") for problem in problems), list(map(str, problems))


def test_what_is_likely_a_slip_in_what_is_given_is_warned_of_and_the_test_runs(program: Program) -> None:
    text = "test: x\ngiven: {timezone: Europe/Viena, segments: [buzy, mine]}\ntimeline: [{at: 0s}]"
    more = compiled("segment: busy\nif: user.sessions > 3\n---\n" + RULES)
    (scenario,), problems = read_tests({"r.test.yaml": text}, more)
    assert [str(problem) for problem in problems] == [
        "r.test.yaml:2:19: warning: no time zone is named 'Europe/Viena', so it is UTC; did you mean 'Europe/Vienna'?",
        "r.test.yaml:2:44: warning: no segment is named 'buzy'; did you mean 'busy'?",
    ]
    assert run(more, scenario).passed


def test_a_faulty_test_does_not_hide_the_others(program: Program) -> None:
    text = "test: a\ntimeline: [{at: 1x}]\n---\ntest: b\ntimeline: [{at: 0s}]\n---\ntest: c\ntimeline: [{at: 0s, x: 1}]"
    scenarios, problems = read_tests({"r.test.yaml": text}, program)
    assert [each.shape.test for each in scenarios] == ["b"]
    assert [problem.line for problem in problems] == [2, 8]


def test_running_a_test_again_gives_the_same(program: Program) -> None:
    first = check(program, "", "at: 2m, event: go", "at: 3d, expect: []")
    assert first == check(program, "", "at: 2m, event: go", "at: 3d, expect: []")


def test_a_failure_lays_expected_and_decided_side_by_side() -> None:
    rules = compiled("""
        trigger: t
        when: {event: go}
        then: [{set: {a: 1}}, {set: {b: 2}}, {emit: {event: gone}}, {set: {c: 3}}]
    """)
    wanted = "[{set: {a: 1}}, {trigger: t, set: {x: 1}}, {emit: {event: gone}}, {set: {c: 4}}]"
    (failure,) = check(rules, "", "at: 0s, event: go", f"at: 0s, expect: {wanted}").failures
    assert failure.difference == (
        '  set: {"a":1}, trigger: t',
        '- trigger: t, set: {"x":1}',
        '+ set: {"b":2}, trigger: t',
        '  emit: {"event":"gone","properties":{}}, trigger: t',
        '- set: {"c":4}',
        '+ set: {"c":3}, trigger: t',
    )


def test_the_log_says_until_when_something_is_held_back() -> None:
    rules = compiled("""
        trigger: t
        when: {event: go}
        then: [{set: {n: 1}}]
        cooldown: 1h
    """)
    result = check(rules, "", "at: 1m, event: go", "at: 2m, event: go")
    assert result.log[-1] == "2m t suppressed cooldown until 1h1m (the trigger's own cooldown is not over)"


def test_the_context_of_an_event_is_given_beside_it() -> None:
    rules = compiled("""
        trigger: t
        when: {event: go}
        if: user.locale == event.properties.wanted
        then: [{set: {met: true}}]
    """)
    met = "at: 0s, expect: [{set: {met: true}}]"
    assert check(rules, "", "at: 0s, event: go, properties: {wanted: de}, context: {locale: de}", met).passed
    assert not check(rules, "", "at: 0s, event: go, properties: {wanted: de}, context: {locale: fr}", met).passed
    faulty = {"r.test.yaml": "test: it\ntimeline: [{at: 0s, activity: true, context: {locale: de}}]"}
    _, problems = read_tests(faulty, rules)
    assert [problem.message for problem in problems] == ["a context belongs to an event or identify"]
