"""The edge: bounds on what a peer may do with a socket, below what an ASGI application can see.

uvicorn's HTTP protocol is subclassed for what it leaves unbounded (headers, bodies, silence, peers that take nothing).
WebSockets are served here from the handshake on, by the `websockets` library's state machine wherever a frame is not
quite usual. What is refused is counted, never logged: any caller can bring it about.
"""

from __future__ import annotations

from typing import Any

from handrail.edge.http import PING_EVERY, Http
from handrail.edge.websocket import WebSocket

__all__ = ["Http", "WebSocket", "options"]

KEEP_ALIVE = 5  # seconds that a connection may rest between two requests


def options() -> dict[str, Any]:
    """What uvicorn is to be configured with."""
    return {
        "http": Http,
        "ws": WebSocket,
        "ws_ping_interval": PING_EVERY,
        "timeout_keep_alive": KEEP_ALIVE,
    }
