"""The document `persona: NAME`: a name for a kind of user, with attributes that rules and texts read.

A user has one persona at a time, or none: what their trait `persona` says, else the first of the rule files whose `if`
holds. It is settled along with the segments, which may read it and which it may read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from handrail.core.compiler import Compiler
from handrail.core.expressions import Expression
from handrail.core.names import Name
from handrail.core.scope import Scope
from handrail.core.source import Shape


class PersonaShape(Shape):
    persona: Name
    description: str | None = None
    condition: str | None = Field(None, alias="if")
    attributes: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Persona:
    name: str
    condition: Expression | None  # None: only ever told
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Personas:
    """All of them, in the order of files and documents."""

    named: Mapping[str, Persona] = field(default_factory=dict)

    @property
    def conditions(self) -> Iterator[Expression]:
        return (each.condition for each in self.named.values() if each.condition is not None)

    def choose(self, scope: Scope) -> str:
        """The user's persona, or empty."""
        told = scope.state.traits.get("persona")
        if isinstance(told, str) and told:
            return told
        fitting = (name for name, each in self.named.items() if each.condition and each.condition.holds(scope)[0])
        return next(fitting, "")

    def attributes(self) -> dict[str, dict[str, Any]]:
        return {name: each.attributes for name, each in self.named.items()}


def compile_persona(shape: PersonaShape, compiler: Compiler) -> Persona:
    condition = compiler.condition(shape.condition, "if", event=False)
    for name in ("user.persona", "user.attributes"):
        if condition is not None and name in condition.reads:
            message = "which persona somebody has cannot depend on the persona itself"
            compiler.note_inside(condition, name, message, "if")
    return Persona(shape.persona, condition, shape.attributes)
