"""States in memory, so that a user who keeps doing things is not loaded each time.

A commit names the version it builds on, so a state that went stale here costs a reload and never a wrong write.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from handrail.core.state import State


class States:
    """States in memory: those held, by count, and the most recently used others."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._holds: Counter[str] = Counter()
        self._held: dict[str, State] = {}
        self._loose: OrderedDict[str, State] = OrderedDict()

    def get(self, user: str) -> State | None:
        held = self._held.get(user)
        if held is None and user in self._loose:
            self._loose.move_to_end(user)
            return self._loose[user]
        return held

    def keep(self, state: State) -> None:
        """Remember a state unless a newer one is known; what lost its data starts over at `drop`."""
        known = self.get(state.user)
        if known is not None and known.epoch == state.epoch and known.version > state.version:
            return
        if self._holds[state.user]:
            self._held[state.user] = state
            return
        del self._holds[state.user]
        self._loose[state.user] = state
        self._loose.move_to_end(state.user)
        if len(self._loose) > self._kept:
            self._loose.popitem(last=False)

    def drop(self, user: str) -> None:
        self._held.pop(user, None)
        self._loose.pop(user, None)

    def hold(self, user: str) -> None:
        self._holds[user] += 1
        if user in self._loose:
            self._held[user] = self._loose.pop(user)

    def release(self, user: str) -> None:
        self._holds[user] -= 1
        if self._holds[user] <= 0:
            del self._holds[user]
            state = self._held.pop(user, None)
            if state is not None:
                self.keep(state)
