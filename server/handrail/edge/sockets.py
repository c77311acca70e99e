"""Options of the listening socket that every connection inherits, below what ASGI can reach."""

from __future__ import annotations

import socket

UNREAD_MS = 5_000  # how long a peer may leave what was sent unread before the kernel drops it
SEND_BUFFER = 64 * 1024  # bytes the kernel holds for one peer; Linux doubles it, for its own bookkeeping
RECEIVE_BUFFER = 64 * 1024  # bytes of one peer that may wait to be read; without it Linux goes to many megabytes


def harden(listening: socket.socket) -> socket.socket:
    """Bound what one peer can cost: memory by the buffers, time by how long it may leave the last word unread."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sees to it only where it made the socket
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listening
