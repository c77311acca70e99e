"""`{withdraw: MESSAGE}`: take the message off the screen, if it is the one that is on it."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class WithdrawThen(Shape):
    withdraw: str

    def action(self, compiler: Compiler) -> WithdrawPrompt:
        compiler.refer("message", self.withdraw, compiler.names.messages, "withdraw")
        return WithdrawPrompt(self.withdraw)


class WithdrawPrompt(Struct, frozen=True):
    message: str

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        if turn.state.prompt is not None and turn.state.prompt.prompt.message == self.message:
            turn.withdraw("withdrawn")
        turn.decide(trigger, "withdraw", self.message)
