"""What patterns of events remember of a user between one event and the next: a few integers for each key.

A pattern's `key` tells apart what belongs together (this cart, this workspace); one without has the single key "".
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from handrail.core.expressions import Expression
from handrail.core.scope import Occurrence
from handrail.core.state import Memory, State
from handrail.core.turn import Turn

KEYS = 20  # keys that one pattern remembers of one user, the latest
LONGEST = 64  # characters of a key kept as it is; a longer one is known by its hash


def key_of(turn: Turn, expression: Expression | None, occurrence: Occurrence) -> str | None:
    """The key of an event, or None if it has none: then it is no part of the pattern."""
    if expression is None:
        return ""
    outcome = expression.evaluate(turn.scope(occurrence))
    if outcome.error is not None or outcome.value is None:
        return None
    text = msgspec.json.encode(_plain(outcome.value), order="deterministic")
    return text.decode() if len(text) <= LONGEST else blake2b(text, digest_size=16).hexdigest()


def recall(state: State, name: str, key: str) -> tuple[int, ...]:
    """What the pattern `name` (TRIGGER#INDEX) remembers under the key; nothing if it never met it."""
    memory = state.memory.get(name)
    return () if memory is None else memory.marks.get(key, ())


def remember(state: State, name: str, rule: str, key: str, marks: tuple[int, ...], *, keys: int = KEYS) -> None:
    """Keep this under the key, or nothing (empty `marks`); beyond `keys` the one longest untouched is forgotten."""
    before = state.memory.get(name) or Memory(rule)
    kept = {each: value for each, value in before.marks.items() if each != key}
    if marks:
        kept[key] = marks
        for each in list(kept)[: len(kept) - keys] if len(kept) > keys else ():
            del kept[each]
    if kept:
        state.memory[name] = Memory(before.rule, kept)
    else:
        state.memory.pop(name, None)


def _plain(value: Any) -> Any:
    """JSON knows one kind of number, so 3 and 3.0 are one key."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
