"""`{changes: traits.NAME}` and `{changes: persona}`: true when the trait, or the user's persona, gets another value."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler, Origin
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class ChangesWhen(Shape):
    changes: str

    def hook(self, compiler: Compiler, origin: Origin) -> OnChange:
        if self.changes != "persona" and self.changes.removeprefix("traits.") in (self.changes, ""):
            named = self.changes.rpartition(".")[2]
            hint = f"; did you mean 'traits.{named}'?" if named not in ("", "traits") else ""
            compiler.error(f"expected traits.NAME or persona, found '{self.changes}'{hint}", "changes")
        return OnChange((f"changes:{self.changes}",))


class OnChange(Struct, frozen=True):
    wakes: tuple[str, ...]

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
