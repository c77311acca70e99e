"""Loading rule files: all faults at once, each at its place with a way out; and the contract's own examples."""

from __future__ import annotations

import pytest
from plays import compiled

from handrail.core.rules import load

BROKEN = {
    "a/triggers.yaml": """\
trigger: welcome
when: {event: signed_up}
promt: hello
then:
  - prompt: helo
---
trigger: odd-when
when: {event: a, idle: 3m}
then: [{withdraw: hello}]
---
trigger: no-such-when
when: {evnt: a}
then: [{promt: hello}]
---
trigger: bad-times
when: {idle: 3 minutes}
limit: thrice a day
cooldown: 1w
then: [{prompt: hello}]
---
trigger: bad-condition
when: {event: a, where: "event.properties.n > user.session"}
if: "user.traits.plan == 'pro' && usr.sessions > 2"
then: [{prompt: hello}]
---
trigger: not-a-condition
when: {event: a}
if: user.sessions + 1
then: [{webhook: crn}, {flow: start/shrt}, {set: {n: {cel: user.sessions +}}}]
---
trigger: welcome
when: {event: a}
then: [{prompt: hello}]
---
triger: misspelt
when: {event: a}
---
trigger: nowhere
when: {enters: enegaged}
if: user.counters.feature > 1
then: [{content: {slot: side, message: hallo}}]
---
trigger: empty
when: {event: a}
then: []
priority: urgent
""",
    "b/others.yaml": """\
message: hello
kind: modle
titel: Hi
---
message: greeting
kind: modal
title: "Hi {{ usr.traits.name }}"
body: "{{ user.id | uper }}"
actions: [{label: Go, do: {flow: strt}}, {label: X, do: explode}, {label: S, do: {snooze: soon}}]
---
flow: start
steps:
  - {id: one}
  - {id: one}
variants:
  - {id: short, steps: [one, tow]}
---
counter: features
of: feature_used
within: 48h
first: 24h
---
counter: Bad-Name
of: x
---
segment: engaged
if: "'ahead' in user.segments"
---
segment: ahead
if: "'engaged' in user.segments"
---
segment: knot
if: "'knot' in user.segments"
---
webhook: crm
url: ftp://crm.example
body: {name: "{{ user.nme }}", secret: "${TOKEN}"}
---
policy: default
prompts: {limit: [1 per session, 2 per fortnight]}
---
- just
- a list
""",
    "c/good.yaml": """\
trigger: fine
when: {event: a}
then: [{prompt: hello}]
---
trigger: tabbed
when:
\t{event: a}
---
trigger: after-the-tab
when: {event: a}
then: [{prompt: hollo}]
""",
}

# path:line:col -> words that must be told there
FAULTS = {
    "a/triggers.yaml:3:1": ["unknown key 'promt'"],
    "a/triggers.yaml:5:13": ["no message is named 'helo'", "did you mean 'hello'"],
    "a/triggers.yaml:8:7": ["'event' and 'idle'"],
    "a/triggers.yaml:12:8": ["evnt", "did you mean 'event'"],
    "a/triggers.yaml:13:9": ["promt", "did you mean 'prompt'"],
    "a/triggers.yaml:16:14": ["3 minutes", "is not a duration"],
    "a/triggers.yaml:17:8": ["thrice a day", "is not a limit"],
    "a/triggers.yaml:18:11": ["1w", "is not a duration"],
    "a/triggers.yaml:22:47": ["'user.session' has the fields id, started, length, events"],
    "a/triggers.yaml:23:35": ["usr.sessions", "did you mean 'user.sessions'"],
    "a/triggers.yaml:28:5": ["must be true or false"],
    "a/triggers.yaml:29:18": ["no webhook is named 'crn'", "did you mean 'crm'"],
    "a/triggers.yaml:29:31": ["start/shrt", "did you mean 'start/short'"],
    "a/triggers.yaml:29:75": ["ends too early"],
    "a/triggers.yaml:31:10": ["there is a trigger 'welcome' already, at a/triggers.yaml:1"],
    "a/triggers.yaml:35:1": ["'triger'", "did you mean 'trigger'"],
    "a/triggers.yaml:39:16": ["no segment is named 'enegaged'", "did you mean 'engaged'"],
    "a/triggers.yaml:40:5": ["no counter is named 'feature'", "did you mean 'features'"],
    "a/triggers.yaml:41:40": ["no message is named 'hallo'", "did you mean 'hello'"],
    "a/triggers.yaml:45:7": ["then"],
    "a/triggers.yaml:46:11": ["lowest, low, medium, high, highest", "urgent"],
    "b/others.yaml:2:7": ["modle", "did you mean 'modal'"],
    "b/others.yaml:3:1": ["unknown key 'titel'", "did you mean 'title'"],
    "b/others.yaml:7:15": ["usr", "did you mean 'user'"],
    "b/others.yaml:8:21": ["uper", "did you mean 'upper'"],
    "b/others.yaml:9:34": ["no flow or variant is named 'strt'", "did you mean 'start'"],
    "b/others.yaml:9:57": ["explode"],
    "b/others.yaml:9:91": ["soon", "is not a duration"],
    "b/others.yaml:14:10": ["the flow has a step 'one' already"],
    "b/others.yaml:16:30": ["tow"],
    "b/others.yaml:21:8": ["'first' cannot be had together with 'within'"],
    "b/others.yaml:23:10": ["Bad-Name"],
    "b/others.yaml:27:5": ["in a circle"],
    "b/others.yaml:33:5": ["in a circle", "knot -> knot"],
    "b/others.yaml:36:6": ["must begin with https:// or http://"],
    "b/others.yaml:37:40": ["${TOKEN}"],
    "b/others.yaml:40:34": ["fortnight"],
    "b/others.yaml:42:1": [],
    "c/good.yaml:7:1": [],
    "c/good.yaml:11:17": ["no message is named 'hollo'"],
}


def test_every_fault_of_a_folder_is_told_at_once_and_at_its_place() -> None:
    loaded = load(BROKEN, {})
    assert loaded.program is None
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    told = {f"{each.path}:{each.line}:{each.column}" for each in errors}
    listing = "\n".join(map(str, errors))
    assert told == set(FAULTS), f"missing {sorted(set(FAULTS) - told)}, unasked {sorted(told - set(FAULTS))}\n{listing}"
    for problem in errors:
        for words in FAULTS[f"{problem.path}:{problem.line}:{problem.column}"]:
            assert words in problem.message
    assert list(loaded.problems) == sorted(loaded.problems)


@pytest.mark.parametrize("path", sorted(BROKEN))
def test_a_fault_in_one_file_hides_none_in_another(path: str) -> None:
    alone = {str(problem) for problem in load({path: BROKEN[path]}, {}).problems}
    everything = {str(problem) for problem in load(BROKEN, {}).problems}
    names = ("is named", "there is a", "circle", "did you mean")
    assert {each for each in alone if not any(name in each for name in names)} <= everything


def problems(text: str) -> list[str]:
    return [str(problem).removeprefix("r.yaml:") for problem in load({"r.yaml": text}, {}).problems]


def fault(text: str) -> str:
    loaded = load({"r.yaml": text}, {})
    assert loaded.program is None
    (problem,) = [each for each in loaded.problems if each.severity == "error"]
    return str(problem).removeprefix("r.yaml:")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trigger: t\nwhen: {away: 0s}\nthen: [{set: {a: 1}}]", "2:14: away needs a duration longer than 0s"),
        ("trigger: t\nwhen: {idle: 0s}\nthen: [{set: {a: 1}}]", "2:14: idle needs a duration longer than 0s"),
        ("trigger: t\nwhen: {returns: {after: 0s}}\nthen: [{set: {a: 1}}]", "2:25: returns needs a gap longer"),
        (
            "trigger: t\nwhen: {changes: plan}\nthen: [{set: {a: 1}}]",
            "2:17: expected traits.NAME or persona, found 'plan'; did you mean 'traits.plan'?",
        ),
        ("trigger: t\nwhen: []\nthen: [{set: {a: 1}}]", "2:7: when needs at least one of event, count"),
        ("trigger: t\nwhen: {session: begun}\nthen: [{set: {a: 1}}]", "2:17: session: expected one of started, ended"),
        ("trigger: t\nwhen: {event: a}\nthen: [{emit: {event: session_ended}}]", "3:23: 'session_ended' is made by"),
        (
            "trigger: t\nwhen: {event: a, were: x}\nthen: [{set: {a: 1}}]",
            "2:18: unknown key 'were'; did you mean 'where'?",
        ),
        ("trigger: t\nwhen: {count: {event: a}}\nthen: [{set: {a: 1}}]", "2:15: a count comes true when it rises to"),
        (
            "trigger: t\nwhen: {count: {event: a, at_least: 1, at_most: 1, within: 1d}}\nthen: [{set: {a: 1}}]",
            "2:15: a count comes true when it rises to 'at_least' or falls to 'at_most': give one of them",
        ),
        (
            "trigger: t\nwhen: {count: {event: a, at_most: 1, over: session}}\nthen: [{set: {a: 1}}]",
            "2:35: only a sliding count falls: 'at_most' needs 'within', longer than 0s",
        ),
        (
            "trigger: t\nwhen: {count: {event: a, at_most: 1000, within: 1d}}\nthen: [{set: {a: 1}}]",
            "2:35: count.at_mo",
        ),
        ("trigger: t\nwhen: {count: {event: a, at_least: 0}}\nthen: [{set: {a: 1}}]", "2:36: count.at_least: "),
        ("trigger: t\nthen: [{set: {a: 1}}]", "1:1: missing key 'when'"),
        (
            "trigger: t\nwhen: event\nthen: [{set: {a: 1}}]",
            "2:7: when: expected a form such as {event: NAME} or {idle: 3m}, or a list of them, found 'event'",
        ),
        ("trigger: 7\nwhen: {event: a}\nthen: [{set: {a: 1}}]", "1:10: the name of a trigger is text"),
        ("segment: s\nif: event.name == 'a'", "2:5: "),
        ("when: {event: a}\ntrigger: t", "1:1: a document's first key names its kind: put 'trigger' before 'when'"),
        ("test: t\ntimeline: []", "1:1: tests stand in files of their own, whose names end in .test.yaml"),
        ("trigger: T 1\nwhen: {event: a}\nthen: [{set: {a: 1}}]", "1:10: trigger: expected a name of small letters"),
        ("counter: a-b\nof: x", "1:10: counter: expected a name of small letters, digits, '_', and no digit first"),
        ("trigger: t\nwhen: {}\nthen: [{set: {a: 1}}]", "2:7: expected one of event, count"),
        ("trigger: t\nwhen: {delay: 5m}\nthen: [{set: {a: 1}}]", "2:15: delay: expected keys and values (after, for)"),
        (
            "trigger: t\nwhen: {event: a}\nthen: {set: {a: 1}}",
            "3:7: then: expected a list, found a mapping: begin each",
        ),
        ("segment: s\ncondition: x\nif: 'true'", "2:1: unknown key 'condition'; known: description"),
        (
            "message: m\nkind: modal\nactions: [{label: x, do: {emit: session_ended}}]",
            "3:33: 'session_ended' is made by the server alone",
        ),
        (
            "trigger: t\nwhen: {sequence: {steps: [{event: a}]}}\nthen: [{set: {a: 1}}]",
            "2:26: sequence.steps: expected a list of at least 2, found a list of 1",
        ),
        (
            "trigger: t\nwhen: {sequence: {steps: [{event: a}, {event: b}], contiguity: loose}}\nthen: [{set: {a: 1}}]",
            "2:64: sequence.contiguity: expected one of relaxed, strict",
        ),
        (
            "trigger: t\nwhen: {sequence: {steps: [{event: a}, {event: b, where: evnt.name == 'b'}]}}\n"
            "then: [{set: {a: 1}}]",
            "2:57: ",
        ),
        (
            "trigger: t\nwhen: {absence: {of: {event: b}, for: 1h}}\nthen: [{set: {a: 1}}]",
            "2:17: an absence is one of 'of' after something ('after') or before it ('before')",
        ),
        (
            "trigger: t\nwhen: {absence: {after: {event: a}, of: {event: b}}}\nthen: [{set: {a: 1}}]",
            "2:17: an absence after something needs 'for'",
        ),
        (
            "trigger: t\nwhen: {absence: {after: {event: a}, of: {event: b}, for: 0s}}\nthen: [{set: {a: 1}}]",
            "2:58: an absence needs a duration longer than 0s",
        ),
        (
            "trigger: t\nwhen: {absence: {after: {event: a}, of: {event: b}, for: 1h, key: event.property.k}}\n"
            "then: [{set: {a: 1}}]",
            "2:67: ",
        ),
        ("trigger: t\nwhen: {idle: 3x}\nthen: [{set: {a: 1}}]", "2:14: idle: '3x' is not a duration"),
        ("trigger: t\nwhen: {idle: {for: 0s}}\nthen: [{set: {a: 1}}]", "2:20: idle needs a duration longer than 0s"),
        ("trigger: t\nwhen: {idle: {stpe: a, for: 1m}}\nthen: [{set: {a: 1}}]", "2:15: unknown key 'stpe'"),
        ("trigger: t\nwhen: {idle: {step: a}}\nthen: [{set: {a: 1}}]", "2:14: missing key 'for'"),
        (
            "trigger: t\nwhen: {idle: {for: 1m, hidden: yes}}\nthen: [{set: {a: 1}}]",
            "2:32: idle.hidden: expected one of",
        ),
        ("trigger: t\nwhen: {dwell: {step: a, for: 0s}}\nthen: [{set: {a: 1}}]", "2:30: dwell needs a duration"),
        ("trigger: t\nwhen: {dwell: {for: 1m}}\nthen: [{set: {a: 1}}]", "2:15: missing key 'step'"),
        (
            "counter: c\nof: a\nwithin: session",
            "3:9: within: expected a duration such as 7d, found 'session'; did you mean 'over: session'?",
        ),
        ("segment: s\nif: !user.traits.a", "2:5: tags ('!user.traits.a') are not supported: leave it out, or put the"),
        ("policy: mine", "1:9: there is one policy, and its name is default"),
        ("cohort: early\nif: 'true'", "1:1: a document's first key names its kind, and 'cohort' is none"),
    ],
)
def test_what_is_told_of_a_single_fault(text: str, told: str) -> None:
    assert fault(text).startswith(told)


def test_a_document_that_is_no_yaml_is_told_of_once_and_not_wherever_its_name_is_used() -> None:
    text = "trigger: t\nwhen: {event: a}\nthen: [{prompt: m}]\n---\n# in the evening\nmessage: m\ntitle: Hi: you\n"
    assert fault(text).startswith("7:10: a ':' where none can be")
    other = problems(text.replace("message: m", "message: n"))
    assert [each.partition(":")[0] for each in other] == ["3", "7"], "of a name that is nowhere it is told"


def test_a_trigger_shows_one_prompt() -> None:
    messages = "message: a\nkind: toast\n---\nmessage: b\nkind: toast\n---\n"
    text = messages + "trigger: t\nwhen: {event: x}\nthen: [{prompt: a}, {prompt: b}]"
    assert fault(text) == "9:21: a trigger shows one prompt: only one can be on the screen"


def test_columns_point_into_conditions_however_they_are_written() -> None:
    head = "segment: s\nif: "
    assert fault(head + "usr.id == 'x'").startswith("2:5:")
    assert fault(head + "user.id == 'x' && usr.id == 'y'").startswith("2:23:")
    assert fault(head + "\"user.id == 'x' && usr.id == 'y'\"").startswith("2:24:")
    assert fault(head + "|\n  user.id == 'x'\n  && usr.id == 'y'\n").startswith("4:6:")
    assert fault(head + "user.sessions > 1 && user.counters.uses > 1").startswith("2:26: no counter is named 'uses'")


def test_documents_that_run_together_are_told_apart() -> None:
    text = (
        "trigger: t\nwhen: {event: x}\nthen: [{prompt: a}]\nmessage: a\nkind: toast\n\ntrigger: u\nwhen: {event: y}\n"
    )
    assert problems(text) == [
        "4:1: 'message' begins another document: put a line '---' before it",
        "7:1: a second 'trigger' begins here: put a line '---' before it",
    ]


def test_a_fault_does_not_hide_others_in_the_same_document() -> None:
    assert problems("message: m\nkind: modl\ntitle: '{{ usr.id }}'\nactions: [{label: x, do: {flow: nope}}]") == [
        "2:7: kind: expected one of modal, tooltip, hotspot, banner, toast, checklist, survey, inline, email, "
        "found 'modl'; did you mean 'modal'?",
        "3:12: unknown name 'usr'; did you mean 'user'?",
        "4:33: no flow or variant is named 'nope'",
    ]
    assert [each.split(":")[0] for each in problems("counter: c\nof: x\ndistinct: feature\nwithin: 48")] == ["3", "4"]


def test_an_unknown_segment_in_a_condition_is_a_warning_as_one_may_be_pinned() -> None:
    loaded = load(
        {"r.yaml": "segment: s\nif: user.sessions > 1 && 'engagd' in user.segments\n---\nsegment: engaged\nif: 'true'"},
        {},
    )
    assert loaded.program is not None
    (warning,) = loaded.problems
    assert str(warning).startswith("r.yaml:2:")
    assert "warning: no segment is named 'engagd'; did you mean 'engaged'?" in str(warning)


# The documents of CONTRACT.md's "Rule files" that are in force now.
CONTRACT = """
trigger: stuck-newcomer
description: A newcomer with low engagement has done nothing for three minutes.
when: {idle: 3m}
if: "'low-engagement' in user.segments && user.sessions <= 2"
then:
  - prompt: need-a-hand
limit: 1 per session            # or a list; also '3 per 7d', 'once'
cooldown: 24h
priority: high                  # lowest low medium high highest, unset is medium; then order: files, documents
cancel_on: [{event: step_completed}]
on_change: finish               # finish | restart | cancel, for users who are mid-wait when the file changes
---
segment: engaged
if: user.counters.features_48h >= 3
---
counter: features_48h
of: feature_used                # event name
distinct: event.properties.feature
within: 48h                     # sliding; or first: 24h (after first seen), or over: session
---
message: need-a-hand
kind: modal
title: "Need a hand, {{ user.traits.first_name | default('there') }}?"
body: Most people finish this step in two minutes.
actions:
  - {label: Show me, do: {flow: simplified}}
  - {label: Later, do: {snooze: 1h}}
  - {label: No thanks, do: dismiss}
expires: 10m
variants:                       # microcopy: first whose `if` holds
  - {if: "'team' in user.segments", body: Invite a teammate and do it together.}
locales:
  de: {title: "Brauchst du Hilfe?"}
---
flow: getting-started
steps:
  - {id: welcome, component: welcome-card}
  - {id: workspace, component: workspace-form, skippable: true}
  - {id: invite, component: invite-form, if: "'team' in user.goals"}
variants:                       # first whose `if` holds; re-assembled live, what is done stays done
  - {id: simplified, if: "'low-engagement' in user.segments", steps: [welcome, workspace]}
---
webhook: reengage-email         # signed as Standard Webhooks; at-least-once, one message id over all tries
url: ${HANDRAIL_EMAIL_URL}      # ${NAME} only in url, secret and headers
secret: ${HANDRAIL_EMAIL_SECRET}
channel: email                  # counts against the e-mail and the common budget
body: {to: "{{ user.traits.email }}", template: come-back, name: "{{ user.traits.first_name | default('there') }}"}
---
policy: default
session: {idle: 30m, max: 24h, active: 2m}
prompts: {limit: [3 per session, 5 per 24h], gap: 30s}
email: {limit: [2 per 7d]}
budget: 6 per 24h               # prompts and e-mail together
skew: 2m                        # how far behind the newest event a late one may still fire
"""


def test_the_contracts_own_documents_load() -> None:
    loaded = load({"contract.yaml": CONTRACT}, {})
    assert loaded.program is not None
    assert {problem.severity for problem in loaded.problems} == {"warning"}
    said = "\n".join(map(str, loaded.problems))
    assert "HANDRAIL_EMAIL_URL is not set" in said
    assert "no segment is named 'low-engagement'" in said
    assert loaded.program.webhooks["reengage-email"].missing == ("HANDRAIL_EMAIL_SECRET", "HANDRAIL_EMAIL_URL")


@pytest.mark.parametrize(
    "when",
    [
        "{event: NAME, where: event.properties.x == 1}",
        "{count: {event: a, where: event.properties.x == 1, distinct: event.properties.y, at_least: 3, within: 48h}}",
        "{count: {event: a, at_least: 3, first: 24h}}",
        "{count: {event: a, at_least: 3, over: session}}",
        "{count: {event: a, distinct: event.properties.y, at_most: 0, within: 7d}}",
        "{delay: {after: {event: a, where: event.properties.x == 1}, for: 3d7h30m}}",
        "{sequence: {steps: [{event: a, where: event.properties.x == 1}, {event: b}]}}",
        "{sequence: {steps: [{event: a}, {event: b}], within: 1h, contiguity: strict, key: event.properties.k}}",
        "{absence: {after: {event: a, where: event.properties.x == 1}, of: {event: b}, for: 1h}}",
        "{absence: {after: {event: a}, of: {event: b}, for: 1h, key: event.properties.k}}",
        "{absence: {of: {event: a}, before: {event: b}, for: 1h, key: event.properties.k}}",
        "{absence: {of: {event: a}, before: {event: b}}}",
        "{dwell: {step: workspace, for: 2m}}",
        "{idle: 3m}",
        "{idle: {for: 3m}}",
        "{idle: {for: 3m, step: workspace, hidden: pause}}",
        "{idle: {for: 3m, hidden: count}}",
        "{away: 24h}",
        "{returns: {after: 24h}}",
        "{enters: s}",
        "{leaves: s}",
        "{changes: traits.plan}",
        "{session: started}",
        "{session: ended}",
        "[{event: a}, {idle: 3m}, {away: 24h}]",
    ],
)
def test_every_form_of_when_is_understood(when: str) -> None:
    compiled(f"trigger: t\nwhen: {when}\nthen: [{{set: {{a: 1}}}}]\n---\nsegment: s\nif: user.sessions > 1")


def test_a_webhook_needs_only_a_url() -> None:
    loaded = load({"r.yaml": "webhook: w\nurl: https://a.example/"}, {})
    assert loaded.program is not None
    assert {problem.severity for problem in loaded.problems} == {"warning"}


def test_no_rules_at_all_are_rules() -> None:
    program = load({}, {}).program
    assert program is not None
    assert (program.policy.session_idle, program.policy.session_max, program.policy.skew) == (
        1_800_000,
        86_400_000,
        120_000,
    )


def test_order_is_files_by_path_then_documents_and_the_version_is_of_the_text() -> None:
    one = {"b.yaml": "flow: later\nsteps: [{id: x}]", "a.yaml": "flow: first\nsteps: [{id: x}]"}
    program, again = load(one, {}).program, load(dict(reversed(one.items())), {}).program
    other = load({**one, "a.yaml": one["a.yaml"] + " "}, {}).program
    assert program is not None
    assert again is not None
    assert other is not None
    assert list(program.flows) == ["first", "later"]
    assert program.version == again.version != other.version
