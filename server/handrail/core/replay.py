"""One user's recorded events lived through again under a rule set, in virtual time.

The engine that runs here is the one that runs live. Between two events the user's alarm rings whenever it falls due,
on the instant. Events of Handrail's own log carry who was connected and looking. Calls recorded elsewhere do not: there
the user is taken to look at a page from the first event of a session until it ends (`present`), to answer no prompt,
and to leave unseen ones without an expiry behind with the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from handrail.core.deadlines import alarm
from handrail.core.effects import Decision
from handrail.core.engine import FOLLOWS, Step, fresh, step
from handrail.core.events import PROMPT_EVENTS, Alarm, Connected, Disconnected, Event, Track
from handrail.core.program import Program

RINGS = 100_000  # alarms between two events; more means that rules keep each other awake for ever
PAGE = "page"


class Entry(Struct, frozen=True, array_like=True):
    """A recorded event of a user. `now` is when it was decided; for one not `logged` by Handrail, when it happened.

    `prompts` maps the ids of prompts that were shown then to their messages. `more`: it was decided with others to
    follow, as from a queue.
    """

    user: str
    now: int
    event: Event
    logged: bool = False
    prompts: dict[str, str] = {}
    more: bool = False


class Lived(Struct, frozen=True):
    """What became of one user: events applied, lines of the trace by (trigger, outcome, reason), prompts of each
    session, prompts `apart` from any session, and webhook calls, e-mails among them."""

    events: int
    duplicates: int
    considered: dict[tuple[str, str, str], int]
    prompts: tuple[int, ...]
    apart: int
    calls: int
    emails: int

    @property
    def reached_by(self) -> set[str]:
        return {trigger for trigger, outcome, _ in self.considered if outcome == "fired"}


def replay(program: Program, entries: Sequence[Entry], *, until: int, present: bool = True) -> Lived:
    """Live through one user's entries, in order of `now`, and on to `until`; `present` as said above."""
    life = _Life(program, entries[0], present=present and not any(entry.logged for entry in entries))
    messages: dict[str, str] = {}
    expected = 0  # until when more is
    for entry in entries:
        if entry.now >= expected:
            life.advance(entry.now, since=expected)
        life.now = max(life.now, entry.now)
        life.meet(_by_message(entry.event, messages), more=entry.more)
        messages |= entry.prompts
        expected = entry.now + FOLLOWS if entry.more else 0
    if until >= expected:
        life.advance(until, since=expected)
    return life.told()


def _by_message(event: Event, messages: dict[str, str]) -> Event:
    """Prompts have ids that only the recorded run knew; the message a prompt showed means the same in every run."""
    if not isinstance(event, Track) or event.name not in PROMPT_EVENTS:
        return event
    identity = event.properties.get("prompt")
    if not isinstance(identity, str) or identity not in messages:
        return event
    kept = {name: value for name, value in event.properties.items() if name != "prompt"}
    return replace(event, properties={**kept, "message": messages[identity]})


class _Life:
    """A user's state on its way through time, and what is counted of it."""

    def __init__(self, program: Program, first: Entry, *, present: bool) -> None:
        self.program = program
        self.present = present
        self.now = first.now
        self.state = fresh(program, first.user, "replay", first.now)
        self.events = self.duplicates = self.apart = self.calls = self.emails = 0
        self.considered: Counter[tuple[str, str, str]] = Counter()
        self.prompts: Counter[str] = Counter()

    def advance(self, until: int, *, since: int = 0) -> None:
        """Let the clock run, ringing every alarm on the way, none before `since`."""
        self.now = max(self.now, since)
        for _ in range(RINGS):
            due = alarm(self.program, self.state)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self._take(Alarm(at=self.now))
            self._leave()
        self.now = max(self.now, until)

    def meet(self, event: Event, *, more: bool) -> None:
        if event.id and event.id in self.state.seen:
            self.duplicates += 1
            return
        if self.present and not self.state.connections:
            self._take(Connected(id="", at=self.now, connection=PAGE, node="replay"))
        self.events += not isinstance(event, Alarm)
        self._take(event, more=more)

    def told(self) -> Lived:
        quiet = self.state.sessions - len(self.prompts)
        prompts = (*self.prompts.values(), *(0 for _ in range(quiet)))
        return Lived(self.events, self.duplicates, dict(self.considered), prompts, self.apart, self.calls, self.emails)

    def _leave(self) -> None:
        session = self.state.session
        if not self.present or not self.state.connections or session is None or not session.ended:
            return
        self._take(Disconnected(id="", at=self.now, connection=PAGE))
        if self.state.prompt is not None and not self.state.prompt.expires:
            self.state.prompt = None

    def _take(self, event: Event, *, more: bool = False) -> None:
        done = step(self.program, self.state, event, self.now, more=more)
        self.state = done.state
        self.state.version += 1
        self._count(done)

    def _count(self, done: Step) -> None:
        for line in done.trace:
            reason = line.reason if line.outcome == "suppressed" else ""
            self.considered[line.trigger, line.outcome, reason] += 1
        for effect in done.effects:
            if isinstance(effect, Decision) and effect.action == "prompt":
                self._count_prompt()
            elif isinstance(effect, Decision) and effect.action == "webhook":
                self.calls += 1
                self.emails += self.program.webhooks[effect.value].channel == "email"

    def _count_prompt(self) -> None:
        session = self.state.session
        if session is None or session.ended:
            self.apart += 1
        else:
            self.prompts[session.id] += 1
