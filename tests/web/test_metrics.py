"""What a process counted, as Prometheus reads it, and who may."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from handrail.figures import Figures
from handrail.identity import Identity
from handrail.line import ParentSilent
from handrail.web.metrics import COUNTERS, GAUGES, HISTOGRAMS, routes
from servers import Serve
from test_app import PROMPT, events, until

ROOT = Path(__file__).parents[2]
KEY = "an-admin-key-of-some-length"


async def read(client: httpx2.AsyncClient) -> dict[str, float]:
    """Every sample, named `name{value}` by its label."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for name, labels, value, *_ in family.samples:
            found[name + "".join(f"{{{each}}}" for each in labels.values())] = value
    return found


async def test_events_prompts_connections_and_refusals_are_counted(serve: Serve) -> None:
    (serve.folder / "greet.yaml").write_text(PROMPT.replace("trigger: greet\n", "trigger: greet\nlimit: once\n"))
    client = await serve()
    async with events(client, "/updates/sse?user_id=ann") as stream:
        await until(stream, "welcome")
        for message in ("m1", "m1", "m2"):
            body = {"userId": "ann", "event": "greeted", "messageId": message}
            assert (await client.post("/v1/track", json=body)).status_code == 200
        await until(stream, "prompt")
        await client.post("/v1/track", json={"event": "nobody's"})
        told = await read(client)
    assert told["handrail_events_total{duplicate}"] == 1
    assert told["handrail_events_total{accepted}"] >= 3  # with the connection's own
    assert told["handrail_prompts_shown_total"] == 1
    assert told["handrail_suppressed_total{limit}"] == 1
    assert told["handrail_refused_total{no-user}"] == 1
    assert told["handrail_connections{sse}"] == 1
    assert told["handrail_commits_total"] >= 3
    assert told["handrail_conflicts_total"] == told["handrail_rules_off"] == told["handrail_draining"] == 0
    assert told["handrail_loop_lag_seconds_count"] == told["handrail_loop_lag_seconds_bucket{+Inf}"]
    assert "ann" not in (await client.get("/metrics")).text


async def test_everything_that_is_listed_is_there_from_the_start(serve: Serve) -> None:
    client = await serve()
    text = (await client.get("/metrics")).text
    for name in (*COUNTERS, *GAUGES, *HISTOGRAMS):
        assert f"# HELP {name}" in text or f"# HELP handrail_{name}" in text


async def test_off_loopback_only_the_admin_key_opens_it() -> None:
    identity = Identity(lambda: 0, admin_key=KEY)

    async def gather() -> Figures:
        return Figures()

    for guarded, status in ((True, 401), (False, 200)):
        transport = httpx2.ASGITransport(Starlette(routes=routes(gather, identity, guarded=guarded)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://handrail") as client:
            assert (await client.get("/metrics")).status_code == status
            allowed = await client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})
            assert allowed.status_code == 200


async def test_figures_of_a_part_of_the_processes_are_not_told() -> None:
    async def gather() -> Figures:
        raise ParentSilent("no answer")

    transport = httpx2.ASGITransport(Starlette(routes=routes(gather, Identity(lambda: 0), guarded=False)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://handrail") as client:
        assert (await client.get("/metrics")).status_code == 503


async def test_a_worker_answers_too(serve: Serve) -> None:
    client = await serve(role="worker", redis_url="redis://127.0.0.1")
    assert (await read(client))["handrail_timer_overdue_seconds"] == 0


async def test_the_documentation_has_every_metric_by_its_exact_name(serve: Serve) -> None:
    client = await serve()
    text = (await client.get("/metrics")).text
    exposed = set(re.findall(r"^# TYPE (handrail_\S+)", text, re.MULTILINE))
    told = set(re.findall(r"`(handrail_[a-z_]+)(?:\{[a-z]+\})?`", (ROOT / "docs" / "operating.md").read_text()))
    assert told == exposed


def test_every_counter_has_a_meaning() -> None:
    """What the server counts is there from the start, with a help text, and not under a name of its own making."""
    named = re.compile(r"(ws|http|cut|handshakes|connections|messages|posts|requests)_[a-z_]*[a-z]")
    counted = set()
    for path in (ROOT / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and named.fullmatch(node.value):
                counted.add(node.value)
    options = {"http_version", "ws_max_size", "ws_per_message_deflate", "ws_ping_interval", "ws_ping_timeout"}
    assert counted - options - {*COUNTERS, *GAUGES} == set()
