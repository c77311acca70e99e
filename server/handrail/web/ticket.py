"""`POST /v1/ticket`: a page shows its token in a header and gets what it may show in an address, once."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.inputs import BadInput
from handrail.identity import Caller, Identity
from handrail.profiles import PASSING, Profiles
from handrail.runner import Runner
from handrail.tickets import TICKET_FOR, Tickets
from handrail.web.admin import bearer
from handrail.web.problems import refusal, store_down


def routes(runner: Runner, identity: Identity) -> list[Route]:
    profiles, tickets = Profiles(runner), Tickets(runner.store, runner.clock)

    async def answer(request: Request) -> Response:
        try:
            caller = _show_token(identity, request)
            await profiles.vet(caller)
            ticket = await tickets.issue(caller)
        except BadInput as fault:
            return refusal(fault)
        except PASSING:
            return store_down(request)
        told = {"ticket": ticket, "expires_in": TICKET_FOR // 1000}
        return Response(msgspec.json.encode(told), media_type="application/json", headers={"Cache-Control": "no-store"})

    return [Route("/v1/ticket", answer, methods=["POST"])]


def _show_token(identity: Identity, request: Request) -> Caller:
    if not identity.needs_token:
        raise BadInput("no-tickets", "This server takes no tokens.", "Open the stream with `user_id`.")
    return identity.authenticate(bearer(request), None, None)
