"""Liveness and readiness."""

from __future__ import annotations

from pathlib import Path

import httpx2
from starlette.applications import Starlette

from handrail.lag import LIMIT, Lag
from handrail.store import MemoryStore, RedisStore
from handrail.web.health import routes
from masters import EVERYSEC, Master
from servers import Serve


async def test_ready_with_the_rules_that_are_live(serve: Serve) -> None:
    client = await serve()
    report = (await client.get("/readyz")).json()
    assert (report["ready"], report["why_not"]) == (True, [])
    assert report["store"]["reachable"] is True
    assert (report["rules"]["files"], report["rules"]["triggers"], report["rules"]["problems"]) == (1, 1, [])
    assert report["rules"]["version"]
    assert (await client.get("/healthz")).json() == {"live": True}


async def test_without_a_good_rule_set_it_serves_and_is_not_ready(serve: Serve) -> None:
    (serve.folder / "bad.yaml").write_text("trigger: x\nwhen: {evnt: y}\nthen: [{prompt: z}]\n")
    client = await serve()
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["why_not"] == ["the rules were never read without a fault"]
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


async def test_a_loop_that_was_held_up_too_long_is_not_ready_and_a_trigger_switched_off_is_told() -> None:
    lag = Lag()
    off: list[str] = []
    application = Starlette(routes=routes(MemoryStore(), Rules(), lambda: False, switched_off=lambda: off, lag=lag))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://handrail") as client:
        assert (await client.get("/readyz")).status_code == 200
        off.append("bad")
        lag.note(LIMIT - 1)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["rules"]["switched_off"]) == (200, ["bad"])
        lag.note(LIMIT)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["loop"]) == (503, {"worst_lag_ms": LIMIT})


async def test_where_nothing_is_acknowledged_for_want_of_a_replica_it_is_not_ready(
    serve: Serve, tmp_path: Path
) -> None:
    with Master(tmp_path / "master", **EVERYSEC) as master, Master(tmp_path / "replica", **EVERYSEC) as replica:
        store = await RedisStore.connect(master.url, ack="replicated")
        client = await serve(store=store)
        answer = await client.get("/readyz")
        (why,) = answer.json()["why_not"]
        assert (answer.status_code, answer.json()["store"]["reachable"]) == (503, True)
        assert f"no replica keeps up with redis://127.0.0.1:{master.port}/0" in why
        assert why.endswith("(HANDRAIL_ACK=replicated)")
        replica.follow(master)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["why_not"]) == (200, [])
        master.kill()
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["store"]["reachable"]) == (503, False)
        await store.close()


class Rules:
    loaded, version, files, triggers, problems = True, "v1", 1, 1, ()
