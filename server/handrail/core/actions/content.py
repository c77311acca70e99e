"""`{content: {slot, message}}`: fill a slot of the page with a message; `message: null` empties it."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class SlotContent(Shape):
    slot: str
    message: str | None


class ContentThen(Shape):
    content: SlotContent

    def action(self, compiler: Compiler) -> FillSlot:
        if self.content.message is not None:
            compiler.refer("message", self.content.message, compiler.names.messages, "content", "message")
        return FillSlot(self.content.slot, self.content.message)


class FillSlot(Struct, frozen=True):
    slot: str
    message: str | None

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        message = turn.program.messages[self.message] if self.message is not None else None
        variant = turn.fill(self.slot, message, occurrence)
        turn.decide(trigger, "content", {"slot": self.slot, "message": self.message}, variant=variant)
