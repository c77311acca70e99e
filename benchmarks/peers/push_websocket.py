"""One message to everybody, with Starlette's WebSockets: the connection manager of its tutorials."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

connected: set[WebSocket] = set()


async def updates(socket: WebSocket) -> None:
    await socket.accept()
    connected.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        connected.discard(socket)


async def publish(request: Request) -> Response:
    message = (await request.body()).decode()
    for socket in list(connected):
        await socket.send_text(message)
    return Response()


app = Starlette(routes=[WebSocketRoute("/updates", updates), Route("/publish", publish, methods=["POST"])])
