"""What `handrail check` warns of in rules without a fault: what can never happen, never ends or is for nothing.

One file a kind, joined here. Whoever is warned must be able to trust it: where it is not certain, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from handrail.core.advice.caps import void_caps
from handrail.core.advice.conditions import never_true
from handrail.core.advice.fields import absent_fields
from handrail.core.advice.loops import endless_loops
from handrail.core.advice.names import unknown_names
from handrail.core.advice.reach import never_woken
from handrail.core.advice.unused import unasked_surveys, unused_parts
from handrail.core.advice.words import unread_words
from handrail.core.advice.written import Written
from handrail.core.problems import Problem

__all__ = ["Written", "advise"]


def advise(written: Written, *, whole: bool = True) -> Iterator[Problem]:
    """Warnings, in no particular order. Where these are not the whole of the rules, others may use their parts."""
    for look in (never_woken, never_true, endless_loops, void_caps, unread_words, absent_fields):
        yield from look(written)
    yield from unasked_surveys(written)
    for look in (unused_parts, unknown_names) if whole else ():
        yield from look(written)
