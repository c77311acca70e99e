"""`GET /api/users/{id}/explain/{trigger}`: why a trigger did or did not fire, from the state as the store has it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.inputs import BadInput
from handrail.core.problems import suggest
from handrail.core.program import Program
from handrail.guard import Guard
from handrail.identity import Identity
from handrail.profiles import find
from handrail.store.protocol import Store, StoreDown
from handrail.web.admin import check_admin
from handrail.web.problems import problem, refusal, store_down


def routes(
    store: Store, program: Callable[[str], Program], guard: Guard, *, identity: Identity, clock: Callable[[], int]
) -> list[Route]:
    """`program` gives the rules that a user lives by, `clock` milliseconds since the epoch."""

    async def answer(request: Request) -> Response:
        user, name = request.path_params["user"], request.path_params["trigger"]
        try:
            check_admin(identity, request)
            state = await find(store, user)
        except BadInput as fault:
            return refusal(fault)
        except StoreDown:
            return store_down(request)
        if state is None:
            return problem(404, f"No user '{user}' was ever seen here: ids are as events name them.", code="no-user")
        rules = program(state.user)
        trigger = rules.triggers.get(name)
        if trigger is None:
            return problem(404, f"No trigger is named '{name}'{suggest(name, rules.triggers)}", code="no-trigger")
        told = msgspec.json.encode(guard.explain(rules, state, trigger, clock()))
        return Response(told, media_type="application/json", headers={"Cache-Control": "no-store"})

    return [Route("/api/users/{user:path}/explain/{trigger}", answer)]
