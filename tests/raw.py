"""HTTP by hand, for what no client library would send."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

WITHIN = 10.0  # seconds
Header = tuple[str, str | bytes]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    port: int, method: str, target: str, headers: list[Header] | None = None, body: bytes = b"", *, host: str = "x"
) -> Answer:
    """One request as it is written here; the body of an endless answer is not read. Status 0: none came."""
    lines = [f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape"), f"Host: {host}".encode()]
    for name, value in headers or []:
        lines.append(name.encode() + b": " + (value.encode() if isinstance(value, str) else value))
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(WITHIN):
            with suppress(ConnectionError):  # the answer may be there although not all was taken
                writer.write(b"\r\n".join([*lines, b"", b""]) + body)
                await writer.drain()
            return await _read(reader, bodiless=method == "HEAD")
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, *, bodiless: bool) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, {}, b"")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = b"" if bodiless else await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(head[0].split()[1]), headers, body)


UPGRADE: list[Header] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]
