"""`GET /api/quarantine`: what was set aside because it could not be decided or read, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.inputs import BadInput
from handrail.identity import Identity
from handrail.store.protocol import Quarantined, Store, StoreDown
from handrail.web.admin import check_admin
from handrail.web.problems import refusal, store_down


def routes(store: Store, switched_off: Callable[[], Sequence[str]], identity: Identity) -> list[Route]:
    """`switched_off` names the triggers that this process leaves out of decisions."""

    async def answer(request: Request) -> Response:
        try:
            check_admin(identity, request)
            entries = await store.quarantine()
        except BadInput as fault:
            return refusal(fault)
        except StoreDown:
            return store_down(request)
        told = {"entries": [_show(entry) for entry in entries], "switched_off": list(switched_off())}
        body = msgspec.json.encode(told)
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return [Route("/api/quarantine", answer)]


def _show(entry: Quarantined) -> dict[str, Any]:
    return {**msgspec.structs.asdict(entry), "event": _parse(entry.event)}


def _parse(raw: bytes) -> Any:
    """What the store has is only believed to be JSON."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
