"""Where the protocols find the counters: uvicorn makes them itself, and hands them only what the lifespan left."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from handrail.counts import Counts

_KEY = "handrail.counts"


def lend_counts(state: MutableMapping[str, Any], counts: Counts) -> None:
    """Have the protocols of a server count here; `state` is that of its ASGI lifespan."""
    state[_KEY] = counts


def find_counts(state: MutableMapping[str, Any]) -> Counts:
    """The counters that were lent, or new ones where nobody asks."""
    found = state.get(_KEY)
    return found if isinstance(found, Counts) else Counts()
