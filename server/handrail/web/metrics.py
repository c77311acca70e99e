"""`GET /metrics`: what this process counted and measured, for Prometheus.

Each process answers for itself, under the label `node`. No label holds anything of a user's: values are names from the
rules' own vocabulary and from this program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.inputs import BadInput
from handrail.counts import Counts
from handrail.histogram import Histogram
from handrail.identity import Identity
from handrail.web.admin import check_admin
from handrail.web.problems import refusal

# Name in `Counts`, the label of what follows its dot, what it counts.
COUNTERS: dict[str, tuple[str, str]] = {
    "events": ("result", "Events that came: accepted, duplicate, or set aside in quarantine."),
    "refused": ("reason", "Messages, requests and connections that were refused."),
    "commits": ("", "Turns of users written to the store."),
    "conflicts": ("", "Turns decided again because another process had written the user."),
    "store_errors": ("", "Tries of a turn that ended because the store was away."),
    "store_reconnects": ("", "Times the connection to the store was made again."),
    "unreadable": ("what", "Things in the store that are not what Handrail writes there, passed over."),
    "resumes": ("by", "Clients that came back with a position, and went on by suffix or by snapshot."),
    "epoch_changes": ("", "Connections greeted again because the store had lost data."),
    "snapshots_again": ("", "Connections greeted again because the store no longer had what they missed."),
    "outbox_reads": ("", "Readings of a user's messages from the store."),
    "slow_readers_cut": ("", "Connections cut because they took nothing."),
    "prompts_shown": ("", "Prompts committed."),
    "suppressed": ("reason", "Triggers held back."),
    "webhooks": ("result", "Tries of webhook calls: delivered, to be retried, dropped."),
    "rule_failures": ("", "Evaluations of a trigger that raised an error."),
    "rules_switched_off": ("", "Triggers switched off because they kept raising errors."),
    "set_aside": ("what", "Events and states put in quarantine."),
    "crashes_while_deciding": ("", "Processes found to have died while they decided an event."),
}
GAUGES = {
    "rules_off": "Triggers switched off at present.",
    "timer_overdue_seconds": "How long ago the oldest alarm fell due that is known here and not yet decided.",
    "webhook_oldest_seconds": "Age of the oldest webhook call that was due at the latest look.",
    "loop_lag_worst_seconds": "The most the event loop was late within the last five seconds.",
    "draining": "1 while the process sends its clients away to stop.",
}
HISTOGRAMS = {
    "loop_lag_seconds": "How late the event loop was, looked at ten times a second.",
    "timer_lateness_seconds": "How late alarms were fired.",
}


class Figures(Struct, frozen=True):
    """Where the numbers come from; everything is read when it is asked for. `gauges` and `histograms` have the names
    above, in seconds and in milliseconds; `transports` gives one name for each open connection."""

    node: str
    counts: Sequence[Counts]
    gauges: Mapping[str, Callable[[], float]]
    histograms: Mapping[str, Histogram]
    transports: Callable[[], Iterable[str]]


def routes(figures: Figures, identity: Identity, *, guarded: bool) -> list[Route]:
    """`guarded`: only for who has the admin key."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(figures))
    ProcessCollector(registry=registry)

    async def answer(request: Request) -> Response:
        try:
            if guarded:
                check_admin(identity, request)
        except BadInput as fault:
            return refusal(fault)
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/metrics", answer)]


class _Reader(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        yield from _counters(figures.node, figures.counts)
        for name, ask in figures.gauges.items():
            gauge = GaugeMetricFamily(f"handrail_{name}", GAUGES[name], labels=("node",))
            gauge.add_metric((figures.node,), ask())
            yield gauge
        for name, seen in figures.histograms.items():
            yield _histogram(figures.node, name, seen)
        open_now = GaugeMetricFamily("handrail_connections", "Live connections.", labels=("node", "transport"))
        for transport, count in sorted(Counter(figures.transports()).items()):
            open_now.add_metric((figures.node, transport), count)
        yield open_now


def _counters(node: str, counts: Sequence[Counts]) -> Iterator[Metric]:
    totals: Counter[str] = Counter()
    for each in counts:
        totals.update(each.totals)
    parted: dict[str, dict[str, int]] = {name: {} for name in COUNTERS}
    for name, total in totals.items():
        family, _, value = name.partition(".")
        parted.setdefault(family, {})[value] = total
    for family, values in parted.items():
        label, text = COUNTERS.get(family, ("what" if any(values) else "", "How often this happened."))
        metric = CounterMetricFamily(f"handrail_{family}", text, labels=("node", label) if label else ("node",))
        for value, total in (values or ({} if label else {"": 0})).items():
            metric.add_metric((node, value) if label else (node,), total)
        yield metric


def _histogram(node: str, name: str, seen: Histogram) -> Metric:
    bounds = [*(str(bound / 1_000) for bound in seen.bounds), "+Inf"]
    metric = HistogramMetricFamily(f"handrail_{name}", HISTOGRAMS[name], labels=("node",))
    metric.add_metric((node,), list(zip(bounds, accumulate(seen.tallies), strict=True)), seen.sum / 1_000)
    return metric
