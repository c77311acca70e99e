"""`{changes: traits.NAME}`: true when the trait gets another value, by identify or by a rule's `set`."""

from __future__ import annotations

from dataclasses import dataclass

from handrail.core.compiler import Compiler
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class ChangesWhen(Shape):
    changes: str

    def hook(self, compiler: Compiler) -> OnChange:
        if not self.changes.startswith("traits.") or not self.changes.removeprefix("traits."):
            compiler.error(f"expected traits.NAME, found '{self.changes}'", "changes")
        return OnChange((f"changes:{self.changes}",))


@dataclass(frozen=True, slots=True)
class OnChange:
    wakes: tuple[str, ...]

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
