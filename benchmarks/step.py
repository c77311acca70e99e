"""What deciding costs as rules grow: one event that five triggers concern, among 10 to 10,000 triggers.

Each trigger tests the user's traits, a counter of its group of five, and the event; one of the five acts: it sets a
trait, or shows a message made from a template. The sizes take turns within every round, so that what disturbs the
machine disturbs them alike.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from time import process_time

from benchmarks.figures import MeasurementFault, Row, ratios, row
from handrail.core import engine
from handrail.core.events import Connected, Event, Identify, Track
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.core.state import State

SIZES, QUICK_SIZES = (10, 100, 1_000, 10_000), (10, 1_000)
CONCERNED = 5
A_FILE = 500  # documents, about
ROUNDS, QUICK_ROUNDS = 15, 3
STEPS = 400  # a round and size
GOAL = 1.2
NOW = 1_800_000_000_000

GROUP = """counter: tried_{group}
of: tried_{group}
"""
TRIGGER = """trigger: rule-{number}
when: {{event: tried_{group}}}
if: user.traits.plan == 'trial' && user.counters.tried_{group} >= 1 && event.properties.score > {least}
then:
  - {then}
"""
SET = "set: {{reached: level-{number}}}"  # what even groups do
SHOW = "content: {{slot: top, message: place}}"  # and odd ones
MESSAGE = """message: place
kind: inline
title: "{{ user.traits.first_name | default('You') }} reached {{ event.properties.step }}"
"""
ACTS = ("sets a trait", "shows a message")


def run(quick: bool) -> list[Row]:
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if quick else (SIZES, ROUNDS)
    programs = {size: _program(size) for size in sizes}
    rows: list[Row] = []
    for group, act in enumerate(ACTS):
        taken = _take_turns(programs, group, rounds)
        rows += [row(f"{act}, of {size:,} triggers", taken[size], "µs", places=1) for size in sizes]
        least, most = sizes[0], sizes[-1]
        rows.append(row(f"{act}: {most:,} to {least}", ratios(taken[most], taken[least]), "×", below=GOAL))
    return rows


def _take_turns(programs: Mapping[int, Program], group: int, rounds: int) -> dict[int, list[float]]:
    """Microseconds a step in every round, by size."""
    inputs = {size: _input(program, group) for size, program in programs.items()}
    taken: dict[int, list[float]] = {size: [] for size in programs}
    gc.collect()
    for number in range(rounds + 1):
        for size in programs:
            found = _time(programs[size], *inputs[size])
            if number:  # the first round warms up
                taken[size].append(found)
    return taken


def _program(size: int) -> Program:
    documents = [MESSAGE, *(_document(number) for number in range(size))]
    files = range(0, len(documents), A_FILE)
    loaded = load({f"rules-{start:05}.yaml": "---\n".join(documents[start : start + A_FILE]) for start in files}, {})
    if loaded.program is None:
        raise MeasurementFault(f"the rules cannot be loaded: {loaded.problems[0]}")
    return loaded.program


def _document(number: int) -> str:
    """Of each five triggers the first acts: the event's score is 10."""
    group, place = divmod(number, CONCERNED)
    then = (SHOW if group % 2 else SET).format(number=number)
    trigger = TRIGGER.format(number=number, group=group, least=9 + place, then=then)
    return f"{GROUP.format(group=group)}---\n{trigger}" if place == 0 else trigger


def _input(program: Program, group: int) -> tuple[State, Event]:
    """A user in mid-session, and an event of the group."""
    state = engine.fresh(program, "u-1", "e-1", NOW)
    traits = {"plan": "trial", "first_name": "Ada", "email": "ada@example.com", "role": "admin", "team_size": 12}
    first: list[Event] = [
        Connected(id="c", at=NOW, connection="c-1", node="n-1"),
        Identify(id="i", at=NOW, traits=traits),
    ]
    for event in (*first, *(_tried(group, number) for number in range(20))):
        state = engine.step(program, state, event, NOW).state
    event = _tried(group, 20, step="invite")
    outcomes = [line.outcome for line in engine.step(program, state, event, NOW).trace]
    if sorted(outcomes) != ["fired", *["not-met"] * (CONCERNED - 1)]:
        raise MeasurementFault(f"the event should concern {CONCERNED} triggers and fire one, but: {outcomes}")
    return state, event


def _tried(group: int, number: int, step: str = "workspace") -> Track:
    return Track(id=f"m-{number}", name=f"tried_{group}", at=NOW, properties={"score": 10, "step": step})


def _time(program: Program, state: State, event: Event) -> float:
    """Microseconds of processor time a step."""
    step = engine.step
    start = process_time()
    for _ in range(STEPS):
        step(program, state, event, NOW)
    return (process_time() - start) / STEPS * 1e6
