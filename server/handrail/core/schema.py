"""The JSON Schema of rule files, generated from the very shapes that read them, so that editors complete and `check`
accepts the same. What only compiling can tell (a name that is not defined, a faulty condition) it lets pass."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from handrail.core.actions import THENS
from handrail.core.counters import CounterShape
from handrail.core.flows import FlowShape
from handrail.core.messages import DEEDS, ButtonShape, MessageShape
from handrail.core.personas import PersonaShape
from handrail.core.policy import REASONS, PolicyShape
from handrail.core.segments import SegmentShape
from handrail.core.source import Shape
from handrail.core.surveys import QuestionShape, SurveyShape
from handrail.core.testfiles import ACTIONS, EntryShape, TestShape
from handrail.core.trigger import TriggerShape
from handrail.core.triggers import WHENS
from handrail.core.webhooks import WebhookShape

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Kind of document -> its shape and what it is for.
KINDS: dict[str, tuple[type[Shape], str]] = {
    "trigger": (TriggerShape, "A rule: what it waits for, under which condition, and what it does then."),
    "segment": (SegmentShape, "Users who belong together, told by a condition that is judged as things change."),
    "persona": (
        PersonaShape,
        "A kind of user with attributes, told or found by a condition; each user has one at most.",
    ),
    "counter": (CounterShape, "A number kept for each user, for conditions and texts."),
    "message": (MessageShape, "Words for a prompt or a slot, with variants and locales."),
    "flow": (FlowShape, "Steps of an onboarding, assembled for each user."),
    "survey": (SurveyShape, "Questions to users; what they answer becomes goals and traits at once."),
    "webhook": (WebhookShape, "Where to send what was decided, as a signed POST."),
    "policy": (PolicyShape, "How often users are spoken to, over all triggers."),
    "test": (TestShape, "A user's story and what is to be decided in it; in files that end in .test.yaml."),
}
_CONDITION = "A CEL condition over user, event and now."
_MEANINGS: dict[str, dict[str, str]] = {
    "trigger": {
        "trigger": "The trigger's name, unique among triggers.",
        "when": "What makes it come true: one form, or a list of which any will do.",
        "if": f"{_CONDITION} Judged when the trigger comes true.",
        "then": "What it does, in this order.",
        "limit": "How often it may fire for one user: once, 1 per session, 3 per 7d, or a list of these.",
        "cooldown": "What must have passed since it last fired, such as 24h.",
        "priority": "Who goes first when several come true together.",
        "cancel_on": "Events that end what it waits for.",
        "on_change": "What becomes of users who wait when this document changes.",
        "reentry": "How often, how soon and how many at a time it is entered, by key.",
        "preempt": "Its prompt takes the screen from that of a trigger of lower priority.",
        "when_blocked": "What becomes of it when a cap, the gap or another prompt blocks it: drop, or {defer: 10m}.",
    },
    "segment": {"segment": "The segment's name.", "if": "A CEL condition over user and now."},
    "persona": {
        "persona": "The persona's name, as in user.persona; the trait persona may tell it.",
        "if": "A CEL condition over user and now: who is of this persona unless the trait tells another.",
        "attributes": "What is said of such users, as in user.attributes.NAME.",
    },
    "counter": {
        "counter": "The counter's name, as in user.counters.NAME.",
        "of": "The event it counts.",
        "where": f"{_CONDITION} Only events for which it holds are counted.",
        "distinct": "A CEL expression: count different values of it.",
        "within": "Over this sliding span.",
        "first": "Within this span after the user was first seen.",
        "over": "In the present session.",
    },
    "message": {
        "message": "The message's name.",
        "kind": "How it is shown.",
        "title": "Its heading, a template.",
        "body": "Its text, a template.",
        "actions": "Its buttons.",
        "anchor": "CSS selector of what it points at.",
        "style": "Hints for the page that draws it.",
        "expires": "How long it stays on the screen at most.",
        "survey": "Of kind survey: the survey it asks; left out, the one of the message's own name.",
        "variants": "Other words: the first whose `if` holds.",
        "locales": "Other words by locale, such as de or pt-br.",
    },
    "flow": {"flow": "The flow's name.", "steps": "Its steps in order.", "variants": "The first whose `if` holds."},
    "survey": {
        "survey": "The survey's name.",
        "questions": "What it asks, in order; each may be skipped.",
        "locales": "Other words by locale: for each question, what it asks and a label for each choice.",
    },
    "webhook": {
        "webhook": "The webhook's name.",
        "url": "Where to POST; ${NAME} is read from the environment.",
        "secret": "Signs as Standard Webhooks; ${NAME} is read from the environment.",
        "headers": "Further headers to send.",
        "channel": "email: counts against the e-mail caps and the budget.",
        "body": "The JSON to send, its texts templates.",
    },
    "policy": {
        "session": "When a visit ends.",
        "prompts": "Caps on prompts, and the least time between two.",
        "email": "Caps on e-mail.",
        "budget": "Caps on prompts and e-mail together.",
        "quiet_hours": "When nobody is to be disturbed, on the clock where the user is.",
        "holdout": "The share of users who get nothing, and are recorded as would-have-shown.",
        "skew": "How far behind the newest event a late one may still bring a prompt.",
    },
    "question": {
        "id": "The question's name, as in answers.ID.",
        "ask": "What it asks, a template over user and now.",
        "choose": "What can be answered.",
        "sets": "goals: the choice becomes a goal of the user; traits.NAME: it becomes this trait.",
        "if": "A CEL condition over user, now and the answers so far.",
    },
    "test": {
        "test": "What the test shows.",
        "given": "The user as the test finds them.",
        "timeline": "What happens and what is expected, each at its time after the start.",
    },
}


def rule_schema() -> dict[str, Any]:
    """The schema of one document of any kind."""
    shapes = [shape for shape, _ in KINDS.values()]
    models: list[type[Shape]] = list(
        dict.fromkeys([*shapes, *WHENS.values(), *THENS.values(), ButtonShape, EntryShape, QuestionShape])
    )
    names, generated = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    parts: dict[str, Any] = {name: _tidy(part) for name, part in generated["$defs"].items()}
    refs = {model: f"{names[model, 'validation']['$ref']}" for model in models}
    named = {model: parts[ref.removeprefix("#/$defs/")] for model, ref in refs.items()}
    for kind, (shape, meaning) in KINDS.items():
        _describe(named[shape], kind, meaning)
    _describe(named[QuestionShape], "question", "One question of a survey.")
    for model in (*WHENS.values(), *THENS.values()):
        named[model].setdefault("description", _told_by(model))
    _fill_gaps(named)
    parts["when"] = {"oneOf": _references(refs[model] for model in WHENS.values())}
    parts["then"] = {"oneOf": _references(refs[model] for model in THENS.values())}
    return {
        "$schema": DIALECT,
        "title": "A document of a Handrail rule file",
        "type": "object",
        "oneOf": _references(refs[shape] for shape in shapes),
        "$defs": dict(sorted(parts.items())),
    }


def _fill_gaps(named: Mapping[Any, dict[str, Any]]) -> None:
    """What shapes leave open because the compiler judges it, with better words than a union's."""
    form, many = {"$ref": "#/$defs/when"}, {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/when"}}
    trigger = named[TriggerShape]["properties"]
    trigger["when"] = {"anyOf": [form, many], "description": trigger["when"]["description"]}
    named[PolicyShape]["properties"]["policy"] = {"const": "default"}
    trigger["then"]["items"] = {"$ref": "#/$defs/then"}
    deeds = {name: {"type": "string"} for name in DEEDS[1:]} | {"snooze": named[EntryShape]["properties"]["at"]}
    deed = {"type": "object", "properties": deeds, "additionalProperties": False, "minProperties": 1}
    named[ButtonShape]["properties"]["do"] = {"anyOf": [{"const": DEEDS[0]}, {**deed, "maxProperties": 1}]}
    expected: dict[str, Any] = {name: {} for name in (*ACTIONS, "trigger", "variant")}
    expected["suppressed"] = {"enum": list(REASONS)}
    expectation = {"type": "object", "properties": expected, "additionalProperties": False}
    named[EntryShape]["properties"]["expect"] = {"type": "array", "items": expectation}


def _describe(part: dict[str, Any], kind: str, meaning: str) -> None:
    part["description"] = meaning
    for name, said in {"description": "A note for readers.", **_MEANINGS[kind]}.items():
        if name in part["properties"]:
            part["properties"][name].setdefault("description", said)


def _told_by(model: type[Shape]) -> str:
    """What a form means, as the file says in which its shape and its meaning stand."""
    text = " ".join((sys.modules[model.__module__].__doc__ or "").partition("\n\n")[0].split())
    return f"{text.partition('. ')[0].removesuffix('.')}."


def _references(refs: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": ref} for ref in refs]


def _tidy(part: Any) -> Any:
    """Without the titles that only repeat names, and the defaults that are no YAML (durations in milliseconds)."""
    if isinstance(part, list):
        return [_tidy(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {key: value for key, value in part.items() if key not in ("title", "default", "properties")}
    tidy = {key: _tidy(value) for key, value in kept.items()}
    if isinstance(part.get("default"), str | bool) and part["default"] != "":
        tidy["default"] = part["default"]
    if "properties" in part:
        tidy["properties"] = {name: _tidy(value) for name, value in part["properties"].items()}
    return tidy
