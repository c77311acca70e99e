"""One message to everybody as server-sent events, with sse-starlette: a queue for each stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

queues: set[asyncio.Queue[str]] = set()


async def messages() -> AsyncIterator[dict[str, str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield {"event": "content", "data": await queue.get()}
    finally:
        queues.discard(queue)


async def updates(request: Request) -> Response:
    response: Response = EventSourceResponse(messages())
    return response


async def publish(request: Request) -> Response:
    message = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(message)
    return Response()


app = Starlette(routes=[Route("/updates", updates), Route("/publish", publish, methods=["POST"])])
