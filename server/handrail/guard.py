"""Between the runner and the core: what cannot be evaluated is left out or set aside, and everything else goes on.

A trigger that raises is left out of this one decision; one that goes on raising is switched off in this process until
the rules change. An event that raises though no trigger is to blame is tried again on the spot and then set aside. So
is one that processes died of, time and again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from traceback import extract_tb

import msgspec
import structlog

from handrail.core import engine
from handrail.core.engine import Step
from handrail.core.events import Event
from handrail.core.explain import Explanation, explain, own_up
from handrail.core.program import Program, Trigger
from handrail.core.state import State
from handrail.core.turn import Turn
from handrail.counts import Counts
from handrail.store.keys import bucket_of
from handrail.suspects import Mark, Suspects, mark_of

TRIES = 3  # of an event that raises, and crashes an event may cause
USER_CRASHES = 6  # while deciding for one user, whatever the event: time passing may be what kills
FAILURES = 5  # of a trigger WITHIN this many milliseconds before it is switched off
WITHIN = 60_000
VERSIONS = 4  # of rules whose switched-off triggers are remembered

log = structlog.get_logger(__name__)


class SetAside(Exception):
    """The event cannot be decided; the text says why."""


class Guard:
    """Of one process. Without `suspects` nobody counts the crashes."""

    def __init__(self, counts: Counts | None = None, suspects: Suspects | None = None) -> None:
        self._counts = counts or Counts()
        self._suspects = suspects
        self._failures: dict[tuple[str, str], deque[int]] = {}
        self._reduced: dict[str, Program] = {}  # by version

    def rules(self, program: Program) -> Program:
        """The rules without those that are switched off."""
        return self._reduced.get(program.version, program)

    def switched_off(self, program: Program) -> list[str]:
        """The triggers that are left out of all decisions, by name."""
        return sorted(self.rules(program).off)

    def explain(self, program: Program, state: State, trigger: Trigger, now: int) -> Explanation:
        """As `core.explain`, of rules as they are decided by: what raises is left out. It is not counted as a failure:
        looking changes nothing."""
        rules = self.rules(program)
        switched_off = trigger.name in rules.off
        try:
            told = explain(replace(rules, off=rules.off - {trigger.name}), state, trigger, now, step=_step_around)
        except Exception as fault:  # the rim of the core, as below
            return _own_up(rules, state, trigger, now, fault)
        if not switched_off:
            return told
        why = "switched off until the rules change, for it kept raising errors; the server's log says which"
        return msgspec.structs.replace(told, verdict="off", detail=why)

    def step(self, program: Program, state: State, event: Event, now: int, *, more: bool = False) -> Step:
        """As `engine.step`, without the triggers that raise. Raises SetAside."""
        program = self.rules(program)
        if self._suspects is None:
            return self._step(program, state, event, now, more=more)
        mark = mark_of(program.version, state.user, event.id or type(event).__name__)
        self._check(self._suspects, mark)
        self._suspects.enter(mark)
        try:
            return self._step(program, state, event, now, more=more)
        finally:
            self._suspects.leave()

    def _check(self, suspects: Suspects, mark: Mark) -> None:
        strikes = suspects.strikes(mark)
        if strikes.event >= TRIES:
            raise SetAside(f"a process died each of the {strikes.event} times that it was tried")
        if strikes.user >= USER_CRASHES:
            raise SetAside(f"a process died {strikes.user} times while deciding for this user")

    def _step(self, program: Program, state: State, event: Event, now: int, *, more: bool) -> Step:
        tries = 0
        while True:
            try:
                return engine.step(program, state, event, now, more=more)
            except Exception as fault:  # the rim of the core: what one rule cannot digest must not hold up the others
                blamed = _blame(program, state, event, now, more=more)
                if blamed:
                    self._fail(program, blamed, fault, now)
                    program = _without(program, blamed)
                    continue
                tries += 1
                if tries == TRIES:
                    where = _where(fault)
                    log.error("an event was set aside", bucket=bucket_of(state.user), error=_name(fault), at=where)
                    raise SetAside(f"{_name(fault)} at {where}: {fault}") from fault

    def _fail(self, program: Program, trigger: str, fault: Exception, now: int) -> None:
        self._counts.add("rule_failures")
        log.error("a trigger raised an error and was left out", trigger=trigger, error=_name(fault), at=_where(fault))
        times = self._failures.setdefault((program.version, trigger), deque(maxlen=FAILURES))
        times.append(now)
        if len(times) == FAILURES and times[0] > now - WITHIN:
            self._switch_off(program, trigger)

    def _switch_off(self, program: Program, trigger: str) -> None:
        self._counts.add("rules_switched_off")
        log.error(
            "a trigger is SWITCHED OFF until the rules change: it keeps raising errors",
            trigger=trigger,
            failures=FAILURES,
            within_s=WITHIN // 1000,
        )
        self._reduced[program.version] = _without(self._reduced.get(program.version, program), trigger)
        del self._failures[program.version, trigger]
        while len(self._reduced) > VERSIONS:
            del self._reduced[next(iter(self._reduced))]


def _without(program: Program, trigger: str) -> Program:
    return replace(program, off=program.off | {trigger})


def _blame(program: Program, state: State, event: Event, now: int, *, more: bool) -> str:
    """The trigger at which deciding raises, "" if it is none: the core is pure, so it does the same once more."""
    turn = Turn(program, state.fork(), now)
    try:
        engine.decide(turn, event, more=more)
    except Exception:  # known already
        return turn.at_work if turn.at_work not in program.off else ""
    return ""


def _step_around(program: Program, state: State, event: Event, now: int) -> Step:
    """As `engine.step`, without the triggers that raise, and nobody hears of it."""
    while True:
        try:
            return engine.step(program, state, event, now)
        except Exception:  # the rim of the core, as above
            blamed = _blame(program, state, event, now, more=False)
            if not blamed:
                raise
            program = _without(program, blamed)


def _own_up(program: Program, state: State, trigger: Trigger, now: int, fault: Exception) -> Explanation:
    told, condition = f"judging it fails: {_name(fault)} at {_where(fault)}: {fault}", ""
    try:
        if trigger.condition is not None:
            trigger.condition.holds(Turn(program, state.fork(), now).scope())
    except Exception as within:  # as it does where decisions are made
        condition = f"this condition fails: {_name(within)} at {_where(within)}: {within}"
    return own_up(state, trigger, now, error=told, condition=condition)


def _name(fault: Exception) -> str:
    return type(fault).__name__


def _where(fault: Exception) -> str:
    """File and line; the text of an error may quote what users said, which is for no log."""
    last = extract_tb(fault.__traceback__)[-1]
    return f"{last.filename.rpartition('handrail/')[2]}:{last.lineno}"
