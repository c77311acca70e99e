"""The working area of one `step`: a forked state, and what has been decided so far.

Trigger kinds and actions act through a Turn and nothing else. It queues what happened (occurrences), numbers what is
pushed, and notes what was touched, so that only the segments that read it are evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from handrail.core import counters
from handrail.core.effects import Call, Considered, Decision, Effect, Push
from handrail.core.expressions import Expression
from handrail.core.frames import Block, Content, Prompt, Survey, Withdraw
from handrail.core.messages import Message, render
from handrail.core.policy import remember
from handrail.core.scope import NOTHING, Occurrence, Scope, iso
from handrail.core.state import TRAITS_MAX, FlowChoice, OnScreen, State, Wait
from handrail.core.surveys import pose

if TYPE_CHECKING:
    from handrail.core.program import Program

WAITS = 200  # pending delays and snoozes of one user; the ones due last give way
DEPTH = 8  # how many emits may lead to one another
EMITS = 100  # events that rules may emit within one step


class Turn:
    __slots__ = (
        *("_scope", "at_work", "changed", "effects", "emitted", "late", "now", "occurrences", "program", "progressed"),
        *("reason", "state", "told", "touched", "trace"),
    )

    def __init__(self, program: Program, state: State, now: int) -> None:
        self.program = program
        self.state = state
        self.now = now
        self.at_work = ""  # the trigger that is being evaluated, for whoever has to tell which one raised
        self.effects: list[Effect] = []
        self.trace: list[Considered] = []
        self.occurrences: list[Occurrence] = []
        self.touched: set[str] = set()  # since the segments were last settled
        self.changed: set[str] = set()  # since the flow was last assembled
        self.late = False
        self.emitted = 0
        self.told = state.flow  # the flow as the user's pages show it
        self.progressed = False  # a step of it was viewed, completed or skipped
        self.reason = ""  # why the flow changes, where a rule or the user chose
        self._scope: Scope | None = None  # as last asked for: many conditions look at the same event

    # --- reading ---

    def scope(self, occurrence: Occurrence = NOTHING) -> Scope:
        scope = self._scope
        if scope is None or scope.event is not occurrence or scope.state is not self.state:
            program = self.program
            scope = self._scope = Scope(
                self.state, program.counters, occurrence, self.now, attributes=program.attributes
            )
        return scope

    def holds(self, condition: Expression | None, occurrence: Occurrence = NOTHING) -> bool:
        return condition is None or condition.holds(self.scope(occurrence))[0]

    # --- happenings ---

    def happen(self, occurrence: Occurrence) -> None:
        """Queue an occurrence for the triggers it may wake, after counting it."""
        self.occurrences.append(occurrence)
        for counter in self.program.counters_by_event.get(occurrence.keys[0], ()):
            self.count(counter, occurrence)

    def server_event(self, name: str, *keys: str, at: int | None = None, **properties: Any) -> None:
        """Queue an event of the server's making that happened at `at`, or now."""
        happened = self.now if at is None else at
        self.happen(
            Occurrence(
                keys=(f"event:{name}", *keys),
                name=name,
                at=happened,
                properties=properties,
                late=self.late,
                ordinal=self.state.tracked,
            )
        )

    def count(self, counter: counters.Counter, occurrence: Occurrence) -> bool:
        """Count the occurrence; True if it qualified."""
        value = self.counted(counter, occurrence)
        if value is None:
            return False
        tally = counters.add(counter, self.state, at=occurrence.at, value=value)
        self.state.counters[counter.name] = counters.prune(counter, tally, now=self.now)
        self.touched.add(f"user.counters.{counter.name}")
        return True

    def counted(self, counter: counters.Counter, occurrence: Occurrence) -> str | None:
        """What a counter tells the occurrence apart by ("" if by nothing), or None where it does not qualify."""
        scope = self.scope(occurrence)
        if counter.where is not None and not counter.where.holds(scope)[0]:
            return None
        if counter.distinct is None:
            return ""
        outcome = counter.distinct.evaluate(scope)
        return None if outcome.error is not None or outcome.value is None else str(outcome.value)

    def emit(self, name: str, properties: dict[str, Any], cause: Occurrence) -> bool:
        """Queue an event of the rules' own making; False when emits have led to one another too often."""
        if cause.depth >= DEPTH or self.emitted >= EMITS:
            return False
        self.emitted += 1
        self.happen(
            Occurrence(
                keys=(f"event:{name}",),
                name=name,
                at=self.now,
                properties=properties,
                late=cause.late,
                depth=cause.depth + 1,
                apart=True,
                ordinal=self.state.tracked,
            )
        )
        return True

    # --- profile ---

    def set_traits(self, traits: Mapping[str, Any]) -> None:
        """Set traits (None removes); a trait that really changes is an occurrence `changes:traits.NAME`."""
        for name, value in traits.items():
            before = self.state.traits.get(name)
            if before == value and type(before) is type(value):
                continue
            if value is None:
                self.state.traits.pop(name, None)
            elif name in self.state.traits or len(self.state.traits) < TRAITS_MAX:
                self.state.traits[name] = value
            else:
                self.note("", "ignored", reason="full", detail=f"trait '{name}': a user has {TRAITS_MAX} at most")
                continue
            self._trait_changed(name, before, value)

    def locate(self, location: dict[str, str] | None, device: dict[str, str] | None, at: int) -> None:
        """Where and on what the user is. One that only repeats a part of what is known leaves the rest of it known."""
        state = self.state
        if at < state.learnt or not (location or device):
            return
        state.learnt = at
        if location and not location.items() <= state.location.items():
            state.location = location
            self.touched.add("user.location")
        if device and not device.items() <= state.device.items():
            state.device = device
            self.touched.add("user.device")

    def _trait_changed(self, name: str, before: Any, value: Any) -> None:
        self.touched.add("user.traits")
        self.occurrences.append(
            Occurrence(
                keys=(f"changes:traits.{name}",),
                name="trait_changed",
                at=self.now,
                properties={"trait": name, "from": before, "to": value},
                late=self.late,
            )
        )

    # --- what the user sees ---

    def next_offset(self) -> int:
        self.state.offset += 1
        return self.state.offset

    def show(self, message: Message, trigger: str, occurrence: Occurrence) -> str | None:
        """Put a message on the screen and return the variant chosen. Raises TemplateFault."""
        rendered = render(message, self.scope(occurrence))
        survey = self.pose(message.survey)
        self.withdraw("preempted")  # whatever is there: the arbiter let this one through
        offset = self.next_offset()
        expires = self.now + message.expires if message.expires else 0
        prompt = Prompt(
            offset=offset,
            id=f"{self.state.epoch}-{offset}",
            message=message.name,
            kind=message.kind,
            title=rendered.title,
            body=rendered.body,
            actions=rendered.actions,
            anchor=rendered.anchor,
            style=rendered.style,
            expires_at=iso(expires) if expires else None,
            trigger=trigger,
            variant=rendered.variant,
            survey=survey,
        )
        self.state.prompt = OnScreen(prompt, expires)
        self.effects.append(Push(prompt))
        return rendered.variant

    def pose(self, name: str) -> Survey | None:
        """The survey of this name as it stands for the user. Raises TemplateFault."""
        survey = self.program.surveys.get(name)
        return pose(survey, self.scope(), self.state.answers.get(name, {})) if survey else None

    def withdraw(self, reason: str) -> None:
        """Take the prompt on the screen off it, everywhere."""
        if self.state.prompt is None:
            return
        prompt = self.state.prompt.prompt
        self.state.prompt = None
        self.effects.append(Push(Withdraw(offset=self.next_offset(), id=prompt.id, reason=reason)))

    def expire(self) -> None:
        """Take the prompt off if its time is over by now: nobody sees it, whatever is still being caught up."""
        shown = self.state.prompt
        if shown is not None and shown.expires and shown.expires <= self.now:
            self.withdraw("expired")

    def fill(self, slot: str, message: Message | None, occurrence: Occurrence) -> str | None:
        """Fill (or empty) a content slot and return the variant chosen. Raises TemplateFault."""
        if message is None:
            if self.state.slots.pop(slot, None) is not None:
                self.effects.append(Push(Content(offset=self.next_offset(), slot=slot, block=None)))
            return None
        rendered = render(message, self.scope(occurrence))
        block = Block(
            message=message.name,
            title=rendered.title,
            body=rendered.body,
            actions=rendered.actions,
            style=rendered.style,
            variant=rendered.variant,
        )
        if self.state.slots.get(slot) != block:
            self.state.slots[slot] = block
            self.effects.append(Push(Content(offset=self.next_offset(), slot=slot, block=block)))
        return rendered.variant

    def choose_flow(self, flow: str, variant: str | None, reason: str) -> None:
        """Put the user on a flow; with a variant it stays until chosen again."""
        self.state.flow = FlowChoice(flow, variant, (), -1, variant is not None)
        self.changed.add("user.steps")
        self.reason = reason

    # --- what follows ---

    def arm(self, wait: Wait) -> None:
        """Have something happen later."""
        self.state.waits = tuple(sorted((*self.state.waits, wait), key=lambda each: each.due)[:WAITS])

    def call(self, webhook: str, body: Any, trigger: str) -> None:
        """Have a webhook called; the message id is unique over all users and all time."""
        self.state.calls += 1
        call_id = f"msg_{self.state.epoch}_{self.state.calls}"
        self.effects.append(Call(id=call_id, webhook=webhook, body=body, trigger=trigger, at=self.now))

    def decide(self, trigger: str, action: str, value: Any, *, variant: str | None = None) -> None:
        self.effects.append(Decision(trigger=trigger, action=action, value=value, variant=variant))

    def note(self, trigger: str, outcome: str, *, reason: str = "", detail: str = "", until: int | None = None) -> None:
        self.trace.append(Considered(trigger=trigger, outcome=outcome, reason=reason, detail=detail, until=until))

    def remember_prompt(self) -> None:
        self.state.prompted = remember(self.state.prompted, self.now, self.program.policy.remembered)

    def remember_email(self) -> None:
        self.state.mailed = remember(self.state.mailed, self.now, self.program.policy.remembered)
