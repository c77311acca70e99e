"""One message to everybody, with python-socketio and its Redis manager."""

from __future__ import annotations

import os

import socketio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

sio = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncRedisManager(os.environ["STORE"]))


async def publish(request: Request) -> Response:
    await sio.emit("message", await request.json())
    return Response()


app = socketio.ASGIApp(sio, other_asgi_app=Starlette(routes=[Route("/publish", publish, methods=["POST"])]))
