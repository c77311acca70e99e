"""A compiled rule set: immutable, and indexed so that an event costs what concerns it, not what there is."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, TypeVar

from msgspec import Struct

from handrail.core.actions import Action, ShowPrompt, WithdrawPrompt
from handrail.core.counters import Counter
from handrail.core.durations import Limit
from handrail.core.effects import Considered
from handrail.core.expressions import Expression
from handrail.core.flows import Flow
from handrail.core.messages import Message
from handrail.core.personas import Personas
from handrail.core.policy import Policy
from handrail.core.reentry import Reentry
from handrail.core.state import FlowChoice, Tally
from handrail.core.surveys import Survey
from handrail.core.templates import Nested
from handrail.core.triggers import Hook, OnAbsence, OnAway, OnDelay, OnDwell, OnFall, OnIdle, OnSequence
from handrail.core.webhooks import Webhook

Key = TypeVar("Key", bound=Hashable)


class Cancel(Struct, frozen=True):
    """An event that ends what a trigger waits for: its pending waits and its begun sequences."""

    trigger: str
    where: Expression | None


class Trigger(Struct, frozen=True):
    """A rule. `rank` sorts: priority first, then the order of files and documents; `rule` is its fingerprint.

    `on_change` is what becomes of pending waits when the rule changes: finish, restart or cancel.
    """

    name: str
    rank: tuple[int, str, int]
    rule: str
    hooks: tuple[Hook, ...]
    condition: Expression | None
    actions: tuple[Action, ...]
    limits: tuple[Limit, ...] = ()
    cooldown: int = 0
    cancels: tuple[tuple[str, Cancel], ...] = ()  # (wake key, what to cancel)
    on_change: str = "finish"
    preempt: bool = False
    reentry: Reentry | None = None
    defer: int = 0  # how long cap, gap and busy may put it off; milliseconds
    unmet: Considered = Considered(trigger="", outcome="")  # what the trace says where the condition does not hold
    prompts: bool = False
    reaches_user: bool = False  # with any of its actions
    webhooks: tuple[str, ...] = ()  # that it calls

    @property
    def enters_at_once(self) -> bool:
        """Whether any of its forms has nothing to wait for: its coming true is an entry."""
        return any(not isinstance(hook, OnDelay | OnAbsence) for hook in self.hooks)

    @property
    def remembered(self) -> int:
        """How many of its firings the state must keep to judge limits and cooldown."""
        return max([limit.count for limit in self.limits]) if self.limits else 1

    @property
    def begins(self) -> list[str]:
        """Where the attempts at its sequences are remembered."""
        return [hook.name for hook in self.hooks if isinstance(hook, OnSequence)]

    def falling(self, counters: Mapping[str, Tally]) -> list[str]:
        """The tallies of its counts that wait to fall."""
        hooks = (hook for hook in self.hooks if isinstance(hook, OnFall) and hook.counter.name in counters)
        return [hook.counter.name for hook in hooks if hook.due(counters[hook.counter.name]) is not None]

    def clears(self, message: str) -> bool:
        """Whether the trigger itself takes this message off the screen before it prompts."""
        first = takewhile(lambda action: not isinstance(action, ShowPrompt), self.actions)
        return any(isinstance(action, WithdrawPrompt) and action.message == message for action in first)


Spans = tuple[tuple[int, Trigger], ...]


class Segment(Struct, frozen=True):
    name: str
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class Program:
    """All compiled rules. `version` is a hash of what they were compiled from.

    `hooks` maps a wake key to the hooks it may wake, each with its trigger. `segments` are in dependency order, the
    choice of a persona among them, and `segments_reading` maps what they read (`user.traits`, `user.counters.NAME`,
    `user.segments.NAME`, `user.persona`, `now`) to their indexes. `away` is (length in ms, trigger) sorted by length;
    `idle` the same by step ("" for any) and whether hidden tabs count, `dwell` by step. `watched` are the sliding
    counters that segments read: their falling by time alone is a deadline. So is that of the counts in `falling`, by
    the name of their tally. `ticking` are the conditions that read the clock: of segments and personas under "", of
    flows by their name. Triggers that are `off` are left out of all decisions.
    """

    version: str = ""
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    hooks: Mapping[str, tuple[tuple[Trigger, Hook], ...]] = field(default_factory=dict)
    cancels: Mapping[str, tuple[Cancel, ...]] = field(default_factory=dict)
    idle: Mapping[tuple[str, bool], Spans] = field(default_factory=dict)
    dwell: Mapping[str, Spans] = field(default_factory=dict)
    away: Spans = ()
    falling: Mapping[str, tuple[Trigger, OnFall]] = field(default_factory=dict)
    segments: tuple[Segment | Personas, ...] = ()
    segments_reading: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    counters: Mapping[str, Counter] = field(default_factory=dict)
    counters_by_event: Mapping[str, tuple[Counter, ...]] = field(default_factory=dict)
    watched: Mapping[str, Counter] = field(default_factory=dict)
    attributes: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # of each persona
    ticking: Mapping[str, tuple[Expression, ...]] = field(default_factory=dict)
    messages: Mapping[str, Message] = field(default_factory=dict)
    flows: Mapping[str, Flow] = field(default_factory=dict)
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    bodies: Mapping[str, Nested] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    off: frozenset[str] = frozenset()

    def flow_of(self, choice: FlowChoice | None) -> Flow | None:
        """The flow the user is on; the first of the rule files for one who was never put on any that still exists."""
        if choice is not None and choice.id in self.flows:
            return self.flows[choice.id]
        return next(iter(self.flows.values()), None)

    def mails(self, trigger: Trigger) -> bool:
        return bool(trigger.webhooks) and any(self.webhooks[name].channel == "email" for name in trigger.webhooks)


def next_span(spans: Spans, done: int) -> int | None:
    """The shortest length beyond what was dealt with, of triggers sorted by length."""
    index = bisect_right(spans, done, key=lambda each: each[0])
    return spans[index][0] if index < len(spans) else None


def index_idle(triggers: list[Trigger]) -> dict[tuple[str, bool], Spans]:
    return _sorted(
        ((hook.step, hook.hidden), hook.span, trigger)
        for trigger in triggers
        for hook in trigger.hooks
        if isinstance(hook, OnIdle)
    )


def index_dwell(triggers: list[Trigger]) -> dict[str, Spans]:
    return _sorted(
        (hook.step, hook.span, trigger) for trigger in triggers for hook in trigger.hooks if isinstance(hook, OnDwell)
    )


def index_away(triggers: list[Trigger]) -> Spans:
    pairs = (("", hook.span, trigger) for trigger in triggers for hook in trigger.hooks if isinstance(hook, OnAway))
    return _sorted(pairs).get("", ())


def index_falling(triggers: list[Trigger]) -> dict[str, tuple[Trigger, OnFall]]:
    pairs = ((trigger, hook) for trigger in triggers for hook in trigger.hooks if isinstance(hook, OnFall))
    return {hook.counter.name: (trigger, hook) for trigger, hook in pairs}


def _sorted(entries: Iterable[tuple[Key, int, Trigger]]) -> dict[Key, Spans]:
    """The lengths by key, each with its trigger, sorted by length."""
    spans: defaultdict[Key, list[tuple[int, Trigger]]] = defaultdict(list)
    for key, span, trigger in entries:
        spans[key].append((span, trigger))
    return {key: tuple(sorted(each, key=lambda pair: (pair[0], pair[1].rank))) for key, each in spans.items()}
