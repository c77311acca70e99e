"""What a process counted and measured by some moment, and how the figures of several add up to those of one service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from prometheus_client import ProcessCollector

from handrail.counts import Counts
from handrail.histogram import Histogram

# What the system knows of a process, by how it adds up over several. The newest start stands for all: whichever process
# is started again, it moves.
ADDING = ("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds", "process_max_fds")
WORST = ("process_start_time_seconds",)


class Measured(Struct, frozen=True):
    """A histogram as it stood: see `Histogram`."""

    tallies: list[int]
    sum: float


class Figures(Struct, frozen=True):
    """By name: `counts` never fall, `sums` are gauges that add up, `worst` gauges of which the largest counts. What
    follows a dot in a name is the value of its label."""

    counts: dict[str, float] = {}
    sums: dict[str, float] = {}
    worst: dict[str, float] = {}
    histograms: dict[str, Measured] = {}


class Sources(Struct, frozen=True):
    """Where the figures of this process come from. `transports` gives one name for each open connection."""

    counts: Sequence[Counts]
    sums: Mapping[str, Callable[[], float]]
    worst: Mapping[str, Callable[[], float]]
    histograms: Mapping[str, Histogram]
    transports: Callable[[], Iterable[str]]

    def read(self) -> Figures:
        known = _ask_system()
        totals = Counter[str]()
        for each in self.counts:
            totals.update(each.totals)
        open_now = Counter(f"connections.{transport}" for transport in self.transports())
        return Figures(
            counts={**totals, "process_cpu_seconds": known.get("process_cpu_seconds_total", 0.0)},
            sums={
                "processes": 1,
                **{name: ask() for name, ask in self.sums.items()},
                **open_now,
                **{name: known[name] for name in ADDING if name in known},
            },
            worst={
                **{name: ask() for name, ask in self.worst.items()},
                **{name: known[name] for name in WORST if name in known},
            },
            histograms={name: Measured(list(seen.tallies), seen.sum) for name, seen in self.histograms.items()},
        )


def add_up(parts: Sequence[Figures]) -> Figures:
    """The figures of a service, from those of its processes."""
    worst: dict[str, float] = {}
    for name, value in (item for part in parts for item in part.worst.items()):
        worst[name] = max(value, worst.get(name, value))
    return Figures(
        counts=_sum(part.counts for part in parts),
        sums=_sum(part.sums for part in parts),
        worst=worst,
        histograms=_sum_histograms(item for part in parts for item in part.histograms.items()),
    )


def what_stays(figures: Figures) -> Figures:
    """Of a process that is gone: what it counted happened all the same, and no total may fall."""
    return Figures(counts=figures.counts, histograms=figures.histograms)


def _sum(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, value in (item for part in parts for item in part.items()):
        total[name] = total.get(name, 0) + value
    return total


def _sum_histograms(parts: Iterator[tuple[str, Measured]]) -> dict[str, Measured]:
    total: dict[str, Measured] = {}
    for name, seen in parts:
        before = total.get(name)
        if before is not None:
            tallies = [one + other for one, other in zip(before.tallies, seen.tallies, strict=True)]
            seen = Measured(tallies, before.sum + seen.sum)
        total[name] = seen
    return total


def _ask_system() -> dict[str, float]:
    """What the system knows of this process; nothing where it does not tell."""
    families = ProcessCollector(registry=None).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}
