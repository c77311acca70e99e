"""Liveness and readiness."""

from __future__ import annotations

from servers import Serve


async def test_ready_with_the_rules_that_are_live(serve: Serve) -> None:
    client = await serve()
    report = (await client.get("/readyz")).json()
    assert report["ready"] is True
    assert report["store"]["reachable"] is True
    assert (report["rules"]["files"], report["rules"]["triggers"], report["rules"]["problems"]) == (1, 1, [])
    assert report["rules"]["version"]
    assert (await client.get("/healthz")).json() == {"live": True}


async def test_without_a_good_rule_set_it_serves_and_is_not_ready(serve: Serve) -> None:
    (serve.folder / "bad.yaml").write_text("trigger: x\nwhen: {evnt: y}\nthen: [{prompt: z}]\n")
    client = await serve()
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    report = answer.json()["rules"]
    assert report["loaded"] is False
    assert any("bad.yaml:2:" in problem for problem in report["problems"])
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.post("/v1/track", json={"userId": "ann", "event": "greeted"})).status_code == 200


async def test_a_worker_serves_its_health_and_nothing_else(serve: Serve) -> None:
    client = await serve(role="worker", redis_url="redis://127.0.0.1")
    assert (await client.get("/readyz")).status_code == 200
    for path in ("/v1/track", "/client/handrail.js", "/demo", "/updates/sse"):
        assert (await client.get(path)).status_code == 404
