"""Who may use the admin API, and `POST /api/users/{id}/revoke`, which ends the tokens of a user."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.events import Revoke
from handrail.core.inputs import BadInput
from handrail.identity import Identity, check_user
from handrail.profiles import PASSING
from handrail.runner import Runner
from handrail.web.problems import refusal, store_down


def routes(runner: Runner, identity: Identity) -> list[Route]:
    async def answer(request: Request) -> Response:
        try:
            check_admin(identity, request)
            user = check_user(request.path_params["user"])
            at = await revoke(runner, user)
        except BadInput as fault:
            return refusal(fault)
        except PASSING:
            return store_down(request)
        told = {"user": user, "min_iat": at // 1000 + 1}
        return Response(msgspec.json.encode(told), media_type="application/json")

    return [Route("/api/users/{user:path}/revoke", answer, methods=["POST"])]


async def revoke(runner: Runner, user: str) -> int:
    """End every token of the user issued until now, in ms since the epoch, which is returned.

    Raises StoreDown or TooManyConflicts: it may not have happened, and is to be asked for again.
    """
    event = Revoke(at=runner.clock())
    await runner.submit(user, event)
    await runner.store.announce(user)
    return event.at


def check_admin(identity: Identity, request: Request) -> None:
    """Raises BadInput `bad-admin-key`, or `bad-origin` where no key is needed and a page elsewhere asks."""
    identity.check_admin_key(bearer(request))
    if not identity.needs_admin_key and not identity.page_allowed(request.headers.raw):
        raise BadInput("bad-origin", "Pages of this origin may not use the admin API.", "Set HANDRAIL_ADMIN_KEY.")


def bearer(request: Request) -> str | None:
    """The key of `Authorization: Bearer KEY`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
