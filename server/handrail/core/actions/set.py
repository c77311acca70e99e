"""`{set: {TRAIT: value}}`: set traits of the user; `{cel: EXPR}` is evaluated, anything else is literal."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from handrail.core.compiler import Compiler
from handrail.core.expressions import Expression
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.traits import note_told
from handrail.core.turn import Turn


class SetThen(Shape):
    set: dict[str, Any]

    def action(self, compiler: Compiler) -> SetTraits:
        return SetTraits(self.set, compile_values(self.set, compiler.below("set")))


class SetTraits(Struct, frozen=True):
    written: dict[str, Any]
    computed: dict[str, Expression]

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        traits = values(self.written, self.computed, turn, occurrence)
        turn.set_traits(traits)
        note_told(turn.state, traits, occurrence.at)
        turn.decide(trigger, "set", self.written)


def compile_values(written: dict[str, Any], compiler: Compiler) -> dict[str, Expression]:
    """The entries of a mapping that are `{cel: EXPR}`, compiled."""
    compiled = {}
    for name, value in written.items():
        if isinstance(value, dict) and set(value) == {"cel"} and isinstance(value["cel"], str):
            expression = compiler.expression(value["cel"], name, "cel")
            if expression is not None:
                compiled[name] = expression
    return compiled


def values(
    written: dict[str, Any], computed: dict[str, Expression], turn: Turn, occurrence: Occurrence
) -> dict[str, Any]:
    """The mapping with its expressions evaluated; an entry whose expression meets an error is left out."""
    found = {name: value for name, value in written.items() if name not in computed}
    scope = turn.scope(occurrence)
    for name, expression in computed.items():
        outcome = expression.evaluate(scope)
        if outcome.error is None:
            found[name] = outcome.value
    return found
