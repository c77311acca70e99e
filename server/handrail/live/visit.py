"""One connection's conversation from hello to goodbye, whichever way its bytes travel.

Before the hello only a hello is understood. Then every message is an event for the runner or a word to the connection
itself. A message that cannot be used is answered with an `error` and the conversation goes on. While the store is away
the conversation stays open: events wait here, in order and unacknowledged, and are submitted again until the store has
them. Whoever says hello meanwhile, or sends more than may wait, is sent away with a code that brings them back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from handrail.core import frames
from handrail.core.events import Connected, Disconnected, Event
from handrail.core.frames import (
    ActivityMessage,
    Bye,
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
from handrail.core.state import State
from handrail.identity import Caller, check_expiry, check_standing
from handrail.lag import Lag
from handrail.limits import Limits, TooMuch
from handrail.live import inbound
from handrail.live.admission import Admission, Refusal, stopping
from handrail.live.connection import (
    BAD_TOKEN,
    CORRUPT_STATE,
    DRAINING,
    KNOWN_VISITOR,
    STORE_AWAY,
    TOO_MANY,
    TOO_MUCH,
    Connection,
    Transport,
)
from handrail.live.hub import Hub
from handrail.live.pace import Pace
from handrail.live.presence import departure
from handrail.profiles import Profiles, known_visitor
from handrail.runner import Outcome, Runner, TooManyConflicts, corrupt_state
from handrail.store.protocol import CorruptState, StoreDown
from handrail.surroundings import read_headers
from handrail.tickets import Tickets

Headers = Iterable[tuple[bytes, bytes]]
UNSETTLED = 256  # events of one connection on their way to the store before it is read no further
AGAIN = (0.5, 1.5)  # seconds, by chance between these, after which what the store did not take is submitted again
RECONNECT_MS = 2_000  # clients told to come back spread over this time
HELD_BACK = 0.01  # seconds for which a connection is not read after a message was refused: it cannot flood us with them
PENALTY_MS = 10_000  # how long whoever does not stop sending stays away, at least

_FINAL = dict.fromkeys(("bad-token", "token-expired", "token-revoked"), BAD_TOKEN)
_FINAL |= {"known-visitor": KNOWN_VISITOR, "corrupt-state": CORRUPT_STATE}
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


class Gate(Protocol):
    """Who may come in."""

    def authenticate(self, token: str | None, user_id: str | None, anonymous_id: str | None) -> Caller:
        """Who it is. Raises BadInput; `bad-token` and `token-expired` mean stay away."""

    def page_allowed(self, headers: Headers) -> bool: ...


class Debts(Protocol):
    """Departures that are still to be written."""

    def owe(self, user: str, event: Event) -> None: ...

    def owes(self, user: str) -> bool: ...


class Reception:
    """What all visits of this process share. `debts` hears of departures the store did not take."""

    def __init__(
        self,
        hub: Hub,
        runner: Runner,
        gate: Gate,
        debts: Debts,
        *,
        limits: Limits,
        lag: Lag,
        country_header: str | None = None,
    ) -> None:
        self.hub = hub
        self.limits = limits
        self.door = Admission(limits, lag)
        self.runner = runner
        self.profiles = Profiles(runner)
        self.tickets = Tickets(runner.store, runner.clock)
        self.gate = gate
        self.debts = debts
        self.country_header = country_header
        self.draining = False

    def refuse(self, scope: MutableMapping[str, Any]) -> Refusal | None:
        """Whether a handshake is refused before anything else is looked at."""
        if self.draining:
            self.limits.counts.add("handshakes_refused_draining")
            return stopping()
        return self.door.refuse(scope)

    def note_failure(self, fault: BadInput, address: str) -> None:
        """Remember an address from which somebody failed to say who they are."""
        if _FINAL.get(fault.code) == BAD_TOKEN:
            self.limits.offend(address)

    def receive(self, transport: Transport, headers: Headers = (), address: str = "") -> Visit:
        """`headers` are those of the handshake, `address` is where it came from."""
        context = read_headers(headers, self.country_header)
        return Visit(self, Connection(f"c-{secrets.token_hex(8)}", transport, self.hub), context, address)

    def recall(self, window_ms: int) -> None:
        """Ask everybody to connect again."""
        for connection in self.hub.connections():
            dismiss(connection, DRAINING, "draining", window_ms)

    def dismiss(self, connection: Connection, *, away_ms: int) -> None:
        """Send one away because the server stops, to come back after so long and a moment of its own."""
        dismiss(connection, DRAINING, "draining", RECONNECT_MS, after_ms=away_ms)

    async def depart(self, user: str, event: Disconnected) -> None:
        """Record that a connection closed, and that this process holds none of the user's any more."""
        try:
            await self.runner.apply(user, event)
            await self.delist(user)
        except (StoreDown, TooManyConflicts):
            self.debts.owe(user, event)

    async def delist(self, user: str) -> None:
        """Note that this process holds nothing of the user's, if so: what is owed others have to know of."""
        if not self.hub.has(user) and not self.debts.owes(user):
            await self.runner.store.delist(self.runner.node, user)


class _Sent(Struct, eq=False):
    """An event on its way to the store; `id` is what is acknowledged, if anything is. Without a `future` it waits to be
    submitted again. `settled` is the connection's epoch when the store had it, "" before."""

    event: Event
    id: str | None
    future: asyncio.Future[Outcome] | None = None
    settled: str = ""


class Visit:
    __slots__ = (
        "_active",
        "_address",
        "_again",
        "_context",
        "_desk",
        "_known",
        "_opening",
        "_pace",
        "_unsettled",
        "_warned",
        "connected",
        "connection",
        "left",
        "user",
    )

    def __init__(self, desk: Reception, connection: Connection, context: dict[str, Any], address: str) -> None:
        self._address = address
        self._context = context
        self._pace = Pace(desk.limits)
        self._desk = desk
        self._known = True
        self._unsettled: deque[_Sent] = deque()
        self._again: asyncio.TimerHandle | None = None
        self._warned = False  # that the store is away
        self._active = 0  # when the user was last active here
        self._opening: Connected | None = None
        self.connected = False
        self.connection = connection
        self.left = False
        self.user = ""

    # --- coming in ---

    async def listen(self, data: str | bytes | None) -> None:
        """Take one message. Whatever is wrong with it is answered, never raised."""
        text = data if isinstance(data, str) else ""
        try:
            self._pace.check(len(text), self.user)
            if data is not text:
                raise BadInput("binary-frame", "The message is not text.", "Send JSON in text frames.")
            message = inbound.decode(text)
            if isinstance(message, Hello):
                await self.hello(message)
            else:
                self._take(message)
        except TooMuch as fault:
            self._hold_back(fault, text)
            await asyncio.sleep(HELD_BACK)
        except BadInput as fault:
            self._refuse(fault, inbound.find_id(text))
        await self.connection.room()
        if len(self._unsettled) < UNSETTLED:
            return
        newest = self._unsettled[-1].future
        if newest is None:
            self._store_away()
        else:
            await asyncio.wait([newest])

    def _hold_back(self, fault: TooMuch, data: str) -> None:
        """Say when to go on; whoever goes on at once is sent away for a while."""
        self.connection.error(fault, inbound.find_id(data))
        if self._desk.limits.is_abuse(self.user or self.connection.id):
            self._send_off()

    def _send_off(self) -> None:
        self._desk.limits.offend(self._address)
        dismiss(self.connection, TOO_MUCH, "too many messages", PENALTY_MS, after_ms=PENALTY_MS)

    async def hello(self, hello: Hello) -> None:
        """Raises BadInput."""
        if self.user:
            raise BadInput("already-welcomed", "This connection was welcomed already.", "Open another connection.")
        inbound.check_hello(hello)
        caller = self._desk.gate.authenticate(hello.token, hello.user_id, hello.anonymous_id)
        try:
            await self._desk.profiles.arrive(caller)
        except (StoreDown, TooManyConflicts):
            self._store_away()
        except CorruptState:
            raise corrupt_state() from None
        else:
            await self.enter(caller, hello)

    async def enter(self, caller: Caller, hello: Hello) -> None:
        """Welcome the user, who has arrived, then let what the hello sets off follow."""
        desk, connection = self._desk, self.connection
        if desk.draining:  # it came in before the server began to stop
            dismiss(connection, DRAINING, "draining", RECONNECT_MS)
            return
        if desk.limits.is_barred(caller.user):
            self._send_off()
            return
        self.user, self._known = caller.user, caller.known
        self._accept(caller)
        desk.hub.attach(self.user, connection)
        try:
            state = await self._join()
            if self._is_crowded(state):
                return
            resume_at = hello.offset if await self._resumable(hello, state) else None
        except BadInput as fault:
            self._refuse(fault, None)
            return
        except (StoreDown, TooManyConflicts):
            self._store_away()
            return
        except CorruptState as fault:
            await desk.runner.quarantine.take_state(self.user, fault)
            self._refuse(corrupt_state(), None)
            return
        if hello.offset is not None:
            desk.runner.counts.add("resumes.snapshot" if resume_at is None else "resumes.suffix")
        offset = state.offset if resume_at is None else resume_at
        connection.greet(desk.hub.welcome(connection, state, resume_at=resume_at), state.epoch, offset)
        connection.stale = connection.stale or offset < state.offset
        desk.hub.greeted(connection)
        self._opening = self._connected(hello)
        self._active = self._opening.at - self._opening.idle_ms
        self._submit(self._opening)
        self.connected = True
        connection.on_forgotten = self._forgotten

    def _is_crowded(self, state: State) -> bool:
        """Whether the user has as many connections as they may, over all processes; then this one is told to stay
        away, which an event stream does only for a time."""
        most = self._desk.limits.bounds.user_connections
        if not most or len(state.connections) < most:
            return False
        self._desk.limits.counts.add("connections_refused_user")
        what = f"This user has {most} connections already."
        self.connection.error(BadInput("too-many-connections", what, "Close some of their tabs."))
        dismiss(self.connection, TOO_MANY, "too many connections", PENALTY_MS, after_ms=PENALTY_MS)
        return True

    async def _join(self) -> State:
        """The user's state, with this process among those that hold their connections.

        Raises BadInput `known-visitor` or `token-revoked`, StoreDown, TooManyConflicts.
        """
        runner, user = self._desk.runner, self.user
        state, _ = await asyncio.gather(runner.current(user), runner.store.enlist(runner.node, user))
        try:
            check_standing(self.connection.issued, state.revoked)
        except BadInput:
            if len(self._desk.hub.connections_of(user)) == 1 and not self._desk.debts.owes(user):
                await runner.store.delist(runner.node, user)
            raise
        if state.merger is None:
            return state
        if not self._known:  # they became a user while they were being let in
            await runner.store.delist(runner.node, user)
            raise known_visitor()
        await self._desk.profiles.recognise(user)
        return await runner.current(user)

    def _connected(self, hello: Hello) -> Connected:
        now = self._desk.runner.clock()
        return Connected(
            id=f"{self.connection.id}.open",
            at=now,
            connection=self.connection.id,
            node=self._desk.runner.node,
            device=hello.device,
            tab=hello.tab,
            visible=hello.visible,
            idle_ms=min(hello.idle_ms, now),
            context=self._context,
        )

    def _forgotten(self) -> None:
        self._desk.runner.look_after(self._open_again())

    async def _open_again(self) -> None:
        """The store lost that this connection is open: say so once more, as it is now."""
        runner = self._desk.runner
        if self._opening is None or self.left or self.connection.closing:
            return
        try:
            await runner.store.enlist(runner.node, self.user)
        except (StoreDown, CorruptState):
            self._store_away()
            return
        if self.left:
            return
        now = runner.clock()
        again = {"id": f"{self.connection.id}.open.{inbound.new_id()}", "at": now, "idle_ms": now - self._active}
        self._submit(msgspec.structs.replace(self._opening, **again))

    async def _resumable(self, hello: Hello, state: State) -> bool:
        """Whether the client can go on where it was: same epoch, and the store still has the next message."""
        after = hello.offset
        if hello.epoch != state.epoch or after is None or after > state.offset:
            return False
        if after == state.offset:
            return True
        found = await self._desk.runner.store.outbox(self.user, after, 1)
        return bool(found) and found[0][0] == after + 1

    # --- being here ---

    def _take(self, message: ClientMessage) -> None:
        now = self._desk.runner.clock()
        if not self.user:
            raise BadInput(
                "hello-first", "The first message has to be a hello.", "Send `hello` with `user_id` or `token`."
            )
        self._check_token(self.connection.issued, self.connection.expires, now)
        match message:
            case TokenMessage():
                self._renew(message.token, now)
            case Ping():
                self.connection.push(_PONG)
            case Seen():
                self.connection.seen = max(self.connection.seen, message.offset)
            case TrackMessage():
                self._active = now
                self._submit(inbound.track_of(message, now), message.id)
            case IdentifyMessage():
                self._submit(inbound.identify_of(message, now), message.id)
            case ConsentMessage():
                self._submit(inbound.consent_of(message, now), message.id)
            case ActivityMessage():
                activity = inbound.activity_of(message, self.connection.id, now)
                self._active = now - activity.idle_ms
                if self._opening is not None:
                    self._opening = msgspec.structs.replace(self._opening, visible=activity.visible)
                self._submit(activity)

    def _check_token(self, issued: int, expires: int, now: int) -> None:
        """What is said with a token that is over is not taken. Raises BadInput."""
        check_expiry(expires, now)
        if (state := self._desk.runner.recall(self.user)) is not None:
            check_standing(issued, state.revoked)

    def _renew(self, token: str, now: int) -> None:
        """Raises BadInput `token-refused`; the connection goes on with the token it has."""
        try:
            caller = self._desk.gate.authenticate(token, self.user, None)
            if caller.known != self._known:
                raise BadInput("bad-token", "The token is for another kind of user.", "Open another connection.")
            self._check_token(caller.issued or now, caller.expires, now)
        except BadInput as fault:
            raise BadInput("token-refused", fault.message, fault.fix) from None
        self._accept(caller)
        self.connection.push(frames.encode(Renewed(token_expires_in=self.connection.expires_in(now))))

    def _accept(self, caller: Caller) -> None:
        self.connection.issued = caller.issued or self._desk.runner.clock()
        self.connection.expires = caller.expires

    def _submit(self, event: Event, acknowledge: str | None = None) -> None:
        sent = _Sent(event, acknowledge)
        self._unsettled.append(sent)
        if self._again is None:
            self._send(sent)

    def _send(self, sent: _Sent) -> None:
        sent.future = self._desk.profiles.submit(self.user, sent.event, known=self._known)
        sent.future.add_done_callback(partial(self._settled, sent))

    def _settled(self, sent: _Sent, future: asyncio.Future[Outcome]) -> None:
        fault = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(fault, StoreDown | TooManyConflicts):
            if future.cancelled() or isinstance(sent.event, Connected):
                self._store_away(sent.id)
            else:
                sent.future = None
                self._wait()
            return
        self._warned = False
        if isinstance(fault, CorruptState):
            self._refuse(corrupt_state(), sent.id)
            return
        if fault is not None:
            self.connection.error(_FAULT, sent.id)
            sent.id = None
        elif isinstance(sent.event, Connected) and future.result().heir:
            self._refuse(known_visitor(), None)  # they became a user while they were being let in
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
        newest = None
        while self._unsettled and (first := self._unsettled[0]).settled:
            if first.id is not None and first.settled != self.connection.epoch:
                first.settled = ""
                self._send(first)
                break
            newest = self._unsettled.popleft().id or newest
        if newest is not None:
            self.connection.acknowledge(newest)

    def _refuse(self, fault: BadInput, event: str | None) -> None:
        self._desk.runner.counts.add(f"refused.{fault.code}")
        self.connection.error(fault, event)
        self._desk.note_failure(fault, self._address)
        if fault.code in _FINAL:
            self.connection.finish(_FINAL[fault.code], fault.code)

    def _store_away(self, event: str | None = None) -> None:
        self._desk.runner.counts.add("refused.store-down")
        self.connection.error(_STORE_AWAY, event)
        dismiss(self.connection, STORE_AWAY, "store away", RECONNECT_MS)

    # --- leaving ---

    async def leave(self) -> None:
        self.left = True
        if self._again is not None:
            self._again.cancel()
        if not self.user:
            return
        desk, connection = self._desk, self.connection
        desk.hub.detach(connection)
        if self.connected:
            await desk.depart(self.user, departure(connection.id, desk.runner.clock()))
        else:  # turned away on the way in
            with suppress(StoreDown):
                await desk.delist(self.user)


def turn_away(connection: Connection, fault: BadInput, code: int) -> None:
    """Say why, and goodbye for good."""
    connection.error(fault)
    dismiss(connection, code, fault.code, 0)


def dismiss(connection: Connection, code: int, reason: str, window_ms: int, *, after_ms: int = 0) -> None:
    """Say goodbye with a moment to come back at, spread over the window, and close."""
    wait = after_ms + (random.randrange(window_ms) if window_ms > 0 else 0)
    connection.push(frames.encode(Bye(code=code, reconnect_ms=wait)))
    connection.finish(code, reason, wait)
