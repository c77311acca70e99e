"""`GET /api/tail`: the event log as JSON Lines, what is kept of it and, unless told otherwise, what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from handrail import eventlog
from handrail.core.durations import parse_duration
from handrail.core.inputs import BadInput
from handrail.core.program import Program
from handrail.identity import Identity, check_user
from handrail.store.protocol import Store, StoreDown
from handrail.web.admin import check_admin
from handrail.web.problems import refusal, store_down

BEAT_S = 5.0  # an empty line, so that nobody between takes the stream for dead
LOOK_UP_S = 0.5  # how soon a draining server ends the stream
_encode = msgspec.json.Encoder().encode


def routes(
    store: Store,
    program: Callable[[str], Program],
    identity: Identity,
    *,
    clock: Callable[[], int],
    draining: Callable[[], bool],
) -> list[Route]:
    """`program` gives the rules a user lives by, `clock` milliseconds since the epoch."""

    async def answer(request: Request) -> Response:
        asked = request.query_params
        try:
            check_admin(identity, request)
            user = check_user(asked["user"]) if "user" in asked else None
            start = clock() - _span(asked.get("since", "0s"))
            live = _flag(asked.get("follow", "true"))
        except BadInput as fault:
            return refusal(fault)
        try:
            await store.ping()
        except StoreDown:
            return store_down(request)
        lines = (eventlog.spell_out(line, program) async for line in store.follow(user, start, live=live))
        return StreamingResponse(_stream(lines, draining), media_type="application/x-ndjson")

    return [Route("/api/tail", answer)]


async def _stream(lines: AsyncIterator[dict[str, Any]], draining: Callable[[], bool]) -> AsyncIterator[bytes]:
    coming = asyncio.ensure_future(anext(lines))
    quiet = 0.0
    try:
        while not draining():
            await asyncio.wait({coming}, timeout=LOOK_UP_S)
            if coming.done():
                quiet = 0.0
                try:
                    yield _encode(coming.result()) + b"\n"
                except StopAsyncIteration:
                    return
                coming = asyncio.ensure_future(anext(lines))
                continue
            quiet += LOOK_UP_S
            if quiet >= BEAT_S:
                quiet = 0.0
                yield b"\n"
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _span(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as fault:
        raise BadInput("bad-field", f"`since` is no duration: {fault}.", "Write it as 30m, 24h or 7d.") from None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise BadInput("bad-field", "`follow` is true or false.", "Leave it out for true.")
    return text == "true"
