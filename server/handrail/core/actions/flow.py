"""`{flow: ID}`: put the user on a flow, or with `FLOW/VARIANT` on one of its variants outright."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler, resolve_flow
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class FlowThen(Shape):
    flow: str

    def action(self, compiler: Compiler) -> ChooseFlow:
        compiler.refer_flow(self.flow, "flow")
        flow, variant = resolve_flow(self.flow, compiler.names.flows) or (self.flow, None)
        return ChooseFlow(self.flow, flow, variant)


class ChooseFlow(Struct, frozen=True):
    """`written` is what the author wrote; `flow` and `variant` what it names."""

    written: str
    flow: str
    variant: str | None

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        turn.choose_flow(self.flow, self.variant, f"trigger:{trigger}")
        turn.decide(trigger, "flow", self.written, variant=self.variant)
