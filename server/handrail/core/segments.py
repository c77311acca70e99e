"""Segments: named conditions over the user, kept in dependency order, the persona among them, so that one pass settles
them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from pydantic import Field

from handrail.core.counters import Counter
from handrail.core.expressions import Expression
from handrail.core.names import Name
from handrail.core.personas import Personas
from handrail.core.program import Segment
from handrail.core.reads import keys_read
from handrail.core.source import Shape

PERSONA = "the persona"  # where names of segments are expected; none is called so


class SegmentShape(Shape):
    segment: Name
    description: str | None = None
    condition: str = Field(alias="if")


def in_order(segments: Iterable[Segment], personas: Personas) -> tuple[tuple[Segment | Personas, ...], list[str]]:
    """The segments and the personas with those they test before them, and, if some test each other in a circle, the
    circle's names."""
    by_name: dict[str, Segment | Personas] = {segment.name: segment for segment in segments}
    by_name[PERSONA] = personas
    needs = {name: set(_needed(each)) & by_name.keys() for name, each in by_name.items()}
    try:
        return tuple(by_name[name] for name in TopologicalSorter(needs).static_order()), []
    except CycleError as error:
        return (), list(error.args[1])


def conditions_of(settled: Segment | Personas) -> Iterator[Expression]:
    if isinstance(settled, Personas):
        yield from settled.conditions
    elif settled.condition is not None:
        yield settled.condition


def _needed(settled: Segment | Personas) -> Iterator[str]:
    for condition in conditions_of(settled):
        yield from condition.segments
        if "user.persona" in keys_read(condition, ()) and not isinstance(settled, Personas):
            yield PERSONA


def index_reads(settled: tuple[Segment | Personas, ...], counters: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """What each segment, or the choice of a persona, reads -> indexes of those that read it (see
    Program.segments_reading)."""
    reading: defaultdict[str, list[int]] = defaultdict(list)
    names = list(counters)
    for index, each in enumerate(settled):
        keys = {key for condition in conditions_of(each) for key in keys_read(condition, names)}
        if isinstance(each, Personas):
            keys.add("user.traits")
        for key in sorted(keys) or ["user.id"]:  # what reads nothing is judged once
            reading[key].append(index)
    return {key: tuple(indexes) for key, indexes in reading.items()}


def watched(conditions: Iterable[Expression | None], counters: dict[str, Counter]) -> dict[str, Counter]:
    """The sliding counters whose fall can change a segment or a flow."""
    read = {key.removeprefix("user.counters.") for each in conditions for key in keys_read(each, list(counters))}
    return {name: counter for name, counter in counters.items() if counter.within is not None and name in read}
