"""One connection's conversation from hello to goodbye, whichever way its bytes travel.

Before the hello only a hello is understood. Then every message is an event for the runner or a word to the connection
itself. A message that cannot be used is answered with an `error` and the conversation goes on. While the store is away
the conversation stays open: events wait here, in order and unacknowledged, and are submitted again until the store has
them. Whoever says hello meanwhile, or sends more than may wait, is sent away with a code that brings them back.

Nothing here waits: while a visit cannot take more, it has its transport hold back what comes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from enum import IntFlag
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from handrail.core import frames
from handrail.core.events import Connected, Event
from handrail.core.frames import (
    ActivityMessage,
    ClientMessage,
    ConsentMessage,
    Hello,
    IdentifyMessage,
    Ping,
    Pong,
    Renewed,
    Seen,
    TokenMessage,
    TrackMessage,
)
from handrail.core.inputs import BadInput
from handrail.identity import Caller, Headers, check_expiry, check_standing
from handrail.limits import TooMuch
from handrail.live import inbound
from handrail.live.arrival import PENALTY_MS, arrive, enter
from handrail.live.connection import IDLE, STORE_AWAY, TOO_MUCH, Connection, Transport
from handrail.live.pace import Pace
from handrail.live.presence import departure
from handrail.live.reception import FINAL, RECONNECT_MS, Reception, dismiss, name_connection
from handrail.profiles import known_visitor
from handrail.quarantine import corrupt_state
from handrail.runner import TooManyConflicts
from handrail.store.protocol import CorruptState, StoreDown
from handrail.surroundings import read_headers
from handrail.turns import Outcome

UNSETTLED = 256  # events of one connection on their way to the store before it is read no further
AGAIN = (0.5, 1.5)  # seconds, by chance between these, after which what the store did not take is submitted again
HELD_BACK = 0.01  # seconds for which a connection is not read after a message was refused: it cannot flood us with them

log = structlog.get_logger(__name__)
_PONG = frames.encode(Pong())
_STORE_AWAY = BadInput(
    "store-down",
    "The store cannot be reached; this was not stored.",
    "Connect again and send what was not acknowledged: nothing is applied twice.",
)
_STORE_PAUSES = BadInput(
    "store-down",
    "The store cannot be reached; events wait here until it can.",
    "Keep what is not acknowledged: should this connection close, send it again on the next.",
)
_FAULT = BadInput("fault", "Handrail could not apply this event. The server's log says more.", "Do not send it again.")


class Hold(IntFlag):
    """Why a visit is not read at present."""

    NONE = 0
    HELLO = 1  # it is being let in
    PENALTY = 2  # it sent too much
    UNSETTLED = 4  # too much of it is on its way to the store
    CROWDED = 8  # it does not take what it is sent


class _Sent(Struct, eq=False):
    """An event on its way to the store; `id` is what is acknowledged, if anything is. Without a `future` it waits to be
    submitted again. `settled` is the connection's epoch when the store had it, None before."""

    event: Event
    id: str | None
    future: asyncio.Future[Outcome] | None = None
    settled: str | None = None


class Visit:
    """`headers` are those of the handshake, `address` is where it came from."""

    __slots__ = (
        "_active",
        "_address",
        "_again",
        "_holds",
        "_late",
        "_opening",
        "_pace",
        "_transport",
        "_unsettled",
        "_warned",
        "connected",
        "connection",
        "context",
        "desk",
        "known",
        "left",
        "user",
    )

    def __init__(self, desk: Reception, transport: Transport, headers: Headers = (), address: str = "") -> None:
        self._address = address
        self._transport = transport
        self._pace = Pace(desk.limits)
        self._holds = Hold.NONE
        self._late: asyncio.TimerHandle | None = None
        self._unsettled: list[_Sent] = []
        self._again: asyncio.TimerHandle | None = None
        self._warned = False  # that the store is away
        self._active = 0  # when the user was last active here
        self._opening: Connected | None = None
        self.desk = desk
        self.context: dict[str, Any] = read_headers(headers, desk.country_header)
        self.connected = False
        self.connection = Connection(name_connection(), transport, desk.hub)
        self.known = True
        self.left = False
        self.user = ""

    # --- coming in ---

    def expect_hello(self, within: float) -> None:
        """Send the visitor away who does not say who they are."""
        self._late = asyncio.get_running_loop().call_later(within, self._miss_hello)

    def _miss_hello(self) -> None:
        if not self.user:
            self.connection.finish(IDLE, "no hello came")

    def identify(self, caller: Caller) -> None:
        """This is who it is."""
        self.user, self.known = caller.user, caller.known
        self._accept(caller)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    async def enter(self, caller: Caller, hello: Hello) -> None:
        """Let somebody in who was asked who they are by other means."""
        await self._coming_in(enter(self, caller, hello))

    def _say_hello(self, hello: Hello) -> None:
        if self.user:
            raise BadInput("already-welcomed", "This connection was welcomed already.", "Open another connection.")
        self._hold(Hold.HELLO)
        self.desk.runner.look_after(self._coming_in(arrive(self, hello)))

    async def _coming_in(self, work: Coroutine[Any, Any, None]) -> None:
        self._hold(Hold.HELLO)
        try:
            await work
        except BadInput as fault:
            self.refuse(fault, None)
        except Exception:  # the rim of a connection, which nobody else sees
            log.exception("a connection failed on its way in")
            self._transport.abort()
        finally:
            self._release(Hold.HELLO)
        if self.left:
            await self._leave()

    def open(self, opening: Connected) -> asyncio.Future[Outcome]:
        """Record that the user is here."""
        self._opening = opening
        self._active = opening.at - opening.idle_ms
        self.connected = True
        self.connection.on_forgotten = self._forgotten
        return self._send(self._queue(opening))

    def _forgotten(self) -> None:
        self.desk.runner.look_after(self._open_again())

    async def _open_again(self) -> None:
        """The store lost that this connection is open: say so once more, as it is now."""
        runner = self.desk.runner
        if self._opening is None or self.left or self.connection.closing:
            return
        try:
            await runner.store.enlist(runner.node, self.user)
        except (StoreDown, CorruptState):
            self.store_away()
            return
        if self.left:
            return
        now = runner.clock()
        again = {"id": f"{self.connection.id}.open.{inbound.new_id()}", "at": now, "idle_ms": now - self._active}
        self._submit(msgspec.structs.replace(self._opening, **again))

    # --- being here ---

    def hear(self, data: bytes) -> None:
        """Take one message. Whatever is wrong with it is answered, never raised."""
        if self.connection.closing:
            return
        try:
            self._pace.check(len(data), self.user)
            self._take(inbound.decode(data))
        except TooMuch as fault:
            self._hold_back(fault, data)
        except BadInput as fault:
            self.refuse(fault, inbound.find_id(data))
        if self.connection.is_crowded:
            self._hold(Hold.CROWDED)
        if len(self._unsettled) >= UNSETTLED:
            self._settle_first()

    def hear_binary(self, data: bytes) -> None:
        try:
            self._pace.check(len(data), self.user)
            raise BadInput("binary-frame", "The message is not text.", "Send JSON in text frames.")
        except TooMuch as fault:
            self._hold_back(fault, b"")
        except BadInput as fault:
            self.refuse(fault, None)

    def _take(self, message: ClientMessage) -> None:
        if isinstance(message, Hello):
            return self._say_hello(message)
        if not self.user:
            raise BadInput(
                "hello-first", "The first message has to be a hello.", "Send `hello` with `user_id` or `token`."
            )
        now = self.desk.runner.clock()
        self._check_token(self.connection.issued, self.connection.expires, now)
        match message:
            case TrackMessage():
                self._active = now
                self._submit(inbound.track_of(message, now), message.id)
            case Ping():
                self.connection.push(_PONG)
            case Seen():
                self.connection.seen = max(self.connection.seen, message.offset)
            case ActivityMessage():
                activity = inbound.activity_of(message, self.connection.id, now)
                self._active = now - activity.idle_ms
                if self._opening is not None:
                    self._opening = msgspec.structs.replace(self._opening, visible=activity.visible)
                self._submit(activity)
            case IdentifyMessage():
                self._submit(inbound.identify_of(message, now), message.id)
            case ConsentMessage():
                self._submit(inbound.consent_of(message, now), message.id)
            case TokenMessage():
                self._renew(message.token, now)

    def _check_token(self, issued: int, expires: int, now: int) -> None:
        """What is said with a token that is over is not taken. Raises BadInput."""
        check_expiry(expires, now)
        if (state := self.desk.runner.recall(self.user)) is not None:
            check_standing(issued, state.revoked)

    def _renew(self, token: str, now: int) -> None:
        """Raises BadInput `token-refused`; the connection goes on with the token it has."""
        try:
            caller = self.desk.gate.authenticate(token, self.user, None)
            if caller.known != self.known:
                raise BadInput("bad-token", "The token is for another kind of user.", "Open another connection.")
            self._check_token(caller.issued or now, caller.expires, now)
        except BadInput as fault:
            raise BadInput("token-refused", fault.message, fault.fix) from None
        self._accept(caller)
        self.connection.push(frames.encode(Renewed(token_expires_in=self.connection.expires_in(now))))

    def _accept(self, caller: Caller) -> None:
        self.connection.issued = caller.issued or self.desk.runner.clock()
        self.connection.expires = caller.expires

    # --- not being heard ---

    def _hold(self, why: Hold) -> None:
        if not self._holds:
            self._transport.pause_reading()
        self._holds |= why

    def _release(self, why: Hold) -> None:
        if self._holds & why:
            self._holds &= ~why
            if not self._holds:
                self._transport.resume_reading()

    def _hold_back(self, fault: TooMuch, data: bytes) -> None:
        """Say when to go on; whoever goes on at once is sent away for a while."""
        self.connection.error(fault, inbound.find_id(data))
        self._hold(Hold.PENALTY)
        asyncio.get_running_loop().call_later(HELD_BACK, self._release, Hold.PENALTY)
        if self.desk.limits.is_abuse(self.user or self.connection.id):
            self.send_off()

    def _settle_first(self) -> None:
        """So much is on its way to the store that the rest has to wait, or if that waits already, comes back later."""
        if self._unsettled[-1].future is None:
            self.store_away()
        else:
            self._hold(Hold.UNSETTLED)

    def block(self) -> None:
        """The peer does not take what it is sent."""
        self.connection.block()

    def unblock(self) -> None:
        self.connection.unblock()
        self._release(Hold.CROWDED)

    # --- events on their way ---

    def _submit(self, event: Event, acknowledge: str | None = None) -> None:
        sent = self._queue(event, acknowledge)
        if self._again is None:
            self._send(sent)

    def _queue(self, event: Event, acknowledge: str | None = None) -> _Sent:
        sent = _Sent(event, acknowledge)
        self._unsettled.append(sent)
        return sent

    def _send(self, sent: _Sent) -> asyncio.Future[Outcome]:
        sent.future = self.desk.profiles.submit(self.user, sent.event, known=self.known)
        sent.future.add_done_callback(partial(self._settled, sent))
        return sent.future

    def _settled(self, sent: _Sent, future: asyncio.Future[Outcome]) -> None:
        self._settle(sent, future)
        if self._holds & Hold.UNSETTLED and (len(self._unsettled) <= UNSETTLED // 2 or sent.future is None):
            self._release(Hold.UNSETTLED)

    def _settle(self, sent: _Sent, future: asyncio.Future[Outcome]) -> None:
        fault = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(fault, StoreDown | TooManyConflicts):
            if future.cancelled() or isinstance(sent.event, Connected):
                self.store_away(sent.id)
            else:
                sent.future = None
                self._wait()
            return
        self._warned = False
        if isinstance(fault, CorruptState):
            self.refuse(corrupt_state(), sent.id)
            return
        if fault is not None:
            self.connection.error(_FAULT, sent.id)
            sent.id = None
        elif isinstance(sent.event, Connected) and future.result().heir:
            self.refuse(known_visitor(), None)  # they became a user while they were being let in
        sent.settled = self.connection.epoch
        self._acknowledge()

    def _wait(self) -> None:
        """Submit what the store did not take once more in a moment, and all that comes until then behind it."""
        if self._again is not None or self.left or self.connection.closing:
            return
        if not self._warned:
            self._warned = True
            self.connection.error(_STORE_PAUSES)
        self._again = asyncio.get_running_loop().call_later(random.uniform(*AGAIN), self._send_again)

    def _send_again(self) -> None:
        self._again = None
        for sent in [sent for sent in self._unsettled if sent.future is None]:
            self._send(sent)

    def _acknowledge(self) -> None:
        """The newest that the store has with all before it: of a user who was only just made known, or of a visitor who
        became one, a later event may be settled before an earlier one. Where another epoch has begun since, it is
        submitted again."""
        newest, unsettled = None, self._unsettled
        while unsettled and (first := unsettled[0]).settled is not None:
            if first.id is not None and first.settled != self.connection.epoch:
                first.settled = None
                self._send(first)
                break
            newest = unsettled.pop(0).id or newest
        if newest is not None:
            self.connection.acknowledge(newest)

    # --- being turned away, leaving ---

    def refuse(self, fault: BadInput, event: str | None) -> None:
        self.desk.runner.counts.add(f"refused.{fault.code}")
        self.connection.error(fault, event)
        self.desk.note_failure(fault, self._address)
        if fault.code in FINAL:
            self.connection.finish(FINAL[fault.code], fault.code)

    def store_away(self, event: str | None = None) -> None:
        self.desk.runner.counts.add("refused.store-down")
        self.connection.error(_STORE_AWAY, event)
        dismiss(self.connection, STORE_AWAY, "store away", RECONNECT_MS)

    def send_off(self) -> None:
        self.desk.limits.offend(self._address)
        dismiss(self.connection, TOO_MUCH, "too many messages", PENALTY_MS, after_ms=PENALTY_MS)

    def leave(self) -> None:
        """The connection is no more."""
        self.left = True
        for timer in (self._again, self._late):
            if timer is not None:
                timer.cancel()
        if not self._holds & Hold.HELLO:  # else whoever lets them in sees them out
            self.desk.runner.look_after(self._leave())

    async def _leave(self) -> None:
        if not self.user:
            return
        desk, connection = self.desk, self.connection
        desk.hub.detach(connection)
        if self.connected:
            await desk.depart(self.user, departure(connection.id, desk.runner.clock()))
        else:  # turned away on the way in
            with suppress(StoreDown):
                await desk.delist(self.user)
