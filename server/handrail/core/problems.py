"""What is wrong with a rule file, and where: plain values, sortable, printed as `file:line:col: message`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from msgspec import Struct


class Problem(Struct, frozen=True, order=True):
    """One fault. `line` and `column` count from 1; `severity` is `error` or `warning`."""

    path: str
    line: int
    column: int
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        kind = "warning: " if self.severity == "warning" else ""
        return f"{self.path}:{self.line}:{self.column}: {kind}{self.message}"


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The name an author most likely meant, or None when none is close."""
    folded = {candidate.lower(): candidate for candidate in sorted(names)}
    close = get_close_matches(name.lower(), sorted(folded), n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def suggest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The tail of a message about an unknown name: `; did you mean 'x'?`, or nothing."""
    close = nearest(name, names, cutoff=cutoff)
    return f"; did you mean '{close}'?" if close else ""


def choose(name: str, names: Iterable[str], taken: Iterable[str] = ()) -> str:
    """The tail of a message about an unknown name where there are few to choose from: the nearest, or else all that
    are not taken."""
    known = list(names)
    left = [each for each in known if each not in taken]
    return suggest(name, known, cutoff=0.65) or (f"; known: {', '.join(left)}" if left else "")
