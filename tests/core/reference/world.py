"""What is known of the user at an instant: everything that happened, and what is to be read off it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reference.conditions import holds, value
from reference.history import Fact, Shown, Visit
from reference.spans import length

NOTHING = Fact(0, 0, "", {})


@dataclass
class World:
    documents: list[dict[str, Any]]
    now: int
    first_seen: int
    log: list[Fact] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    activity: list[tuple[int, int]] = field(default_factory=list)  # (told at, active at)
    looks: list[tuple[int, bool]] = field(default_factory=list)  # from then on a tab was visible, or none
    tabs: dict[str, bool] = field(default_factory=dict)  # connected → visible
    traits: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    segments: set[str] = field(default_factory=set)
    screen: Shown | None = None

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self.documents if next(iter(document)) == kind]

    def named(self, kind: str, name: str) -> dict[str, Any]:
        return next(document for document in self.kind(kind) if document[kind] == name)

    @property
    def policy(self) -> dict[str, Any]:
        return next(iter(self.kind("policy")), {})

    def session_limit(self, key: str) -> int:
        return length(self.policy.get("session", {}).get(key, {"idle": "30m", "max": "24h", "active": "2m"}[key]))

    # --- sessions ---

    @property
    def visit(self) -> Visit | None:
        """The session that is open."""
        return self.visits[-1] if self.visits and self.visits[-1].ended is None else None

    @property
    def visit_over(self) -> int | None:
        """When the open session is over unless something is done before."""
        if self.visit is None:
            return None
        return min(self.visit.last + self.session_limit("idle"), self.visit.start + self.session_limit("max"))

    @property
    def last_activity(self) -> int | None:
        return max((at for _, at in self.activity), default=None)

    @property
    def is_looking(self) -> bool:
        return any(self.tabs.values())

    # --- counters and segments ---

    def counter(self, name: str) -> int:
        document = self.named("counter", name)
        return self.count(document["of"], document, self.log)

    def count(self, event: str, form: dict[str, Any], log: list[Fact]) -> int:
        """How many of these facts are in the form's window now, or how many different values they have."""
        counted = [fact for fact in log if fact.name == event and self.is_in(form, fact)]
        counted = [fact for fact in counted if holds(form.get("where"), self, fact)]
        if "distinct" not in form:
            return len(counted)
        values = [value(form["distinct"], self, fact) for fact in counted]
        return len({str(each[1]) for each in values if each is not None})

    def is_in(self, window: dict[str, Any], fact: Fact) -> bool:
        if "within" in window:
            return fact.at > self.now - length(window["within"])
        if "first" in window:
            return fact.at < self.first_seen + length(window["first"])
        if "over" in window:
            return bool(self.visits) and fact.at >= self.visits[-1].start
        return True

    def members(self) -> set[str]:
        """The segments the user belongs to by what their conditions say now."""
        return {each["segment"] for each in self.kind("segment") if holds(each["if"], self, NOTHING)}
