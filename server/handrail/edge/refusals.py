"""What a request is told that is refused before the application hears of it: problem documents, as anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

import msgspec


class Refused(Exception):
    """The request is not read on; goes no further than the parser."""


class Refusal(NamedTuple):
    status: HTTPStatus
    code: str
    detail: str
    fix: str
    counter: str


HEADER = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "header-too-large",
    "The header is over 16 KB or 64 fields, or one line of a WebSocket's is over 8,000 bytes.",
    "Send fewer or smaller cookies and fields.",
    "http_refused_header",
)
BODY = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "body-too-large",
    "The body is over 64 KB, or over 1 MB for events.",
    "Send smaller batches.",
    "http_refused_body",
)
SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    "The request did not come in time: its header within 5 s, its body at 2 kB/s or more.",
    "Send it again.",
    "http_refused_slow",
)
BAD = Refusal(
    HTTPStatus.BAD_REQUEST,
    "bad-request",
    "This is no HTTP/1.1 request that can be read.",
    "Send one length, one host, and one request after the other.",
    "http_refused_bad",
)
UPGRADE = Refusal(
    HTTPStatus.BAD_REQUEST,
    "bad-request",
    "A request for a WebSocket has no body.",
    "Leave out Content-Length and Transfer-Encoding.",
    "http_refused_upgrade",
)


class Reply(NamedTuple):
    """An answer to a request; `body` is all of it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def compose(refusal: Refusal, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole answer, with these headers besides its own."""
    body = msgspec.json.encode(
        {
            "type": f"urn:handrail:problem:{refusal.code}",
            "title": refusal.status.phrase,
            "status": refusal.status.value,
            "detail": refusal.detail,
            "fix": refusal.fix,
        }
    )
    return compose_reply(Reply(refusal.status, [(b"content-type", b"application/problem+json")], body), headers)


def compose_reply(reply: Reply, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole answer, with these headers besides its own; the connection closes after it."""
    own = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
    lines = [b"%b: %b\r\n" % each for each in [*headers, *own]]
    return b"".join([compose_status(reply.status), *lines, b"\r\n", reply.body])


def compose_status(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
