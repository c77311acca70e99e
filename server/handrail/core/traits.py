"""Which telling of a trait counts: the one that happened last, whenever it arrives.

By trait, the state keeps when it was last told, also for the latest that were removed. What a rule sets is decided now
and always holds, as told when that happened which led to it; what is only guessed from a context was never told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from handrail.core.state import State
from handrail.core.turn import Turn

REMOVED = 100  # traits that were removed and of which the time is kept, the latest


def tell(turn: Turn, traits: Mapping[str, Any], at: int) -> None:
    """Traits as the user, or somebody about them, told them at `at`; of those told later nothing changes."""
    told = turn.state.told
    newer = {name: value for name, value in traits.items() if at >= told.get(name, at)}
    turn.set_traits(newer)
    note_told(turn.state, newer, at)
    if len(newer) < len(traits):
        older = ", ".join(sorted(traits.keys() - newer.keys()))
        turn.note("", "ignored", reason="older", detail=f"traits of which something newer is known: {older}")


def note_told(state: State, names: Iterable[str], at: int) -> None:
    """Keep when these were told, as far as the user has them or had them."""
    for name in names:
        state.told[name] = max(at, state.told.get(name, at))
    removed = [name for name in state.told if name not in state.traits]
    removed.sort(key=state.told.__getitem__)
    for name in removed[: len(removed) - REMOVED] if len(removed) > REMOVED else ():
        del state.told[name]
