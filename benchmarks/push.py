"""Servers that keep connections open and send to all of them: Handrail's peers for fan-out and for idle connections."""

from __future__ import annotations

import msgspec

from benchmarks import install
from benchmarks.client import TEXT, frame
from benchmarks.contest import Contestant, asgi_app, nginx_conf, node_script
from benchmarks.crowd import Dialect, Steps, stream, upgrade

MARK = b"all-hands"
SIZE = 250  # bytes of the message
ENGINE_IO = upgrade("/socket.io/?EIO=4&transport=websocket")
JOIN = frame(TEXT, b"40")


def message(body: str = "") -> dict[str, object]:
    """What is sent to everybody: the very content that Handrail sends."""
    block: dict[str, object] = {
        "message": "news",
        "title": MARK.decode(),
        "body": body,
        "actions": [],
        "style": {},
        "variant": None,
    }
    return {"type": "content", "offset": 10, "slot": "top", "block": block}


BODY = "x" * (SIZE - len(msgspec.json.encode(message())))
MESSAGE = msgspec.json.encode(message(BODY))


def _open_websocket(_number: int) -> Steps:
    return [(upgrade("/updates"), b"\r\n\r\n")]


def _open_stream(_number: int) -> Steps:
    return [(stream("/updates"), b"\r\n\r\n")]


def _open_socket_io(_number: int) -> Steps:
    return [(ENGINE_IO, b'"sid"'), (JOIN, b'40{"sid"')]


_WEBSOCKET = Dialect(_open_websocket, MARK)
_STREAM = Dialect(_open_stream, MARK, frames=False)
_SOCKET_IO = Dialect(_open_socket_io, MARK)


def _starlette(*more: str) -> str:
    return install.python_versions("starlette", "uvicorn", *more)


PEERS = (
    Contestant("Nchan", nginx_conf("nchan.conf"), _WEBSOCKET, install.nginx_version),
    Contestant("Node ws", node_script("push.js", "ws"), _WEBSOCKET, lambda: install.node_versions("ws")),
    Contestant(
        "Socket.IO + Redis adapter",
        node_script("push.js", "socketio"),
        _SOCKET_IO,
        lambda: install.node_versions("socket.io", "@socket.io/redis-adapter", "ioredis"),
    ),
    Contestant("Starlette", asgi_app("push_websocket"), _WEBSOCKET, lambda: _starlette("websockets")),
    Contestant(
        "python-socketio + Redis manager",
        asgi_app("push_socketio"),
        _SOCKET_IO,
        lambda: _starlette("python-socketio", "redis"),
    ),
    Contestant("Nchan, SSE", nginx_conf("nchan.conf"), _STREAM, install.nginx_version),
    Contestant("sse-starlette", asgi_app("push_sse"), _STREAM, lambda: _starlette("sse-starlette")),
)
