"""`GET /metrics`: what a server counted and measured, all its processes together, for Prometheus.

No label holds anything of a user's: values are names from the rules' own vocabulary and from this program.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.inputs import BadInput
from handrail.figures import Figures, Measured
from handrail.histogram import MILLISECONDS
from handrail.identity import Identity
from handrail.line import ParentSilent
from handrail.web.admin import check_admin
from handrail.web.problems import refusal

# Name, the label of what follows its dot, what it counts. What begins with process_ has that name in Prometheus, too.
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
    "process_cpu_seconds": ("", "User and system time spent."),
    "crashes_while_deciding": ("", "Processes found to have died while they decided an event."),
}
# Refusals that any caller can bring about, which are not logged.
COUNTERS |= {
    "http_refused_header": ("", "Requests with too large a header."),
    "http_refused_body": ("", "Requests with too large a body."),
    "http_refused_slow": ("", "Requests that came too slowly."),
    "http_refused_bad": ("", "Requests that are no HTTP/1.0 or 1.1, or too many ahead of an answer."),
    "http_refused_upgrade": ("", "Requests for a WebSocket that have a body."),
    "http_closed_silent": ("", "Connections on which no request came."),
    "http_ignored_upgrade": ("", "Requests to upgrade to something else than a WebSocket."),
    "http_left_early": ("", "Clients that left before their body was complete."),
    "ws_refused_size": ("", "WebSocket messages that are too large."),
    "ws_refused_fragments": ("", "WebSocket messages in too many fragments."),
    "ws_refused_unfinished": ("", "WebSocket messages that took too long to come."),
    "ws_refused_control": ("", "WebSockets with too many pings and pongs."),
    "ws_refused_frames": ("", "Frames against RFC 6455."),
    "ws_refused_text": ("", "Text frames that are no UTF-8."),
    "ws_refused_handshake": ("", "Handshakes that are none."),
    "ws_refused_early": ("", "Frames before the handshake was answered."),
    "ws_throttled": ("", "WebSockets that were read more slowly for a while."),
    "ws_closed_silent": ("", "WebSockets that did not answer the server's ping."),
    "cut_stalled_readers": ("", "Connections dropped because the peer took nothing at all."),
    "cut_slow_readers": ("", "Connections dropped because the peer took too slowly what it was sent."),
    "handshakes_refused_pace": ("", "Live connections refused because a process takes only so many a second."),
    "handshakes_refused_lag": ("", "Live connections refused because the event loop was behind."),
    "handshakes_refused_address": ("", "Live connections refused because their address has too many."),
    "handshakes_refused_offences": ("", "Live connections refused to addresses that failed to say who they are."),
    "handshakes_refused_draining": ("", "Live connections refused because the server is about to stop."),
    "requests_refused_offences": ("", "Requests refused to addresses that failed to say who they are."),
    "connections_refused_user": ("", "Live connections refused because their user has too many."),
    "messages_refused_rate": ("", "Messages of live connections beyond their rate."),
    "posts_refused_rate": ("", "Requests under /v1/ beyond their user's rate."),
}
GAUGES: dict[str, tuple[str, str]] = {
    "connections": ("transport", "Live connections."),
    "processes": ("", "Processes that these figures are of."),
    "rules_off": ("", "Triggers switched off at present; the most of any process."),
    "timer_overdue_seconds": ("", "How long ago the oldest alarm fell due that is known and not yet decided."),
    "webhook_oldest_seconds": ("", "Age of the oldest webhook call that was due at the latest look."),
    "loop_lag_worst_seconds": ("", "The most an event loop was late within the last five seconds."),
    "draining": ("", "Processes that send their clients away to stop."),
    "process_virtual_memory_bytes": ("", "Virtual memory."),
    "process_resident_memory_bytes": ("", "Resident memory; what processes share counts for each."),
    "process_open_fds": ("", "Open files and sockets."),
    "process_max_fds": ("", "How many may be open."),
    "process_start_time_seconds": ("", "When the newest process started, in seconds since the epoch."),
}
HISTOGRAMS = {
    "loop_lag_seconds": "How late the event loop was, looked at twenty times a second.",
    "timer_lateness_seconds": "How late alarms were fired.",
}


def routes(gather: Callable[[], Awaitable[Figures]], identity: Identity, *, guarded: bool) -> list[Route]:
    """`guarded`: only for who has the admin key."""

    async def answer(request: Request) -> Response:
        try:
            if guarded:
                check_admin(identity, request)
            figures = await gather()
        except BadInput as fault:
            return refusal(fault)
        except ParentSilent as fault:  # a part of the figures would look as if the others had begun anew
            return Response(str(fault), 503, media_type="text/plain")
        return Response(generate_latest(_Told(figures)), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/metrics", answer)]


class _Told(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from _families(COUNTERS, self._figures.counts, CounterMetricFamily)
        yield from _families(GAUGES, {**self._figures.sums, **self._figures.worst}, GaugeMetricFamily)
        for name, seen in self._figures.histograms.items():
            yield _histogram(name, seen)


def _families(
    known: dict[str, tuple[str, str]], values: dict[str, float], kind: type[CounterMetricFamily | GaugeMetricFamily]
) -> Iterator[Metric]:
    parted: dict[str, dict[str, float]] = {name: {} for name in known}
    for name, value in values.items():
        family, _, part = name.partition(".")
        parted.setdefault(family, {})[part] = value
    for family, parts in parted.items():
        label, text = known.get(family, ("what" if any(parts) else "", "How often this happened."))
        metric = kind(_named(family), text, labels=(label,) if label else ())
        for part, value in sorted((parts or ({} if label else {"": 0})).items()):
            metric.add_metric((part,) if label else (), value)
        yield metric


def _histogram(name: str, seen: Measured) -> Metric:
    bounds = [*(str(bound / 1_000) for bound in MILLISECONDS), "+Inf"]
    metric = HistogramMetricFamily(_named(name), HISTOGRAMS[name])
    metric.add_metric((), list(zip(bounds, accumulate(seen.tallies), strict=True)), seen.sum / 1_000)
    return metric


def _named(name: str) -> str:
    return name if name.startswith("process_") else f"handrail_{name}"
