"""The whole job, beside what a team would write instead: an event comes in, ten rules look at the user's state, one
script writes state, timer, outbox and log, and content goes out.

Five hundred users are connected to each server at the same time, and the servers take turns. First nobody pauses: each
user sends the next event when the last one's content has come. Then events come at half of that server's own rate,
whatever is answered meanwhile, and each takes the time it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from benchmarks import install, machine
from benchmarks.client import TEXT, frame
from benchmarks.contest import Contestant, asgi_app, node_script, start_all, used
from benchmarks.crowd import Crowd, Dialect, Steps, upgrade
from benchmarks.figures import OURS, VERSIONS, Row, quantile, ratios, row
from benchmarks.ours import encode, handrail, hello
from benchmarks.servers import Ground, Server, ground

USERS, QUICK_USERS = 500, 100
ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 3.0, 1.0
WARM_UP = 1.0
ENGINE, IFS, STARLETTE = "Node ws + json-rules-engine", "Node ws, rules as ifs", "Starlette + redis-py"
GOALS = {ENGINE: 7, IFS: 1.5, STARLETTE: 8}
TRAITS = {
    "plan": "trial",
    "role": "developer",
    "team_size": 12,
    "language": "en",
    "tags": ["new", "web", "beta"],
    "first_name": "Ada",
    "last_name": "Byron",
    "email": "ada.byron@example.com",
    "company": "Analytical Engines Ltd",
    "city": "London",
    "created": "2026-01-05T09:00:00Z",
    "referrer": "https://www.example.com/search?q=onboarding",
    "utm": "spring-campaign",
}
CONDITIONS = {
    "billing": "event.properties.step == 'billing' && user.traits.plan == 'trial'",
    "power": "user.counters.moved >= 100000000",
    "upsell": "user.traits.plan == 'trial' && user.traits.team_size > 50",
    "admin": "user.traits.role == 'admin' && event.properties.step == 'settings'",
    "regular": "user.sessions > 20",
    "german": "user.traits.language in ['de', 'at'] && event.properties.step == 'welcome'",
    "finisher": "user.counters.moved == 5 && user.traits.plan == 'pro'",
    "lost": "event.properties.n < -1 || event.properties.step == 'lost'",
    "champion": "'champion' in user.traits.tags && user.sessions >= 3",
}
RULES = """counter: moved
of: moved
---
message: place
kind: inline
title: "You are at {{ event.properties.n }}"
---
trigger: follow
when: {event: moved}
if: event.properties.n >= 0
then: [{content: {slot: top, message: place}}]
""" + "".join(
    f'---\ntrigger: {name}\nwhen: {{event: moved}}\nif: "{condition}"\nthen: [{{set: {{mark: {name}}}}}]\n'
    for name, condition in CONDITIONS.items()
)
EVENT = {"id": "m-########", "name": "moved", "properties": {"n": "########", "step": "workspace"}}
MARK = b'"type":"content"'
IDENTIFY = frame(TEXT, encode({"type": "identify", "id": "traits", "traits": TRAITS}))
EVENT_FRAME = frame(TEXT, encode({"type": "track", **EVENT}).replace(b'"########"', b"########"))


def open_ours(number: int) -> Steps:
    return [*hello(f"u-{number}"), (IDENTIFY, b'"type":"ack"')]


def _theirs(number: int) -> Steps:
    return [(upgrade(f"/updates?user=u-{number}"), b"\r\n\r\n"), (IDENTIFY, b'"type":"ack"')]


CONTESTANTS = (
    Contestant(OURS, handrail(RULES), Dialect(open_ours, MARK, EVENT_FRAME), machine.versions),
    Contestant(
        ENGINE,
        node_script("job.js", "rules"),
        Dialect(_theirs, MARK, EVENT_FRAME),
        lambda: install.node_versions("ws", "ioredis", "json-rules-engine"),
    ),
    Contestant(
        IFS,
        node_script("job.js", "ifs"),
        Dialect(_theirs, MARK, EVENT_FRAME),
        lambda: install.node_versions("ws", "ioredis"),
    ),
    Contestant(
        STARLETTE,
        asgi_app("job"),
        Dialect(_theirs, MARK, EVENT_FRAME),
        lambda: install.python_versions("starlette", "uvicorn", "websockets", "redis", "hiredis"),
    ),
)


@dataclass
class _Found:
    """What the rounds gave of one server."""

    rate: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)  # µs an event
    store: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)  # of a core that store and load used, in %
    load: list[float] = field(default_factory=list)  # and the load alone
    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)

    def rows(self, name: str) -> list[Row]:
        return [
            row("events/s", self.rate, "", places=0, of=name),
            row("server µs an event", self.server, "µs", places=0, of=name),
            row("store µs an event", self.store, "µs", places=1, of=name),
            row("p50 at half load", self.p50, "ms", places=1, of=name),
            row("p99 at half load", self.p99, "ms", places=1, of=name),
            row("store's and load's core", self.share, "%", places=0, of=name),
            row("load's share of a core", self.load, "%", places=0, of=name),
        ]


def run(quick: bool) -> list[Row]:
    users, rounds, seconds = (QUICK_USERS, QUICK_ROUNDS, QUICK_SECONDS) if quick else (USERS, ROUNDS, SECONDS)
    with ground(sync="everysec") as place, ExitStack() as stack:
        here, missing = start_all(stack, place, CONTESTANTS)
        crowds = [stack.enter_context(closing(Crowd(server.port, each.dialect))) for each, server in here]
        found = {each.name: _Found() for each, _ in here}
        for crowd in crowds:
            crowd.connect(users)
            crowd.hurry(WARM_UP)
        for _ in range(rounds):
            for (each, server), crowd in zip(here, crowds, strict=True):
                _measure(place, server, crowd, seconds, found[each.name])
                for other in crowds:
                    other.rest(0.01)  # answer pings that came meanwhile
    versions = [Row(VERSIONS, each.versions(), of=each.name) for each, _ in here]
    return [*(line for name, each in found.items() for line in each.rows(name)), *missing, *versions, *_goals(found)]


def _measure(place: Ground, server: Server, crowd: Crowd, seconds: float, found: _Found) -> None:
    before = used(place, server)
    events, taken = crowd.hurry(seconds)
    spent = used(place, server) - before
    answered = events + crowd.size  # the last ones came after the time was up, and cost too
    found.rate.append(events / taken)
    found.server.append(spent.server / answered * 1e6)
    found.store.append(spent.store / answered * 1e6)
    found.share.append((spent.store + spent.load) / taken * 100)
    found.load.append(spent.load / taken * 100)
    latencies = [each * 1_000 for each in crowd.pace(found.rate[-1] / 2, seconds)]
    found.p50.append(quantile(latencies, 0.5))
    found.p99.append(quantile(latencies, 0.99))


def _goals(found: Mapping[str, _Found]) -> list[Row]:
    """Handrail's rate to the others', and its latency to that of Node with hand-written rules, round by round."""
    ours = found[OURS]
    rows = [
        row(f"{OURS} to {name}, events/s", ratios(ours.rate, found[name].rate), "×", above=least)
        for name, least in GOALS.items()
        if name in found
    ]
    rows += [
        row(f"{name} to {OURS}, server CPU an event", ratios(found[name].server, ours.server), "×")
        for name in GOALS
        if name in found
    ]
    if node := found.get(IFS):
        rows.append(row(f"{OURS} to {IFS}, p50", ratios(ours.p50, node.p50), "×", below=2))
        rows.append(row(f"{OURS} to {IFS}, p99", ratios(ours.p99, node.p99), "×", below=1))
    return rows
