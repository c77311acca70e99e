"""`{prompt: MESSAGE}`: put a message on the user's screen."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class PromptThen(Shape):
    prompt: str

    def action(self, compiler: Compiler) -> ShowPrompt:
        compiler.refer("message", self.prompt, compiler.names.messages, "prompt")
        return ShowPrompt(self.prompt)


class ShowPrompt(Struct, frozen=True):
    message: str

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        variant = turn.show(turn.program.messages[self.message], trigger, occurrence)
        turn.remember_prompt()
        turn.decide(trigger, "prompt", self.message, variant=variant)
