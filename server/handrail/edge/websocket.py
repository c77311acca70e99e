"""uvicorn's WebSocket protocol, held to bounds."""

from __future__ import annotations

import asyncio
from asyncio import BaseTransport, TimerHandle
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from handrail.edge.channel import Channel
from handrail.edge.counting import find_counts
from handrail.edge.frames import POLICY, Frames

MESSAGE_WITHIN = 10.0  # seconds from the first byte of a message to its last: 64 kB at 64 kbit/s take eight
MAX_WAITING = 4_096  # messages that came at once and that the application has not had
CLOSE_WITHIN = 2.0  # seconds for the peer to answer a goodbye
INVALID_TEXT = 1007
_BRANCHES = {1002: "ws_refused_frames", INVALID_TEXT: "ws_refused_text", 1009: "ws_refused_size"}


class WebSocket(WebSocketsSansIOProtocol):
    message_within = MESSAGE_WITHIN
    conn: Frames
    transport: Channel

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.counts = find_counts(app_state)
        self.conn = Frames(self.loop.time, max_size=config.ws_max_size, logger=self.logger)
        self.close_timeout = CLOSE_WITHIN
        self._unfinished: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        assert isinstance(transport, Channel)  # the HTTP protocol hands over its own
        transport.go_live()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.lost(exc)
        if self._unfinished is not None:
            self._unfinished.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.ignores(len(data)):
            return
        if self.handshake_initiated and not self.handshake_complete:
            self._drop("ws_refused_early")  # it may not speak before it was answered
            return
        self.transport.received(len(data))
        super().data_received(data)
        if not self.handshake_initiated:
            self._part("ws_refused_handshake")
        elif self.conn.refused is not None:
            self._part(self.conn.refused)
        elif self.conn.unfinished and self._unfinished is None:
            self._unfinished = self.loop.call_later(self.message_within, self._look, self.conn.messages)

    def _look(self, messages: int) -> None:
        """A while ago a message was unfinished, the one after so many."""
        self._unfinished = None
        if not self.conn.unfinished or self.close_sent or self.transport.is_closing():
            return
        if self.conn.messages > messages or not self.transport.reads:  # it is another one, or we do not listen
            self._unfinished = self.loop.call_later(self.message_within, self._look, self.conn.messages)
        else:
            self._refuse(POLICY, "unfinished message", "ws_refused_unfinished")

    def send_receive_event_to_app(self) -> None:
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:  # the application has said goodbye
            return
        if self.queue.qsize() >= MAX_WAITING:
            self._refuse(POLICY, "too many messages at once", "ws_refused_backlog")
        elif self.curr_msg_data_type == "bytes":
            self._hand_over({"type": "websocket.receive", "bytes": data})
        else:
            try:
                self._hand_over({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._refuse(INVALID_TEXT, "invalid UTF-8", _BRANCHES[INVALID_TEXT])

    def _hand_over(self, message: Any) -> None:
        self.queue.put_nowait(message)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def keepalive_timeout(self) -> None:
        self.counts.add("ws_closed_silent")
        super().keepalive_timeout()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:
            self._drop("ws_refused_early")
        else:
            self._part(_BRANCHES.get(self.conn.close_sent.code, "ws_refused_frames"))

    def _refuse(self, code: int, why: str, name: str) -> None:
        self.conn.fail(code, why)
        self._part(name)

    def _part(self, name: str) -> None:
        """Send what is ready, last of all why, and go."""
        self.counts.add(name)
        self.stop_keepalive()
        close = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code if close else 1006, "reason": ""})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.part()

    def _drop(self, name: str) -> None:
        self.counts.add(name)
        self.close_sent = True
        self.transport.abort()
