"""The edge: bounds on what a peer may do with a socket, below what an ASGI application can see.

uvicorn's two protocols are subclassed for what they leave unbounded: headers, bodies, fragments, control frames,
silence, and peers that take nothing. What is refused is counted, never logged: any caller can bring it about.
"""

from __future__ import annotations

from typing import Any

from handrail.edge.http import Http
from handrail.edge.websocket import WebSocket

__all__ = ["Http", "WebSocket", "options"]

MAX_MESSAGE = 64 * 1024  # bytes of one WebSocket message; an event may have a quarter of that
PING_EVERY = 20.0  # seconds between pings, which find peers that went without a word
PONG_WITHIN = 20.0  # seconds for the answer
KEEP_ALIVE = 5  # seconds that a connection may rest between two requests


def options() -> dict[str, Any]:
    """What uvicorn is to be configured with."""
    return {
        "http": Http,
        "ws": WebSocket,
        "ws_per_message_deflate": False,  # an idle socket that deflated once holds three times the memory
        "ws_max_size": MAX_MESSAGE,
        "ws_ping_interval": PING_EVERY,
        "ws_ping_timeout": PONG_WITHIN,
        "timeout_keep_alive": KEEP_ALIVE,
    }
