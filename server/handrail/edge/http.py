"""uvicorn's HTTP protocol, held to bounds: how large a request may be, and how long it may take to come."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from enum import Enum
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from handrail.edge.channel import Channel
from handrail.edge.handshake import Handshake
from handrail.edge.refusals import BAD, BODY, HEADER, SLOW, UPGRADE, Refusal, Refused, compose
from handrail.edge.shared import find_shared
from handrail.edge.stream import EventStream, Listener
from handrail.edge.websocket import WebSocket

PING_EVERY = 20.0  # seconds between pings, which find peers that went without a word; they have as long to answer
HEAD_WITHIN = 5.0  # seconds for a whole header, from the connection's beginning or the request's
BODY_TICK = 5.0  # seconds between two looks at a body that comes slowly
BODY_LEAST = 10 * 1024  # bytes of it that must have come meanwhile
END = b"\r\n\r\n"  # of a head
MAX_HEAD = 16 * 1024  # bytes
MAX_FIELDS = 64  # of a header; a browser behind two proxies sends some thirty
MAX_LINE = 8_000  # bytes of a line that asks for a WebSocket: what the parser of handshakes takes
MAX_BODY = 64 * 1024  # bytes, as they are on the wire
MAX_EVENTS = 1024 * 1024  # bytes for a body of events; ingest takes less and says so in its own words
EVENTS = b"/v1/"
LIVE = b"/updates/"  # event streams of pages
STREAM = "handrail.stream"  # in the scope's extensions of these: the way to answer with an event stream
MAX_PIPELINED = 16  # requests that wait for the answer to an earlier one

Fields = list[tuple[bytes, bytes]]


class Stage(Enum):
    """How far the present request has come."""

    NONE = "none"
    HEAD = "head"
    BODY = "body"


class Http(HttpToolsProtocol):
    head_within = HEAD_WITHIN
    body_tick = BODY_TICK
    transport: Channel

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = find_shared(app_state, self.loop, server_state, config.ws_ping_interval or PING_EVERY)
        self.counts = self._shared.counts
        self._serve, self.app = self.app, self._observe
        self._stage = Stage.NONE
        self._began = False  # in the piece at hand
        self._raw = 0  # bytes of this request since the piece it began in
        self._size = 0  # bytes of its body, as the application has them
        self._limit = MAX_BODY
        self._seen = 0
        self._timer: TimerHandle | None = None
        self._upgraded = False
        self._tail = b""  # the last bytes that came
        self._handshake: Handshake | None = None
        self._wants_upgrade: bool | None = None
        self._refusal: Refusal | None = None

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Channel(transport, self._shared))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.transport.lost(exc)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.ignores(len(data)):
            return
        if self._upgraded:  # to what is unknown here
            self.transport.received(len(data))
            return
        self._began = False
        self._tail = (self._tail + data if len(data) < len(END) else data)[-len(END) :]
        super().data_received(data)
        if self._handshake is not None and self._tail != END:  # it spoke on before it was answered
            self._handshake.data_received(b"")
        if self.transport.is_closing() or self._upgraded:
            return
        self._raw = 0 if self._began else self._raw + len(data)
        if (self._stage is Stage.HEAD and self._raw > MAX_HEAD) or len(self.headers or ()) > MAX_FIELDS:
            self._turn_away(HEADER)
        elif self._raw > MAX_HEAD + 2 * self._limit:  # chunks with more about them than in them
            self._turn_away(BODY)
        elif self._timer is None:
            self._mind_the_rest()

    # --- time ---

    def _mind_the_rest(self) -> None:
        """Something is still to come; see that it does."""
        if self._stage is Stage.BODY:
            self._seen = self._raw
            self._timer = self.loop.call_later(self.body_tick, self._check_body)
        elif self._stage is Stage.HEAD or self.cycle is None or self.cycle.response_complete:
            self._await_head()

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.head_within, self._miss_head)

    def _miss_head(self) -> None:
        self._timer = None
        if not self.transport.reads:  # it waits for its turn
            self._await_head()
        elif self._stage is Stage.HEAD:
            self._turn_away(SLOW)
        elif not self.transport.is_closing():
            self.counts.add("http_closed_silent")
            self.transport.close()

    def _check_body(self) -> None:
        self._timer = None
        if self._stage is not Stage.BODY or self.transport.is_closing():
            return
        if self.transport.reads and self._raw - self._seen < BODY_LEAST:
            self._turn_away(SLOW)
        else:
            self._mind_the_rest()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- what the parser finds ---

    def on_message_begin(self) -> None:
        self._stage, self._began, self._wants_upgrade = Stage.HEAD, True, None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        events = self.url.startswith(EVENTS)
        self._limit = MAX_EVENTS if events else MAX_BODY
        self._check_head()
        if len(self.pipeline) >= MAX_PIPELINED or self.parser.get_http_version() not in ("1.0", "1.1"):
            self._refuse(BAD)
        if not events and self.url.startswith(LIVE):
            self.transport.go_live()
            self.scope["extensions"] = {STREAM: self._stream}  # type: ignore[dict-item]
        super().on_headers_complete()
        self._stage, self._size = Stage.BODY, 0

    def _should_upgrade(self) -> bool:
        """As uvicorn judges it, but once; it asks four times."""
        if self._wants_upgrade is None:
            self._wants_upgrade = super()._should_upgrade()
        return self._wants_upgrade

    def _check_head(self) -> None:
        """Refuse a header for its size, or a body for what the header says of it, which the parser saw it does once."""
        size, longest, length = len(self.url), len(self.url), 0
        for name, value in self.headers:
            line = len(name) + len(value)
            size += line + 4
            if line > longest:
                longest = line
            if name == b"content-length":
                length = int(value)
        if size > MAX_HEAD or len(self.headers) > MAX_FIELDS:
            self._refuse(HEADER)
        if length > self._limit:
            self._refuse(BODY)
        if self.parser.should_upgrade() and self._should_upgrade():
            if length or any(name == b"transfer-encoding" for name, _ in self.headers):
                self._refuse(UPGRADE)
            if longest > MAX_LINE:
                self._refuse(HEADER)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._limit:
            self._refuse(BODY)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._stage = Stage.NONE
        super().on_message_complete()

    # --- refusing ---

    def _refuse(self, refusal: Refusal) -> None:
        """Leave the parser; uvicorn then wants to answer 400."""
        self._refusal = refusal
        raise Refused

    def send_400_response(self, msg: str) -> None:
        self._turn_away(self._refusal or BAD)

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer in place of the application, where nothing else is being answered, and part."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        self.counts.add(refusal.counter)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            speechless = cycle.response_started or self._stage is not Stage.BODY or self.pipeline
            cycle.disconnected = True
            cycle.message_event.set()
            if speechless:
                self.transport.abort()
                return
        elif self._stage is Stage.BODY:  # it has its answer, and sends on
            self.transport.abort()
            return
        self.transport.write(compose(refusal, self.server_state.default_headers))
        self.transport.part()

    # --- the application ---

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except ClientDisconnect:  # while its body was awaited: nobody's fault here
            self.counts.add("http_left_early")

    def handle_websocket_upgrade(self) -> None:
        """Hand everything over; nothing of this object is needed any more."""
        self._upgraded = True
        self._stop_timer()
        self.connections.discard(self)
        socket = self.config.ws_protocol_class
        assert socket is not None
        assert issubclass(socket, WebSocket)
        self._handshake = Handshake(self._shared, self.transport, socket, self.server_state.default_headers)
        if (task := self._handshake.begin(self._serve, self.scope, self.url)) is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        self.parser = self.app = None  # type: ignore[assignment]  # they refer to this object, and would outlive it

    def _stream(self, listener: Listener, fields: Fields) -> EventStream | None:
        """Answer the request with a stream, which has the connection from now on; None when the peer is gone. What was
        asked for behind it is not answered."""
        if self.transport.is_closing() or self.pipeline:
            self.transport.abort()
            return None
        self._stop_timer()
        self.connections.discard(self)
        self.cycle.disconnected = True
        self.parser = self.app = None  # type: ignore[assignment]
        return EventStream(self._shared, self.transport, listener, [*self.server_state.default_headers, *fields])

    def _unsupported_upgrade_warning(self) -> None:
        """Answer as if nothing had been asked for, and close: what comes next is in a protocol unknown here."""
        self._upgraded = True
        self.counts.add("http_ignored_upgrade")
        if self.cycle is not None:
            self.cycle.keep_alive = False
