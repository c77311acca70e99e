"""`{emit: {event, properties}}`: make an event of the team's own, which other triggers may wait for."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from pydantic import Field

from handrail.core.actions.set import compile_values, values
from handrail.core.compiler import Compiler
from handrail.core.events import SERVER_EVENTS
from handrail.core.expressions import Expression
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class Emission(Shape):
    event: str
    properties: dict[str, Any] = Field(default_factory=dict)


class EmitThen(Shape):
    emit: Emission

    def action(self, compiler: Compiler) -> EmitEvent:
        if self.emit.event in SERVER_EVENTS:
            compiler.error(f"'{self.emit.event}' is made by the server alone", "emit", "event")
        computed = compile_values(self.emit.properties, compiler.below("emit", "properties"))
        return EmitEvent(self.emit.event, self.emit.properties, computed)


class EmitEvent(Struct, frozen=True):
    event: str
    written: dict[str, Any]
    computed: dict[str, Expression]

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        if turn.emit(self.event, values(self.written, self.computed, turn, occurrence), occurrence):
            turn.decide(trigger, "emit", {"event": self.event, "properties": self.written})
        else:
            turn.note(
                trigger, "suppressed", reason="loop", detail=f"'{self.event}' was not emitted: emits lead to emits"
            )
