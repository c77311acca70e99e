"""What judging a condition costs: as Handrail does it, and through the CEL library alone, in turns.

The conditions are of the kinds that onboarding rules have; the user and the event are real ones of the core. A round
judges each condition some thousand times in both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

from benchmarks.figures import MeasurementFault, Row, row
from handrail.core.counters import Counter
from handrail.core.expressions import Expression, Expressions
from handrail.core.scope import Occurrence, Scope
from handrail.core.state import Session, State, Tally

CONDITIONS = (
    "user.traits.plan == 'trial'",
    "'low-engagement' in user.segments && user.sessions <= 2",
    "user.traits.plan == 'trial' && user.counters.imports >= 1 && event.properties.score > 9",
    "user.counters.imports >= 3",
    "user.session.length > duration('10m')",
    "now - user.last_visit >= duration('24h')",
    "has(user.traits.company) && user.traits.company.size > 50",
    "user.locale in ['de', 'en'] && event.properties.step.startsWith('invite')",
    "user.goals.exists(goal, goal == 'teamwork')",
    "user.traits.absent == 'x'",
)
ROUNDS, QUICK_ROUNDS = 9, 2
TIMES = 1_000
GOAL = 3  # µs
NOW = 1_800_000_000_000


def run(quick: bool) -> list[Row]:
    expressions, scope = Expressions(), _scope()
    rows = []
    for source in CONDITIONS:
        condition = expressions.compile(source)
        if condition.holds(scope) != condition.refer(scope):
            raise MeasurementFault(f"the two ways differ: {source}")
        ours, theirs = _take_turns(condition, scope, QUICK_ROUNDS if quick else ROUNDS)
        rows += [row(source, ours, "µs", below=GOAL), row("  through the library", theirs, "µs")]
    return rows


def _take_turns(condition: Expression, scope: Scope, rounds: int) -> tuple[list[float], list[float]]:
    """Microseconds a judgement in every round, as Handrail does it and through the library."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        found = _time(condition.holds, scope), _time(condition.refer, scope)
        if number:  # the first round warms up
            ours.append(found[0])
            theirs.append(found[1])
    return ours, theirs


def _time(judge: Callable[[Scope], object], scope: Scope) -> float:
    start = process_time()
    for _ in range(TIMES):
        judge(scope)
    return (process_time() - start) / TIMES * 1e6


def _scope() -> Scope:
    traits = {"plan": "trial", "locale": "de", "goals": ["analytics", "teamwork"], "company": {"size": 120}}
    traits |= {f"trait_{number}": f"value {number}" for number in range(20)}
    state = State(
        user="u-1",
        epoch="e-1",
        traits=traits,
        segments=("engaged", "low-engagement"),
        sessions=2,
        session=Session(id="s-2", started=NOW - 240_000, newest=NOW),
        first_seen=NOW - 900_000_000,
        last_visit=NOW - 90_000_000,
        counters={"imports": Tally(3)},
    )
    properties = {"score": 10, "step": "invite-team", "feature": "export"}
    event = Occurrence(keys=("event:feature_used",), name="feature_used", at=NOW, properties=properties)
    return Scope(state, {"imports": Counter("imports", "imported")}, event, NOW)
