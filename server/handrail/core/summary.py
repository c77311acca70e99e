"""What a replay came to, over all users: sums that are the same in whichever order users are added."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from handrail.core.program import Program
from handrail.core.replay import Lived

EXAMPLES = 5  # users named of those a trigger gained or lost


class Count(Struct):
    users: int = 0
    times: int = 0

    def add(self, other: Count) -> None:
        self.users += other.users
        self.times += other.times


class Reach(Struct):
    """What became of one trigger: suppressions by reason, everything else by outcome, both as the trace names them."""

    outcomes: dict[str, Count] = field(default_factory=dict)
    suppressed: dict[str, Count] = field(default_factory=dict)

    @property
    def fired(self) -> Count:
        return self.outcomes.get("fired", Count())

    def count(self, outcome: str, reason: str, times: int) -> None:
        counts, name = (self.suppressed, reason) if outcome == "suppressed" else (self.outcomes, outcome)
        counts.setdefault(name, Count()).add(Count(1, times))

    def merge(self, other: Reach) -> None:
        for into, counts in ((self.outcomes, other.outcomes), (self.suppressed, other.suppressed)):
            for name, count in counts.items():
                into.setdefault(name, Count()).add(count)

    def rows(self) -> dict[str, Count]:
        """All that happened, by what to call it: first what fired, then what did not."""
        held = {f"suppressed: {reason}": count for reason, count in sorted(self.suppressed.items())}
        others = {outcome: count for outcome, count in sorted(self.outcomes.items()) if outcome != "fired"}
        return {**({"fired": self.fired} if self.fired.times else {}), **held, **others}


class Summary(Struct):
    """One rule set over all users. `prompts` maps how many a session had to sessions, `emails` how many a user got to
    users; `apart` are prompts decided while no session was open. Under the trigger "" stands what is about no single
    one."""

    users: int = 0
    events: int = 0
    duplicates: int = 0
    triggers: dict[str, Reach] = field(default_factory=dict)
    prompts: dict[int, int] = field(default_factory=dict)
    apart: int = 0
    calls: int = 0
    emails: dict[int, int] = field(default_factory=dict)

    @property
    def sessions(self) -> int:
        return sum(self.prompts.values())

    def add(self, lived: Lived) -> None:
        self.users += 1
        self.events += lived.events
        self.duplicates += lived.duplicates
        self.apart += lived.apart
        self.calls += lived.calls
        _add_all(self.emails, {lived.emails: 1})
        for number in lived.prompts:
            _add_all(self.prompts, {number: 1})
        for trigger, outcomes in _by_trigger(lived).items():
            reach = self.triggers.setdefault(trigger, Reach())
            for (outcome, reason), times in outcomes.items():
                reach.count(outcome, reason, times)

    def merge(self, other: Summary) -> None:
        self.users += other.users
        self.events += other.events
        self.duplicates += other.duplicates
        self.apart += other.apart
        self.calls += other.calls
        _add_all(self.emails, other.emails)
        _add_all(self.prompts, other.prompts)
        for trigger, reach in other.triggers.items():
            self.triggers.setdefault(trigger, Reach()).merge(reach)

    def settle(self, program: Program) -> Summary:
        """The same with its parts in order: triggers as in the rule files, those never considered among them."""
        named = [*program.triggers, *([""] if "" in self.triggers else [])]
        triggers = {name: self.triggers.get(name, Reach()) for name in named}
        return Summary(
            **{name: getattr(self, name) for name in ("users", "events", "duplicates", "apart", "calls")},
            triggers=triggers,
            prompts=dict(sorted(self.prompts.items())),
            emails=dict(sorted(self.emails.items())),
        )


class Shift(Struct):
    """Users a trigger reaches under one rule set and not under the other; a few of each by id, in order of id."""

    gained: int = 0
    lost: int = 0
    gained_users: tuple[str, ...] = ()
    lost_users: tuple[str, ...] = ()

    def add(self, other: Shift) -> None:
        self.gained += other.gained
        self.lost += other.lost
        self.gained_users = tuple(sorted((*self.gained_users, *other.gained_users))[:EXAMPLES])
        self.lost_users = tuple(sorted((*self.lost_users, *other.lost_users))[:EXAMPLES])


def compare(user: str, lived: Lived, before: Lived) -> dict[str, Shift]:
    """What a user gained and lost, by trigger."""
    now, then = lived.reached_by, before.reached_by
    gained = {trigger: Shift(gained=1, gained_users=(user,)) for trigger in now - then}
    return gained | {trigger: Shift(lost=1, lost_users=(user,)) for trigger in then - now}


def merge_shifts(into: dict[str, Shift], shifts: Mapping[str, Shift]) -> None:
    for trigger, shift in shifts.items():
        into.setdefault(trigger, Shift()).add(shift)


def quantile(numbers: Mapping[int, int], share: float) -> int:
    """The least number that at least this share of those counted does not exceed; 0 where nothing was counted."""
    wanted, passed = share * sum(numbers.values()), 0
    for number, times in sorted(numbers.items()):
        passed += times
        if passed >= wanted:
            return number
    return 0


def _by_trigger(lived: Lived) -> dict[str, dict[tuple[str, str], int]]:
    found: dict[str, dict[tuple[str, str], int]] = {}
    for (trigger, outcome, reason), times in lived.considered.items():
        found.setdefault(trigger, {})[outcome, reason] = times
    return found


def _add_all(into: dict[int, int], numbers: Mapping[int, int]) -> None:
    for number, times in numbers.items():
        into[number] = into.get(number, 0) + times
