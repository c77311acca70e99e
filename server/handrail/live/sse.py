"""`/updates/sse`: the same messages as server-sent events; what the client says goes by `POST /v1/…`.

`event:` is the message's type, `id:` its position as `epoch:offset` (on numbered messages and on welcome), which
browsers send back as `Last-Event-ID`. The stream is written without a library: one encoded message is one line of data,
and its ids are made of hexadecimal digits, a colon and decimal digits. An event is encoded once for all streams.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from handrail.core.frames import Hello
from handrail.core.inputs import MAX_ID, BadInput
from handrail.edge.http import STREAM as EXTENSION
from handrail.edge.stream import EventStream, chunk
from handrail.identity import Caller, Headers, check_same_user, with_visitor
from handrail.limits import address_of
from handrail.live import inbound
from handrail.live.arrival import AWAY
from handrail.live.connection import Out, name_kind
from handrail.live.reception import Reception
from handrail.live.refusals import Send, refuse_stream
from handrail.live.visit import Visit
from handrail.live.websocket import Receive
from handrail.quarantine import corrupt_state
from handrail.store.protocol import CorruptState

MAX_QUERY = 16 * 1024

Fields = list[tuple[bytes, bytes]]
_STORE_DOWN = BadInput("store-down", "The store cannot be reached.", "Connect again in a moment.")
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Stream:
    """The ASGI app of the SSE endpoint, on a server that has `handrail.stream`; it ends with the welcome."""

    def __init__(self, desk: Reception) -> None:
        self._desk = desk

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        origin, allowed = read_header(scope, b"origin"), self._desk.gate.page_allowed(scope["headers"])
        cors = _allow(origin) if origin is not None and allowed else []
        if refusal := self._desk.refuse(scope):
            await refuse_stream(send, refusal, cors)
            return
        address = address_of(scope.get("client"))
        try:
            caller, hello = await self._admit(scope, allowed=allowed)
            await self._desk.profiles.vet(caller)
            await self._desk.profiles.arrive(caller)
        except BadInput as fault:
            self._desk.runner.counts.add(f"refused.{fault.code}")
            self._desk.note_failure(fault, address)
            await _refuse(send, fault, cors)
        except AWAY:
            await _refuse(send, _STORE_DOWN, cors)
        except CorruptState:
            await _refuse(send, corrupt_state(), cors)
        else:
            await Lines(self._desk, scope, address).open(scope, [*_HEADERS, *cors], caller, hello)

    async def _admit(self, scope: MutableMapping[str, Any], *, allowed: bool) -> tuple[Caller, Hello]:
        if scope["method"] != "GET":
            raise BadInput("bad-method", "This address only takes GET.", "Open it with EventSource.")
        if not allowed:
            raise BadInput("bad-origin", "Pages of this origin may not connect.", "Add it to HANDRAIL_ORIGINS.")
        given = read_query(scope["query_string"])
        hello = read_hello(given, read_header(scope, b"last-event-id"))
        if "ticket" not in given:
            return self._desk.gate.authenticate(hello.token, hello.user_id, hello.anonymous_id), hello
        caller = await self._desk.tickets.redeem(given["ticket"])
        check_same_user(caller, hello.user_id)
        return with_visitor(caller, hello.anonymous_id), hello


class Lines:
    """One event stream: what the connection has to say goes to the edge."""

    __slots__ = ("_address", "_stream", "_visit")
    name = "sse"

    def __init__(self, desk: Reception, scope: MutableMapping[str, Any], address: str) -> None:
        self._address = address
        self._visit = Visit(desk, self, scope["headers"], address)
        self._stream: EventStream | None = None

    async def open(self, scope: MutableMapping[str, Any], fields: Fields, caller: Caller, hello: Hello) -> None:
        self._stream = scope["extensions"][EXTENSION](self, fields)
        if self._stream is not None:
            self._visit.desk.door.enter(self._address)
            await self._visit.enter(caller, hello)

    # --- what the peer does ---

    def pause_writing(self) -> None:
        self._visit.block()

    def resume_writing(self) -> None:
        self._visit.unblock()

    def ended(self, code: int) -> None:
        self._visit.desk.door.leave(self._address)
        self._visit.leave()

    # --- what the connection does ---

    def write(self, batch: list[Out]) -> None:
        assert self._stream is not None
        if len(batch) == 1:
            self._stream.write(batch[0].lined or _line(batch[0]))
        else:
            self._stream.write(b"".join([out.lined or _line(out) for out in batch]))

    def close(self, code: int, reason: str, reconnect_ms: int) -> None:
        assert self._stream is not None
        self._stream.write(chunk(b"retry: %d\n\n" % reconnect_ms))
        self._stream.close()

    def abort(self) -> None:
        assert self._stream is not None
        self._stream.abort()

    def pause_reading(self) -> None:
        """Nothing is said on a stream."""

    def resume_reading(self) -> None: ...


def _line(out: Out) -> bytes:
    out.lined = chunk(encode_event(out))
    return out.lined


def encode_event(out: Out) -> bytes:
    """One message as an event."""
    place = b"id: %s:%d\n" % (out.epoch.encode(), out.offset) if out.epoch else b""
    return b"event: %s\n%sdata: %s\n\n" % (name_kind(out.data).encode(), place, out.data)


def read_header(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def read_query(query: bytes) -> dict[str, str]:
    """What an address says; of what it says twice, the last. Raises BadInput."""
    if len(query) > MAX_QUERY:
        raise BadInput("too-large", "The address is too long.", "Leave out what is not needed.")
    try:
        return {key: values[-1] for key, values in parse_qs(query.decode("ascii"), errors="strict").items()}
    except ValueError:
        raise BadInput("bad-field", "The query cannot be read.", "Encode it as UTF-8 in percent signs.") from None


def read_hello(given: dict[str, str], last_event_id: str | None) -> Hello:
    """The hello an address stands for; a browser that reconnects says where it was in `Last-Event-ID`.

    Raises BadInput.
    """
    epoch, offset = given.get("epoch"), given.get("offset")
    if last_event_id:
        epoch, _, offset = last_event_id.rpartition(":")
    return inbound.check_hello(
        Hello(
            token=given.get("token"),
            user_id=given.get("user_id"),
            anonymous_id=given.get("anonymous_id"),
            device=given.get("device", ""),
            tab=given.get("tab", ""),
            epoch=_read_epoch(epoch),
            offset=_read_offset(offset),
            visible=given.get("visible", "true") != "false",
        )
    )


def _read_epoch(value: str | None) -> str | None:
    """A position that cannot be read is none: the client gets a snapshot."""
    return value if value and len(value) <= MAX_ID and value.isascii() and value.isprintable() else None


def _read_offset(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) <= 15 else None


def _allow(origin: str) -> list[tuple[bytes, bytes]]:
    allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
    return [allowed, (b"access-control-expose-headers", b"Retry-After"), (b"vary", b"Origin")]


async def _refuse(send: Send, fault: BadInput, cors: Headers) -> None:
    statuses = {
        "bad-token": 401,
        "bad-ticket": 401,
        "token-expired": 401,
        "token-revoked": 401,
        "bad-origin": 403,
        "known-visitor": 410,
        "bad-method": 405,
        "store-down": 503,
        "corrupt-state": 500,
    }
    status = statuses.get(fault.code, 400)
    body = {
        "type": f"urn:handrail:problem:{fault.code}",
        "title": "The stream cannot be opened",
        "status": status,
        "detail": fault.message,
        "fix": fault.fix,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), *cors]
    headers += {503: [(b"retry-after", b"1")], 405: [(b"allow", b"GET")]}.get(status, [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})
