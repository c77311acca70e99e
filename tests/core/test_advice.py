"""What `check` warns of: each piece of advice word for word and at its place, with the near miss that needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
from plays import Play

from handrail.core.advice.happenings import PROPERTIES
from handrail.core.advice.names import MOST
from handrail.core.rules import load

HI = "---\nmessage: hi\nkind: toast\n"
MAIL = "---\nwebhook: mail\nurl: https://mail.example.com/\nsecret: a plain secret of some length\nchannel: email\n"
FLOWS = "flow: tour\nsteps: [{id: profile}, {id: done}]\n"


def warnings(text: str) -> list[str]:
    loaded = load({"r.yaml": text}, {})
    assert loaded.program is not None, "\n".join(map(str, loaded.problems))
    return [str(problem).removeprefix("r.yaml:").replace(" warning: ", " ") for problem in loaded.problems]


def trigger(when: str = "{event: a}", *more: str, then: str = "{set: {seen: true}}", name: str = "t") -> str:
    return "\n".join([f"trigger: {name}", f"when: {when}", *more, f"then: [{then}]", ""])


def segment(condition: str, name: str = "s") -> str:
    return f'segment: {name}\nif: "{condition}"\n'


def together(*documents: str) -> str:
    return "---\n".join(documents)


# rules, the only warning about them, and nearly the same rules, of which nothing is said
REACH = {
    "idle for longer than a session": (
        trigger("[{event: x}, {idle: 45m}]"),
        "2:27: never comes true: a session ends after 30m without activity (policy: session, idle)",
        trigger("{idle: 30m}"),
    ),
    "a step with a slip of the pen": (
        together(trigger("{idle: {for: 1m, step: profil}}"), FLOWS),
        "2:30: no flow has a step 'profil'; did you mean 'profile'?",
        together(trigger("[{idle: {for: 1m, step: billing}}, {idle: {for: 1m, step: profile2}}]"), FLOWS),
    ),
    "time spent on a step with a slip": (
        together(trigger("[{dwell: {for: 1m, step: profle}}]"), FLOWS),
        "2:32: no flow has a step 'profle'; did you mean 'profile'?",
        trigger("[{dwell: {for: 1m, step: profle}}]"),
    ),
    "leaving where everyone is": (
        together(trigger("{leaves: s}"), segment("true")),
        "2:16: never comes true: everyone is in the segment 's' for good",
        together(trigger("{enters: s}"), segment("true")),
    ),
    "a form twice": (
        trigger("[{event: a}, {idle: 1m}, {event: a}]"),
        "2:32: this form stands in the list twice",
        trigger("[{event: a}, {idle: 1m}, {event: a, where: event.properties.x == 1}]"),
    ),
    "a sequence cancelled by its own step": (
        trigger("{sequence: {steps: [{event: a}, {event: b}]}}", "cancel_on: [{event: c}, {event: b}]"),
        "3:25: the sequence waits for 'b' too, and is ended by it first: it never gets past that step",
        trigger("{sequence: {steps: [{event: a}, {event: b}]}}", "cancel_on: [{event: a}]"),
    ),
    "a delay that its own event begins again": (
        trigger("{sequence: {steps: [{event: a}, {event: b, where: event.name == 'b'}]}}", "cancel_on: [{event: b}]"),
        "3:13: the sequence waits for 'b' too, and is ended by it first: it never gets past that step",
        trigger("{delay: {after: {event: a}, for: 1h}}", "cancel_on: [{event: a}]"),
    ),
}
CONDITIONS = {
    "false whatever happens": (
        trigger("{event: a}", "if: 1 > 2"),
        "3:5: it reads nothing and is false, so the trigger never fires",
        trigger("{event: a}", "if: 1 < 2"),
    ),
    "two values at once": (
        trigger("{event: a}", "if: user.persona == 'a' && user.sessions > 1 && 'b' == user.persona"),
        "3:5: user.persona cannot be == 'a' and == 'b' at once, so the trigger never fires",
        trigger("{event: a}", "if: user.persona == 'a' || user.sessions > 1 && 'b' == user.persona"),
    ),
    "a value and not": (
        trigger("{event: a, where: event.properties.x == 1 && event.properties.x != 1.0}"),
        "2:25: event.properties.x cannot be == 1 and != 1.0 at once, so no event ever fits",
        trigger("{event: a, where: event.properties.x == 1 && event.properties.y != 1.0}"),
    ),
    "bounds that do not meet": (
        together(
            "counter: c\nof: x\nwhere: event.properties.n < 2 && 2 <= event.properties.n\n",
            segment("user.counters.c > 1"),
        ),
        "3:8: event.properties.n cannot be < 2 and >= 2 at once, so no event ever fits",
        together(
            "counter: c\nof: x\nwhere: event.properties.n <= 2 && 2 <= event.properties.n\n",
            segment("user.counters.c > 1"),
        ),
    ),
    "a value beyond a bound": (
        segment("user.sessions == 3 && user.sessions > 3"),
        "2:5: user.sessions cannot be == 3 and > 3 at once, so nobody is ever in the segment",
        segment("user.traits.n == 'three' && user.traits.n > 3"),
    ),
    "something and its opposite": (
        segment("'x' in user.goals && user.sessions > 1 && !('x' in user.goals)"),
        "2:5: one part of it is the opposite of another, so nobody is ever in the segment",
        segment("'x' in user.goals && user.sessions > 1 && !('y' in user.goals)"),
    ),
    "a variant for nobody": (
        "flow: f\nsteps: [{id: a}]\nvariants: [{id: v, if: 1 > 2, steps: [a]}]\n",
        "3:24: it reads nothing and is false, so the variant is never chosen",
        "flow: f\nsteps: [{id: a}]\nvariants: [{id: v, if: user.sessions > 2, steps: [a]}]\n",
    ),
    "an event of another name": (
        trigger("[{event: bought}, {idle: 1m}]", "if: event.name == 'bougt' && user.sessions > 1"),
        "3:5: the event here is 'bought' or 'idle', so the trigger never fires",
        trigger("[{event: bought}, {idle: 1m}]", "if: event.name == 'idle' && user.sessions > 1"),
    ),
}
LOOPS = {
    "an event that brings itself": (
        trigger("{event: a}", then="{set: {x: 1}}, {emit: {event: a}}"),
        "3:23: nothing ends this loop, t -> t, until the server cuts it off: give one of them a limit",
        trigger("{event: a}", "limit: 3 per session", then="{set: {x: 1}}, {emit: {event: a}}"),
    ),
    "a circle of three": (
        together(
            trigger("{event: a}", "if: user.traits.plan == 'pro'", then="{emit: {event: b}}"),
            trigger("[{idle: 1m}, {event: b}]", then="{emit: {event: c}}", name="u"),
            trigger("{event: c}", then="{emit: {event: d}}, {emit: {event: a}}", name="v"),
        ),
        "4:8: nothing ends this loop, t -> u -> v -> t, until the server cuts it off: give one of them a limit",
        together(
            trigger("{event: a}", "if: user.traits.plan == 'pro'", then="{emit: {event: b}}"),
            trigger("[{idle: 1m}, {event: b}]", then="{emit: {event: c}}, {set: {plan: solo}}", name="u"),
            trigger("{event: c}", then="{emit: {event: d}}, {emit: {event: a}}", name="v"),
        ),
    ),
    "a trait that counts on": (
        trigger("{changes: traits.n}", then="{set: {n: {cel: user.traits.n + 1}}}"),
        "3:8: nothing ends this loop, t -> t, until the server cuts it off: give one of them a limit",
        trigger("{changes: traits.n}", then="{set: {n: {cel: user.sessions + 1}}}"),
    ),
    "one that an event's properties may end": (
        trigger("{event: a}", "if: user.sessions > 1", then="{emit: {event: a, properties: {n: 1}}}"),
        "4:8: nothing ends this loop, t -> t, until the server cuts it off: give one of them a limit",
        trigger("{event: a, where: event.properties.n > 1}", then="{emit: {event: a, properties: {n: 1}}}"),
    ),
    "one that shows something": (
        trigger("{event: a}", then="{content: {slot: s, message: hi}}, {emit: {event: a}}") + HI,
        "3:43: nothing ends this loop, t -> t, until the server cuts it off: give one of them a limit",
        trigger("{event: a}", then="{prompt: hi}, {emit: {event: a}}") + HI,
    ),
    "one that takes its time": (
        trigger("[{event: a}, {idle: 1m}]", then="{emit: {event: a}}"),
        "3:8: nothing ends this loop, t -> t, until the server cuts it off: give one of them a limit",
        trigger("{delay: {after: {event: a}, for: 1d}}", then="{emit: {event: a}}"),
    ),
}
PROMPTS = "---\npolicy: default\nprompts: {limit: [3 per session, 5 per 24h], gap: 1h}\n"
SHOWS = {"then": "{prompt: hi}"}
CAPS = {
    "none at all": (
        trigger("{event: a}", "limit: [3 per 7d, 0 per session]"),
        "3:19: a limit of 0: the trigger never fires",
        trigger("{event: a}", "limit: [3 per 7d, 1 per session]"),
    ),
    "no prompt at all": (
        "policy: default\nprompts: {limit: 0 per session}\n",
        "2:18: a limit of 0: no prompt is ever shown",
        "policy: default\nprompts: {limit: 1 per session}\n",
    ),
    "once and more": (
        trigger("{event: a}", "limit: [1 per session, once]"),
        "3:9: '1 per session' changes nothing: 'once' is at least as strict",
        trigger("{event: a}", "limit: [1 per session, 3 per 7d]"),
    ),
    "once, with a cooldown": (
        trigger("{event: a}", "limit: once", "cooldown: 24h"),
        "4:11: changes nothing: the trigger fires once, ever",
        trigger("{event: a}", "limit: 1 per session", "cooldown: 24h"),
    ),
    "two windows of which one is enough": (
        trigger("{event: a}", "limit: [3 per 7d, 2 per 24h, 5 per 7d]"),
        "3:30: '5 per 7d' changes nothing: '3 per 7d' is at least as strict",
        trigger("{event: a}", "limit: [3 per 7d, 2 per 24h, 4 per 14d]"),
    ),
    "a day in a week": (
        trigger("{event: a}", "limit: [3 per day, 2 per 7d]"),
        "3:9: '3 per day' changes nothing: '2 per 7d' is at least as strict",
        trigger("{event: a}", "limit: [3 per day, 2 per 24h]"),
    ),
    "a week in days": (
        trigger("{event: a}", "limit: [1 per 24h, 7 per 7d]"),
        "3:20: '7 per 7d' changes nothing: '1 per 1d' is at least as strict",
        trigger("{event: a}", "limit: [1 per day, 6 per 7d]"),
    ),
    "a cooldown as long as the window": (
        trigger("{event: a}", "limit: 3 per 7d", "cooldown: 7d"),
        "3:8: '3 per 7d' is never reached: with the cooldown, 7d, once is the most",
        trigger("{event: a}", "limit: 1 per 7d", "cooldown: 7d"),
    ),
    "a cooldown too long for three": (
        trigger("{event: a}", "limit: 3 per 7d", "cooldown: 3d12h"),
        "3:8: '3 per 7d' is never reached: with the cooldown, 3d12h, 2 times is the most",
        trigger("{event: a}", "limit: 3 per 7d", "cooldown: 3d11h"),
    ),
    "a cooldown of a day": (
        trigger("{event: a}", "limit: 2 per day", "cooldown: 24h"),
        "3:8: '2 per day' is never reached: with the cooldown, 1d, once is the most",
        trigger("{event: a}", "limit: 2 per day", "cooldown: 12h"),
    ),
    "more than the policy's prompts": (
        trigger("{event: a}", "limit: 5 per session", **SHOWS) + HI + PROMPTS,
        "3:8: '5 per session' is never reached: the policy allows 3 per session (policy: prompts, limit)",
        trigger("{event: a}", "limit: 3 per session", **SHOWS) + HI + PROMPTS,
    ),
    "more than the policy's prompts, of a trigger without": (
        trigger("{event: a}", "limit: 6 per 12h", **SHOWS) + HI + PROMPTS,
        "3:8: '6 per 12h' is never reached: the policy allows 5 per 1d (policy: prompts, limit)",
        trigger("{event: a}", "limit: 6 per 12h") + PROMPTS,
    ),
    "more than the gap has room for": (
        trigger("{event: a}", "limit: 4 per 3h", **SHOWS) + HI + PROMPTS,
        "3:8: '4 per 3h' is never reached: with the gap of the policy, 1h, 3 times is the most",
        trigger("{event: a}", "limit: 3 per 3h", **SHOWS) + HI + PROMPTS,
    ),
    "more letters than the policy's": (
        trigger("{event: a}", "limit: 3 per day", then="{webhook: mail}")
        + MAIL
        + "---\npolicy: default\nemail: {limit: 2 per 7d}",
        "3:8: '3 per day' is never reached: the policy allows 2 per 7d (policy: email, limit)",
        trigger("{event: a}", "limit: 3 per session", then="{webhook: mail}")
        + MAIL
        + "---\npolicy: default\nemail: {limit: 2 per 7d}",
    ),
    "more prompts than the budget": (
        "policy: default\nprompts: {limit: [3 per session, 10 per 24h]}\nbudget: 6 per 24h\n",
        "2:34: '10 per 1d' is never reached: the policy allows 6 per 1d (policy: budget)",
        "policy: default\nprompts: {limit: [3 per session, 6 per 24h]}\nbudget: 6 per 24h\n",
    ),
    "two bounds of the policy": (
        "policy: default\nbudget: [6 per 24h, 6 per 12h]\n",
        "2:21: '6 per 12h' changes nothing: '6 per 1d' is at least as strict",
        "policy: default\nbudget: [6 per 24h, 5 per 12h]\n",
    ),
    "a gap too long for two": (
        "policy: default\nprompts: {limit: 2 per 1h, gap: 1h}\n",
        "2:18: '2 per 1h' is never reached: with the gap, 1h, once is the most",
        "policy: default\nprompts: {limit: 2 per 1h, gap: 59m}\n",
    ),
}
CHOICE = "---\nmessage: hi\nkind: toast\nlocales:\n  de: {actions: [{label: Go, do: {flow: %s}}]}\n---\n"
UNUSED = {
    "a message": (
        trigger("{event: a}", then="{withdraw: hi}") + HI,
        "5:10: nothing shows this message: no trigger has it as prompt or content",
        trigger("{event: a}", then="{content: {slot: s, message: hi}}") + HI,
    ),
    "a webhook": (
        trigger("{event: a}") + MAIL,
        "5:10: no trigger calls this webhook",
        trigger("{event: a}", then="{webhook: mail}") + MAIL,
    ),
    "a counter": (
        together("counter: c\nof: x\n", "counter: d\nof: x\n", segment("user.counters.d > 1")),
        "1:10: nothing reads this counter: no condition and no text has user.counters.c",
        together(
            "counter: c\nof: x\n", trigger("{event: a}", then="{prompt: hi}") + HI + 'title: "{{ user.counters.c }}"'
        ),
    ),
    "a counter, where texts look at others": (
        together("counter: c\nof: x\n", trigger(then="{set: {n: {cel: user.sessions}}}")),
        "1:10: nothing reads this counter: no condition and no text has user.counters.c",
        together("counter: c\nof: x\n", trigger(then="{set: {n: {cel: size(user.counters)}}}")),
    ),
    "a flow": (
        together(FLOWS, "flow: other\nsteps: [{id: a}]\n"),
        "4:7: nobody is ever on this flow: everyone is on 'tour', the first of the rules, "
        "and no trigger or button chooses this one",
        together(FLOWS, "flow: other\nsteps: [{id: a}]\n", trigger("{event: a}", then="{flow: other}")),
    ),
    "a variant of a flow": (
        together(
            FLOWS + "variants: [{id: one, if: user.sessions > 1, steps: [done]}, {id: two, steps: [done]}]\n",
            trigger("{event: a}", then="{flow: tour}"),
        ),
        "3:61: this variant is never chosen: it has no 'if', and no trigger or button names it",
        trigger("{event: a}", then="{prompt: hi}") + CHOICE % "two" + FLOWS + "variants: [{id: two, steps: [done]}]\n",
    ),
    "words behind a variant that always holds": (
        trigger("{event: a}", then="{prompt: hi}")
        + HI
        + "variants: [{if: user.sessions > 1}, {id: all, body: x}, {if: user.sessions > 2}]",
        "7:57: never chosen: variant all before it has no 'if'",
        trigger("{event: a}", then="{prompt: hi}") + HI + "variants: [{if: user.sessions > 1}, {id: all, body: x}]",
    ),
    "words in no language": (
        trigger("{event: a}", then="{prompt: hi}") + HI + "locales: {de: {title: x}, german: {title: y}}",
        "7:27: 'german' is no language tag such as de or pt-BR",
        trigger("{event: a}", then="{prompt: hi}")
        + HI
        + "locales: {de_AT: {title: x}, zh-Hant-TW: {title: y}, gsw: {title: z}}",
    ),
    "words of a variant in no language": (
        trigger("{event: a}", then="{prompt: hi}") + HI + "variants: [{locales: {Deutsch: {title: x}}}]",
        "7:23: 'Deutsch' is no language tag such as de or pt-BR",
        trigger("{event: a}", then="{prompt: hi}") + HI + "variants: [{locales: {de: {title: x}}}]",
    ),
}
FIELDS = {
    "a property that an event of the server never has": (
        trigger("{idle: {for: 1m, step: workspace}}", "if: user.sessions > 1 && event.properties.step == 'a'"),
        "3:26: event.properties.step is never there: the event is idle {for_s}",
        trigger("{dwell: {for: 1m, step: workspace}}", "if: user.sessions > 1 && event.properties.step == 'a'"),
    ),
    "a slip in one": (
        trigger("{event: session_started, where: event.properties.numbr == 1}"),
        "2:39: event.properties.numbr is never there: the event is session_started {session, number}; "
        "did you mean 'number'?",
        trigger("{event: session_began, where: event.properties.numbr == 1}"),
    ),
    "a property of none of several": (
        trigger("[{idle: 1m}, {changes: traits.plan}]", then="{set: {x: {cel: event.properties.form}}}"),
        "3:24: event.properties.form is never there: the event is idle {for_s} or trait_changed {trait, from, to}; "
        "did you mean 'from'?",
        trigger("[{idle: 1m}, {changes: traits.plan}, {event: a}]", then="{set: {x: {cel: event.properties.form}}}"),
    ),
    "a text of a message": (
        trigger("{session: ended}", then="{prompt: hi}") + HI + 'body: "You took {{ event.properties.length }}"',
        "7:20: event.properties.length is never there: the event is session_ended {session, length_s}; "
        "did you mean 'length_s'?",
        together(
            trigger("{event: a}", then="{content: {slot: s, message: hi}}", name="u"),
            trigger("{session: ended}", then="{prompt: hi}"),
        )
        + HI
        + 'body: "You took {{ event.properties.length }}"',
    ),
    "what a webhook is told": (
        trigger("{enters: s}", then='{webhook: mail, data: {list: ["x", "{{ event.properties.plan }}"]}}')
        + MAIL
        + "---\n"
        + segment("user.sessions > 1"),
        "3:47: event.properties.plan is never there: the event is segment_entered {segment}",
        trigger("{enters: s}", then='{webhook: mail, data: {list: ["{{ event.properties.segment }}"]}}')
        + MAIL
        + "---\n"
        + segment("user.sessions > 1"),
    ),
    "a counter that is none": (
        trigger("{event: a}", then="{prompt: hi}")
        + HI
        + "title: '{{ user.counters.imprts }}'\n---\n"
        + "counter: imports\nof: x\n---\n"
        + segment("user.counters.imports > 1"),
        "7:12: no counter is named 'imprts', so this is always empty; did you mean 'imports'?",
        trigger("{event: a}", then="{prompt: hi}")
        + HI
        + "title: '{{ user.counters.imports }}'\n---\n"
        + "counter: imports\nof: x\n",
    ),
    "the event of a change of persona": (
        trigger("{changes: persona}", "if: event.properties.trait == 'a'"),
        "3:5: event.properties.trait is never there: the event is persona_changed {from, to}",
        trigger("{changes: persona}", "if: event.name == 'persona_changed' && event.properties.to == 'a'"),
    ),
    "the event of a count that falls": (
        trigger("{count: {event: a, at_most: 1, within: 7d}}", "if: event.properties.plan == 'a'"),
        "3:5: event.properties.plan is never there: the event is count_fell {count}",
        trigger("{count: {event: a, at_most: 1, within: 7d}}", "if: event.name == 'count_fell'"),
    ),
    "a key of entries that one of the events has not": (
        trigger("[{event: a}, {idle: 1m}]", "reentry: {max: 1, key: event.properties.order}"),
        "3:24: event.properties.order is never there: the event is idle {for_s}",
        trigger("[{event: a}, {idle: 1m}]", "reentry: {max: 1, key: \"has(event.properties.order) ? 'a' : 'b'\"}"),
    ),
    "a key that one event of a pattern has not": (
        trigger(
            "{absence: {after: {event: session_started}, of: {event: saved}, for: 1h, key: event.properties.project}}"
        ),
        "2:85: event.properties.project is never there: the event is session_started {session, number}",
        trigger("{absence: {after: {event: opened}, of: {event: saved}, for: 1h, key: event.properties.project}}"),
    ),
    "what an event has not": (
        trigger("{event: a}", then="{prompt: hi}") + HI + "title: '{{ event.plan }}'",
        "7:12: 'event' has no field 'plan', so this is always empty; did you mean 'event.properties.plan'?",
        trigger("{event: a}", then="{prompt: hi}") + HI + "title: '{{ event.properties.plan }}'",
    ),
    "what a session has not, in a webhook": (
        trigger("{event: a}", then="{webhook: mail}") + MAIL + "body: {text: '{{ user.session.count }}'}",
        "9:18: 'user.session' has no field 'count', so this is always empty; known: events, id, length, started",
        trigger("{event: a}", then="{webhook: mail}") + MAIL + "body: {text: '{{ user.session.events }}'}",
    ),
}
SURVEY = "survey: goals\nquestions: [{id: goal, ask: Why?, choose: [teamwork, reports], sets: goals}]\n"
NAMES = {
    "a flow": (
        together(trigger("{event: a}", "if: user.sessions > 1 && user.flow.id == 'tuor'"), FLOWS),
        "3:26: no flow is named 'tuor'; did you mean 'tour'?",
        together(trigger("{event: a}", "if: user.flow.id in ['', 'tour'] && user.traits.flow == 'tuor'"), FLOWS),
    ),
    "a variant": (
        together(trigger("{event: a}", "if: user.flow.variant == 'short'"), FLOWS),
        "3:5: no variant is named 'short'",
        together(trigger("{event: a}", "if: user.flow.variant == ''"), FLOWS),
    ),
    "a step": (
        together(trigger("{event: step_viewed, where: event.properties.step == 'profil'}"), FLOWS),
        "2:35: no step is named 'profil'; did you mean 'profile'?",
        together(trigger("{event: opened, where: event.properties.step == 'profil'}"), FLOWS),
    ),
    "what became of a step": (
        together(trigger("{event: a}", "if: user.steps.profil == 'viewed' || user.steps.billing == 'viewed'"), FLOWS),
        "3:5: no step is named 'profil'; did you mean 'profile'?",
        together(trigger("{event: a}", "if: user.steps.billing == 'viewed' || user.steps.profile2 == 'viewed'"), FLOWS),
    ),
    "a message": (
        trigger("{event: prompt_dismissed, where: event.properties.message == 'ho'}", then="{prompt: hi}") + HI,
        "2:40: no message is named 'ho'",
        trigger("[{event: prompt_dismissed}, {event: a}]", "if: event.properties.message == 'ho'", then="{prompt: hi}")
        + HI,
    ),
    "a survey": (
        together(trigger("{event: survey_answered}", "if: event.properties.survey == 'gaols'"), SURVEY),
        "3:5: no survey is named 'gaols'; did you mean 'goals'?",
        together(trigger("{event: survey_answered}", "if: event.properties.survey == 'nps'"), SURVEY),
    ),
    "a question": (
        together(trigger("{event: survey_answered, where: event.properties.answers.goel == 'x'}"), SURVEY),
        "2:39: no question is named 'goel'; did you mean 'goal'?",
        together(trigger("{event: survey_answered, where: event.properties.answers.goal == 'x'}"), SURVEY),
    ),
    "a goal": (
        together(segment("'teamwrok' in user.goals"), SURVEY),
        "2:20: no goal is named 'teamwrok'; did you mean 'teamwork'?",
        together(segment("'growth' in user.goals || 'reports' in user.goals"), SURVEY),
    ),
}
CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "when": REACH,
        "if": CONDITIONS,
        "loop": LOOPS,
        "cap": CAPS,
        "unused": UNUSED,
        "field": FIELDS,
        "name": NAMES,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize(("rules", "told", "near_miss"), CASES.values(), ids=CASES)
def test_what_is_advised_and_where(rules: str, told: str, near_miss: str) -> None:
    assert warnings(rules) == [told]
    assert warnings(near_miss) == []


def test_a_segment_for_nobody_is_told_where_it_stands_and_where_it_is_waited_for() -> None:
    assert warnings(together(trigger("{enters: s}"), segment("user.locale == 'de' && user.locale == 'en'"))) == [
        "2:16: never comes true: nobody is ever in the segment 's'",
        "6:5: user.locale cannot be == 'de' and == 'en' at once, so nobody is ever in the segment",
    ]


def test_of_very_many_unknown_names_only_the_first_are_compared() -> None:
    def viewed(first: str) -> str:
        steps = [f"profil{first}{second}" for second in "abcdefghijklmnopqrstuvwxyz"]
        return trigger("{event: step_viewed}", f'if: "event.properties.step in {steps}"', name=f"t{first}")

    assert len(warnings(together(*map(viewed, "abcde"), FLOWS))) == MOST < 5 * 26


def test_nothing_is_advised_while_there_are_faults() -> None:
    faulty = together(trigger("{idle: 45m}", then="{prompt: hello}"), "message: hi\nkind: toast\n")
    loaded = load({"r.yaml": faulty}, {})
    assert [str(problem) for problem in loaded.problems] == ["r.yaml:3:17: no message is named 'hello'"]


@pytest.mark.parametrize("folder", ["rules", "server/handrail/web/pages/demo/rules", "examples/quickstart/rules"])
def test_the_projects_own_rules_need_no_advice(folder: str) -> None:
    paths = sorted((Path(__file__).parents[2] / folder).glob("*.yaml"))
    loaded = load({path.name: path.read_text() for path in paths if not path.name.endswith(".test.yaml")}, {})
    assert loaded.program is not None
    assert [str(each) for each in loaded.problems if "is not set" not in each.message] == []


def test_the_properties_of_the_servers_own_events_are_these() -> None:
    """What the advice says of them is what the engine makes."""
    whens = {
        "idle": "{idle: 1m}",
        "away": "{away: 2h}",
        "dwelt": "{dwell: {step: x, for: 10s}}",
        "returned": "{returns: {after: 1h}}",
        "count_fell": "{count: {event: report, at_most: 0, within: 1h}}",
        "trait_changed": "{changes: traits.plan}",
        "persona_changed": "{changes: persona}",
        "segment_entered": "{enters: pro}",
        "segment_left": "{leaves: pro}",
        "session_started": "{session: started}",
        "session_ended": "{session: ended}",
    }
    seen = "{set: {seen_%s: {cel: event.properties}}}"
    play = Play(
        together(
            segment("user.traits.plan == 'pro'", "pro"),
            "persona: paying\nif: user.traits.plan == 'pro'\n",
            *(trigger(when, then=seen % name, name=name) for name, when in whens.items()),
        )
    )
    play.track("report")
    play.track("step_viewed", step="x")
    play.identify(plan="pro")
    play.identify(plan="solo")
    play.wait("5m")
    play.disconnect()
    play.wait("3h")
    play.track("back")
    found = {
        name.removeprefix("seen_"): set(value) for name, value in play.state.traits.items() if name.startswith("seen_")
    }
    assert found == {name: set(properties) for name, properties in PROPERTIES.items()}
