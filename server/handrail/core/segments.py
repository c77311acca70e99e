"""Segments: named conditions over the user, kept in dependency order so that one pass settles them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from pydantic import Field

from handrail.core.counters import Counter
from handrail.core.expressions import Expression
from handrail.core.names import Name
from handrail.core.program import Segment
from handrail.core.reads import keys_read
from handrail.core.source import Shape


class SegmentShape(Shape):
    segment: Name
    description: str | None = None
    condition: str = Field(alias="if")


def in_order(segments: Iterable[Segment]) -> tuple[tuple[Segment, ...], list[str]]:
    """The segments with those they test before them, and, if some test each other in a circle, the circle's names."""
    by_name = {segment.name: segment for segment in segments}
    needs = {
        segment.name: (segment.condition.segments if segment.condition else frozenset()) & by_name.keys()
        for segment in by_name.values()
    }
    try:
        return tuple(by_name[name] for name in TopologicalSorter(needs).static_order()), []
    except CycleError as error:
        return (), list(error.args[1])


def index_reads(segments: tuple[Segment, ...], counters: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """What each segment reads -> indexes of the segments that read it (see Program.segments_reading)."""
    reading: defaultdict[str, list[int]] = defaultdict(list)
    names = list(counters)
    for index, segment in enumerate(segments):
        for key in sorted(keys_read(segment.condition, names)) or ["user.id"]:  # what reads nothing is judged once
            reading[key].append(index)
    return {key: tuple(indexes) for key, indexes in reading.items()}


def watched(conditions: Iterable[Expression | None], counters: dict[str, Counter]) -> dict[str, Counter]:
    """The sliding counters whose fall can change a segment or a flow."""
    read = {key.removeprefix("user.counters.") for each in conditions for key in keys_read(each, list(counters))}
    return {name: counter for name, counter in counters.items() if counter.within is not None and name in read}
