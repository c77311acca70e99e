"""The names that rule files define, as the compiler asks for them.

What was asked is remembered: what was compiled stays good under other names as long as they would answer the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

Within = tuple[str, ...]  # names within a name, such as a flow's variants


class Told(Struct, frozen=True):
    """What was asked of the names of one kind, with the answers (None: no such name); the `whole` of them or some."""

    names: Mapping[str, Within | None]
    whole: bool

    def holds(self, names: Mapping[str, Within]) -> bool:
        """Whether these names would have answered the same."""
        if self.whole:
            return self.names == names
        return all(names.get(name) == answer for name, answer in self.names.items())


class Known(Mapping[str, Within]):
    """The names of one kind."""

    __slots__ = ("_asked", "_names", "_whole")

    def __init__(self, names: Mapping[str, Within]) -> None:
        self._names = names
        self._asked: dict[str, Within | None] = {}
        self._whole = False

    def __getitem__(self, name: str) -> Within:
        self._asked[name] = self._names.get(name)
        return self._names[name]

    def __iter__(self) -> Iterator[str]:
        self._whole = True
        return iter(self._names)

    def __len__(self) -> int:
        self._whole = True
        return len(self._names)

    def told(self) -> Told:
        return Told(self._names, whole=True) if self._whole else Told(self._asked, whole=False)


class Names:
    """Every name the rule files define."""

    __slots__ = ("_kinds", "counters", "flows", "messages", "personas", "segments", "surveys", "webhooks")

    def __init__(self, kinds: Mapping[str, Mapping[str, Within]]) -> None:
        self._kinds = {kind: Known(names) for kind, names in kinds.items()}
        self.messages = self._kinds["message"]
        self.segments = self._kinds["segment"]
        self.counters = self._kinds["counter"]
        self.webhooks = self._kinds["webhook"]
        self.flows = self._kinds["flow"]
        self.surveys = self._kinds["survey"]
        self.personas = self._kinds["persona"]

    def told(self) -> dict[str, Told]:
        """What was asked, by kind."""
        return {kind: known.told() for kind, known in self._kinds.items()}

    def flow_choices(self) -> list[str]:
        return [*self.flows, *(f"{flow}/{variant}" for flow, variants in self.flows.items() for variant in variants)]
