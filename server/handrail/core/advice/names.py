"""Names of parts of the rules that a condition compares with, and that are none: flows, steps, messages, surveys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from handrail.core.advice.conditions import spell
from handrail.core.advice.happenings import happenings
from handrail.core.advice.written import Written, kind_of, name_of
from handrail.core.events import PROMPT_EVENTS, SURVEY_ANSWERED
from handrail.core.expressions import Expression
from handrail.core.problems import Problem, nearest
from handrail.core.program import Program
from handrail.core.source import Document, Path
from handrail.core.syntax import Node

_ANSWERS = "event.properties.answers"
_STEP_EVENTS = ("step_viewed", "step_completed", "step_skipped", "dwelt")
# What is compared -> the kind of part it names, and the events of which that is so (none: of all).
_NAMING: dict[str, tuple[str, Collection[str]]] = {
    "user.flow.id": ("flow", ()),
    "user.flow.variant": ("variant", ()),
    "user.goals": ("goal", ()),
    "event.properties.step": ("step", _STEP_EVENTS),
    "event.properties.message": ("message", PROMPT_EVENTS),
    "event.properties.survey": ("survey", (SURVEY_ANSWERED,)),
}
# Pages may have others than the rules name: only near misses count.
_OPEN = ("goal", "step", "survey", "question")
MOST = 100  # names that are none and are looked at; where there are more, it is not by slips
_DIGITS = re.compile("[0-9]")


class Naming(NamedTuple):
    """A `name` in a condition that should be one of a part of this kind; `variable` tells where it stands."""

    kind: str
    name: str
    variable: str


def unknown_names(written: Written) -> Iterator[Problem]:
    known = _Known(written.program)
    read = known.variables
    for document, path, what in written.uses:
        if not isinstance(what, Expression) or what.reads.isdisjoint(read):
            continue
        for naming in dict.fromkeys(_namings(what, _events(document, path, written))):
            message = known.complaint(naming)
            if message:
                place = document.inner_place(path, what.source, *what.places[naming.variable])
                yield document.problem(place, message, severity="warning")


class _Known:
    """The names of each kind, and what is said of one that is none of them."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._told: dict[tuple[str, str], str] = {}  # the same name often stands in many conditions

    @cached_property
    def names(self) -> dict[str, Collection[str]]:
        program = self._program
        questions = [each for survey in program.surveys.values() for each in survey.questions.values()]
        return {
            "flow": program.flows,
            "variant": {each.id for flow in program.flows.values() for each in flow.variants},
            "step": {step for flow in program.flows.values() for step in flow.modules},
            "message": program.messages,
            "survey": program.surveys,
            "question": {each.id for each in questions},
            "goal": {text for each in questions if each.sets == "goals" for text in each.choices},
        }

    @property
    def variables(self) -> frozenset[str]:
        """Those of which anything may be said."""
        found = {variable for variable, (kind, _) in _NAMING.items() if kind not in _OPEN or self.names[kind]}
        found |= {"user.steps"} if self.names["step"] else set()
        return frozenset(found | {_ANSWERS} if self.names["question"] else found)

    def complaint(self, naming: Naming) -> str:
        key = naming.kind, naming.name
        if naming.name in self.names[naming.kind] or not naming.name:
            return ""
        if key not in self._told:
            self._told[key] = self._complain(*key) if len(self._told) < MOST else ""
        return self._told[key]

    def _complain(self, kind: str, name: str) -> str:
        close = nearest(name, self.names[kind], cutoff=0.75)
        if kind in _OPEN and (close is None or _DIGITS.sub("", close) == _DIGITS.sub("", name)):
            return ""
        return f"no {kind} is named '{name}'" + (f"; did you mean '{close}'?" if close else "")


def _namings(condition: Expression, events: Collection[str]) -> Iterator[Naming]:
    yield from (Naming("step", step, f"user.steps.{step}") for step in sorted(condition.keys.get("user.steps") or ()))
    for node in condition.tree.walk():
        if node.name in ("_==_", "_!=_", "@in"):
            yield from _compared(node, events)
        elif node.kind == "select" and spell(node.parts[0]) == _ANSWERS and SURVEY_ANSWERED in events:
            yield Naming("question", node.name, _ANSWERS)


def _compared(node: Node, events: Collection[str]) -> Iterator[Naming]:
    for variable in filter(None, map(spell, node.parts)):
        kind, only = _NAMING.get(variable, ("", ()))
        if kind and (not only or (events and all(event in only for event in events))):
            constants = [each for part in node.parts for each in (part.parts if part.kind == "list" else (part,))]
            yield from (Naming(kind, each.value, variable) for each in constants if isinstance(each.value, str))


def _events(document: Document, path: Path, written: Written) -> Collection[str]:
    """The names of the events that a condition can see; none where they are not known."""
    if kind_of(document) == "trigger" and path == ("if",):
        return {each.name for each in happenings(written.program.triggers[name_of(document)]) or ()}
    if path[-1] != "where":
        return ()
    beside: Any = document.value
    for key in path[:-1]:
        beside = beside[key]
    return {str(beside.get("event", beside.get("of")))}
