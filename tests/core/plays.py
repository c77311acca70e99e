"""One user under a rule set, on a clock that only the test moves; alarms ring when they fall due."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from textwrap import dedent
from typing import Any, TypeVar

from handrail.core import frames
from handrail.core.durations import parse_duration
from handrail.core.effects import Call, Considered, Decision, Effect, Push
from handrail.core.engine import alarm, fresh, step
from handrail.core.events import Activity, Alarm, Connected, Consent, Disconnected, Event, Identify, Track
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.core.state import dump_state, load_state

START = 1_767_603_600_000  # 2026-01-05T09:00:00Z, a Monday

Frame = TypeVar("Frame", frames.Prompt, frames.Withdraw, frames.Content, frames.Flow)


def compiled(text: str, environ: Mapping[str, str] | None = None) -> Program:
    """The program of rules that have no faults."""
    loaded = load({"rules.yaml": dedent(text)}, environ or {})
    assert loaded.program is not None, "\n".join(map(str, loaded.problems))
    return loaded.program


class Play:
    """`track` and its siblings, and `wait`, return what was decided, as `prompt help`, in order.

    What else came of it gathers in `frames`, `calls`, `trace` until `clear`.
    """

    def __init__(self, rules: str, *, connected: bool = True, environ: Mapping[str, str] | None = None) -> None:
        self.program = compiled(rules, environ)
        self.now = START
        self.state = fresh(self.program, "u-1", "e1", self.now)
        self.ids = count(1)
        self.frames: list[frames.Numbered] = []
        self.calls: list[Call] = []
        self.trace: list[Considered] = []
        if connected:
            self.connect()

    # --- what the user does ---

    def track(self, name: str, *, ago: str = "0s", event_id: str = "", **properties: Any) -> list[str]:
        return self.take(Track(id=event_id or self.next_id(), name=name, at=self.before(ago), properties=properties))

    def identify(self, *, ago: str = "0s", context: dict[str, Any] | None = None, **traits: Any) -> list[str]:
        return self.take(Identify(id=self.next_id(), at=self.before(ago), traits=traits, context=context or {}))

    def consent(self, **purposes: bool) -> list[str]:
        return self.take(Consent(id=self.next_id(), at=self.now, purposes=purposes))

    def connect(self, tab: str = "one", *, visible: bool = True, idle: str = "0s", node: str = "n1") -> list[str]:
        event = Connected(
            id=self.next_id(), at=self.now, connection=tab, node=node, visible=visible, idle_ms=parse_duration(idle)
        )
        return self.take(event)

    def disconnect(self, tab: str = "one") -> list[str]:
        return self.take(Disconnected(id=self.next_id(), at=self.now, connection=tab))

    def activity(self, tab: str = "one", *, visible: bool = True, idle: str = "0s") -> list[str]:
        event = Activity(id=self.next_id(), at=self.now, connection=tab, visible=visible, idle_ms=parse_duration(idle))
        return self.take(event)

    def hide(self, tab: str = "one") -> list[str]:
        return self.activity(tab, visible=False)

    # --- what time and the team do ---

    def wait(self, span: str) -> list[str]:
        """Let the time pass, ringing every alarm on its instant."""
        until, decided = self.now + parse_duration(span), []
        while (due := alarm(self.program, self.state)) is not None and due <= until:
            self.now = max(self.now, due)
            decided += self.take(Alarm(at=self.now))
            following = alarm(self.program, self.state)
            assert following is None or following > self.now, "an alarm that rang is still due"
        self.now = until
        return decided

    def sleep(self, span: str) -> list[str]:
        """Let the time pass with no server there, then ring once."""
        self.now += parse_duration(span)
        return self.take(Alarm(at=self.now))

    def reload(self, rules: str) -> list[str]:
        self.program = compiled(rules)
        return self.take(Alarm(at=self.now))

    def restart(self) -> None:
        """As a process does that reads the state back from the store."""
        self.state = load_state(dump_state(self.state), dict(self.state.seen))

    # --- stepping and looking ---

    def take(self, event: Event) -> list[str]:
        done = step(self.program, self.state, event, self.now)
        self.state = done.state
        self.state.version += 1
        self.trace += done.trace
        self.frames += [effect.frame for effect in done.effects if isinstance(effect, Push)]
        self.calls += [effect for effect in done.effects if isinstance(effect, Call)]
        return decisions(done.effects)

    def next_id(self) -> str:
        return f"id-{next(self.ids)}"

    def before(self, ago: str) -> int:
        return self.now - parse_duration(ago)

    def pushed(self, kind: type[Frame]) -> list[Frame]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def held_back(self) -> list[str]:
        """`trigger: reason` of every suppression, oldest first."""
        return [f"{line.trigger}: {line.reason}" for line in self.trace if line.outcome == "suppressed"]

    def clear(self) -> None:
        self.frames, self.calls, self.trace = [], [], []

    @property
    def due_in(self) -> int | None:
        """Milliseconds until the alarm rings."""
        due = alarm(self.program, self.state)
        return None if due is None else due - self.now

    @property
    def on_screen(self) -> str | None:
        return self.state.prompt.prompt.message if self.state.prompt else None


def decisions(effects: tuple[Effect, ...]) -> list[str]:
    return [f"{effect.action} {effect.value}" for effect in effects if isinstance(effect, Decision)]
