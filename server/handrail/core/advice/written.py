"""Rules without a fault, as they were compiled and as they stand in their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from handrail.core.compiler import Use
from handrail.core.problems import Problem
from handrail.core.program import Program, Trigger
from handrail.core.source import Document, Path
from handrail.core.triggers import Hook


@dataclass(frozen=True, slots=True)
class Written:
    """`documents` by `KIND:NAME`; `uses` are all conditions, values and texts in them."""

    program: Program
    documents: Mapping[str, Document]
    uses: Sequence[Use]

    def warn(self, document: str, message: str, *path: str | int) -> Problem:
        """A warning about the value at a path of the document `KIND:NAME`."""
        found = self.documents[document]
        return found.problem(found.value_place(path), message, severity="warning")

    def hooks(self, trigger: Trigger) -> Iterator[tuple[Hook, Path]]:
        """The hooks of a trigger, each with the path of its form."""
        listed = isinstance(self.documents[f"trigger:{trigger.name}"].value["when"], list)
        for index, hook in enumerate(trigger.hooks):
            yield hook, ("when", index) if listed else ("when",)


def kind_of(document: Document) -> str:
    return next(iter(document.value))


def name_of(document: Document) -> str:
    return str(document.value[kind_of(document)])
