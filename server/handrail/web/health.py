"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.problems import Problem
from handrail.lag import LIMIT, Lag
from handrail.store.protocol import Store, StoreDown


class RulesReport(Protocol):
    """What is to be known of the rules that are live; `loaded` is False until a fault-free set was first read."""

    @property
    def loaded(self) -> bool: ...
    @property
    def version(self) -> str: ...
    @property
    def files(self) -> int: ...
    @property
    def triggers(self) -> int: ...
    @property
    def problems(self) -> tuple[Problem, ...]: ...


def routes(
    store: Store,
    rules: RulesReport,
    draining: Callable[[], bool],
    *,
    switched_off: Callable[[], Sequence[str]],
    lag: Lag,
) -> list[Route]:
    """Triggers that are `switched_off` are told, and no reason not to serve."""

    async def live(_request: Request) -> Response:
        return _json({"live": True}, 200)

    async def ready(_request: Request) -> Response:
        stored, troubles = await _store_report(store)
        troubles += _own_troubles(rules, draining(), lag)
        able = not troubles
        report = {
            "ready": able,
            "why_not": troubles,
            "draining": draining(),
            "store": stored,
            "rules": {**_rules_report(rules), "switched_off": list(switched_off())},
            "loop": {"worst_lag_ms": round(lag.worst)},
        }
        return _json(report, 200 if able else 503)

    return [Route("/healthz", live), Route("/readyz", ready)]


async def _store_report(store: Store) -> tuple[dict[str, Any], list[str]]:
    """What is to be told of the store, and what of it is a reason not to serve."""
    try:
        report: dict[str, Any] = {"reachable": True, "round_trip_ms": round(await store.ping() * 1000, 2)}
        shortfall = await store.shortfall()
    except StoreDown as fault:
        detail = str(fault) or "the store does not answer"
        return {"reachable": False, "detail": detail}, [detail]
    if shortfall is None:
        return report, []
    return report | {"detail": shortfall.text}, [shortfall.text] if shortfall.whole else []


def _own_troubles(rules: RulesReport, draining: bool, lag: Lag) -> list[str]:
    found = {
        "the rules were never read without a fault": not rules.loaded,
        "the process is about to stop": draining,
        "the event loop was held up": lag.worst >= LIMIT,
    }
    return [text for text, holds in found.items() if holds]


def _rules_report(rules: RulesReport) -> dict[str, Any]:
    return {
        "loaded": rules.loaded,
        "version": rules.version,
        "files": rules.files,
        "triggers": rules.triggers,
        "problems": [str(each) for each in rules.problems],
    }


def _json(body: object, status: int) -> Response:
    return Response(
        msgspec.json.encode(body), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
