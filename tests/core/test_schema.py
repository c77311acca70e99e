"""The JSON Schema of rule files takes what the rules of this project say and refuses what `check` would."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from handrail.core.actions import THENS
from handrail.core.documents import read
from handrail.core.rules import load
from handrail.core.schema import KINDS, rule_schema
from handrail.core.triggers import WHENS

ROOT = Path(__file__).parents[2]
FOLDERS = ("rules", "examples", "server/handrail/web/pages/demo/rules")
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


@cache
def validator() -> Any:
    schema = rule_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def texts() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.yaml")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)):
            yield f"{page}#{number}", block


def documents(path: str, text: str) -> list[dict[str, Any]]:
    found, problems = read(path, text)
    assert not problems
    return [document.value for document in found]


TEXTS = dict(texts())


@pytest.mark.parametrize(("path", "text"), TEXTS.items(), ids=TEXTS)
def test_every_document_of_the_project_is_valid(path: str, text: str) -> None:
    for document in documents(path, text):
        assert [error.message for error in validator().iter_errors(document)] == []


TRIGGER = "trigger: x\nwhen: {event: a}\nthen: [{prompt: m}]\n"
MESSAGE = "message: m\nkind: modal\n"
BAD = {
    "an unknown kind": "triger: x",
    "an unknown key": f"{TRIGGER}limits: once",
    "a missing key": "trigger: x\nwhen: {event: a}",
    "a bad name": "segment: Not A Name\nif: 'true'",
    "a bad duration": f"{TRIGGER}cooldown: 90 seconds",
    "an empty duration": f"{TRIGGER}cooldown: ''",
    "units in the wrong order": f"{TRIGGER}cooldown: 30m1h",
    "a duration that is a number": f"{TRIGGER}cooldown: 90",
    "a bad limit": f"{TRIGGER}limit: twice",
    "a bad limit in a list": f"{TRIGGER}limit: [once, 3 times]",
    "an unknown priority": f"{TRIGGER}priority: urgent",
    "an unknown form of when": "trigger: x\nwhen: {evnt: a}\nthen: [{prompt: m}]",
    "two forms in one": "trigger: x\nwhen: {event: a, idle: 3m}\nthen: [{prompt: m}]",
    "no form at all": "trigger: x\nwhen: []\nthen: [{prompt: m}]",
    "a form that is text": "trigger: x\nwhen: idle\nthen: [{prompt: m}]",
    "a count of nothing": "trigger: x\nwhen: {count: {event: a, at_least: 0}}\nthen: [{prompt: m}]",
    "an unknown action": "trigger: x\nwhen: {event: a}\nthen: [{promt: m}]",
    "no action": "trigger: x\nwhen: {event: a}\nthen: []",
    "an unknown kind of message": "message: m\nkind: popup",
    "an unknown deed": f"{MESSAGE}actions: [{{label: Go, do: {{go: there}}}}]",
    "two deeds in one": f"{MESSAGE}actions: [{{label: Go, do: {{url: /a, emit: b}}}}]",
    "a snooze that is no duration": f"{MESSAGE}actions: [{{label: Go, do: {{snooze: later}}}}]",
    "a second policy": "policy: other",
    "an unknown expectation": "test: t\ntimeline: [{at: 0s, expect: [{promt: m}]}]",
    "an unknown suppression": "test: t\ntimeline: [{at: 0s, expect: [{suppressed: whim}]}]",
    "a flow without steps": "flow: f\nsteps: []",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused(text: str) -> None:
    (document,) = documents("bad.yaml", text)
    assert not validator().is_valid(document)


def test_what_the_schema_refuses_check_refuses_too() -> None:
    for name, text in BAD.items():
        if not text.startswith("test:"):
            problems = load({"bad.yaml": text if "prompt: m" not in text else f"{text}\n---\n{MESSAGE}"}, {}).problems
            assert any(problem.severity == "error" for problem in problems), name


def test_it_knows_every_kind_form_and_action() -> None:
    unknown = load({"x.yaml": "no-kind: x"}, {}).problems[0].message
    assert unknown.endswith(f"kinds are {', '.join(kind for kind in KINDS if kind != 'test')}")
    parts = rule_schema()["$defs"]
    for name, kinds in (("when", WHENS), ("then", THENS)):
        forms = [parts[each["$ref"].removeprefix("#/$defs/")] for each in parts[name]["oneOf"]]
        assert [key for form, key in zip(forms, kinds, strict=True) if key in form["required"]] == list(kinds)
        assert all(form["description"] for form in forms)


def test_the_committed_schema_is_current() -> None:
    committed = (ROOT / "docs" / "rules.schema.json").read_text()
    assert json.loads(committed) == rule_schema(), "run: handrail schema > docs/rules.schema.json"
