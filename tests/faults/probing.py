"""How a healthy page fares: `python probing.py PORT` asks again and again until its input ends, then says how long
answers took, in milliseconds. It is a process of its own, so that what attacks the server does not slow it down."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from time import perf_counter

PAUSE = 0.01  # seconds between an answer and the next question
KEY = b"\x00" * 4  # a mask that changes nothing
PING = b"\x89\x04"  # the server's, with four bytes to give back


def ask(port: int) -> list[float]:
    """How long each answer took, in the order of asking."""
    with socket.create_connection(("127.0.0.1", port), 10) as page:
        page.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        page.sendall(
            b"GET /updates HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        listen(page, b"\r\n\r\n")
        say(page, {"type": "hello", "user_id": "well"})
        listen(page, b'"welcome"')
        print("asking", flush=True)
        took = []
        while not select.select([0], [], [], PAUSE)[0]:
            asked = perf_counter()
            say(page, {"type": "ping"})
            listen(page, b'"pong"')
            took.append((perf_counter() - asked) * 1e3)
        return took


def say(page: socket.socket, message: object) -> None:
    data = json.dumps(message).encode()
    page.sendall(bytes([129, 128 | len(data)]) + KEY + data)


def listen(page: socket.socket, wanted: bytes) -> None:
    heard = b""
    while wanted not in heard:
        more = page.recv(65_536)
        assert more, "the healthy page was closed"
        heard += more
        if (ping := heard.find(PING)) >= 0 and len(heard) >= ping + 6:
            page.sendall(b"\x8a\x84" + KEY + heard[ping + 2 : ping + 6])
            heard = heard[:ping] + heard[ping + 6 :]


if __name__ == "__main__":
    found = sorted(ask(int(sys.argv[1])))
    os.write(1, json.dumps({"n": len(found), "p99": found[len(found) * 99 // 100], "max": found[-1]}).encode())
