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
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from handrail.core import frames
from handrail.core.events import Connected, Disconnected, Event
from handrail.core.frames import (
    ActivityMessage,
    Bye,
    ConsentMessage,
    Hello,
    IdentifyMessage,
    Ping,
    Pong,
    Seen,
    TrackMessage,
)
from handrail.core.inputs import BadInput
from handrail.core.state import State
from handrail.identity import Caller
from handrail.live import inbound
from handrail.live.connection import BAD_TOKEN, DRAINING, KNOWN_VISITOR, STORE_AWAY, Connection, Transport
from handrail.live.hub import Hub
from handrail.profiles import Profiles, known_visitor
from handrail.runner import Outcome, Runner, TooManyConflicts
from handrail.store.protocol import StoreDown
from handrail.surroundings import read_headers

Headers = Iterable[tuple[bytes, bytes]]
UNSETTLED = 256  # events of one connection on their way to the store before it is read no further
AGAIN = (0.5, 1.5)  # seconds, by chance between these, after which what the store did not take is submitted again
RECONNECT_MS = 2_000  # clients told to come back spread over this time

_FINAL = {"bad-token": BAD_TOKEN, "known-visitor": KNOWN_VISITOR}
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
        """Who it is. Raises BadInput; `bad-token` means stay away."""

    def origin_allowed(self, origin: str | None) -> bool: ...


class Reception:
    """What all visits of this process share. `owe` is told of a departure the store did not take."""

    def __init__(
        self,
        hub: Hub,
        runner: Runner,
        gate: Gate,
        owe: Callable[[str, Event], None],
        *,
        country_header: str | None = None,
    ) -> None:
        self.hub = hub
        self.runner = runner
        self.profiles = Profiles(runner)
        self.gate = gate
        self.owe = owe
        self.country_header = country_header
        self.draining = False

    def receive(self, transport: Transport, headers: Headers = ()) -> Visit:
        """`headers` are those of the handshake."""
        context = read_headers(headers, self.country_header)
        return Visit(self, Connection(f"c-{secrets.token_hex(8)}", transport, self.hub), context)

    def drain(self, window_ms: int) -> None:
        """Send everybody away, to come back at a moment of their own within the window."""
        self.draining = True
        self.recall(window_ms)

    def recall(self, window_ms: int) -> None:
        """Ask everybody to connect again."""
        for connection in self.hub.connections():
            dismiss(connection, DRAINING, "draining", window_ms)

    async def depart(self, user: str, event: Disconnected) -> None:
        """Record that a connection closed, and that this process holds none of the user's any more."""
        try:
            await self.runner.apply(user, event)
            if not self.hub.has(user):
                await self.runner.store.delist(self.runner.node, user)
        except (StoreDown, TooManyConflicts):
            self.owe(user, event)


class _Sent(Struct, eq=False):
    """An event on its way to the store; `id` is what is acknowledged, if anything is. Without a `future` it waits to be
    submitted again."""

    event: Event
    id: str | None
    future: asyncio.Future[Outcome] | None = None
    settled: bool = False


class Visit:
    __slots__ = (
        "_active",
        "_again",
        "_context",
        "_desk",
        "_known",
        "_opening",
        "_unsettled",
        "_warned",
        "connected",
        "connection",
        "left",
        "user",
    )

    def __init__(self, desk: Reception, connection: Connection, context: dict[str, Any]) -> None:
        self._context = context
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
        if not isinstance(data, str):
            binary = BadInput("binary-frame", "The message is not text.", "Send JSON in text frames.")
            self.connection.error(binary)
            return
        try:
            message = inbound.decode(data)
            if isinstance(message, Hello):
                await self.hello(message)
            else:
                self._take(message)
        except BadInput as fault:
            self._refuse(fault, inbound.find_id(data))
        await self.connection.room()
        if len(self._unsettled) < UNSETTLED:
            return
        newest = self._unsettled[-1].future
        if newest is None:
            self._store_away()
        else:
            await asyncio.wait([newest])

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
        else:
            await self.enter(caller, hello)

    async def enter(self, caller: Caller, hello: Hello) -> None:
        """Welcome the user, who has arrived, then let what the hello sets off follow."""
        desk, connection = self._desk, self.connection
        if desk.draining:  # it came in before the server began to stop
            dismiss(connection, DRAINING, "draining", RECONNECT_MS)
            return
        self.user, self._known = caller.user, caller.known
        desk.hub.attach(self.user, connection)
        try:
            state = await self._join()
            resume_at = hello.offset if await self._resumable(hello, state) else None
        except BadInput as fault:
            self._refuse(fault, None)
            return
        except (StoreDown, TooManyConflicts):
            self._store_away()
            return
        offset = state.offset if resume_at is None else resume_at
        connection.greet(desk.hub.welcome(connection, state, resume_at=resume_at), state.epoch, offset)
        connection.stale = connection.stale or offset < state.offset
        desk.hub.greeted(connection)
        self._opening = self._connected(hello)
        self._active = self._opening.at - self._opening.idle_ms
        self._submit(self._opening)
        self.connected = True
        connection.on_forgotten = self._open_again

    async def _join(self) -> State:
        """The user's state, with this process among those that hold their connections.

        Raises BadInput `known-visitor`, StoreDown, TooManyConflicts.
        """
        runner, user = self._desk.runner, self.user
        state, _ = await asyncio.gather(runner.current(user), runner.store.enlist(runner.node, user))
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

    def _open_again(self) -> None:
        """The store lost that this connection is open: say so once more, as it is now."""
        if self._opening is None or self.left or self.connection.closing:
            return
        now = self._desk.runner.clock()
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

    def _take(self, message: TrackMessage | IdentifyMessage | ConsentMessage | ActivityMessage | Seen | Ping) -> None:
        now = self._desk.runner.clock()
        if not self.user:
            raise BadInput(
                "hello-first", "The first message has to be a hello.", "Send `hello` with `user_id` or `token`."
            )
        match message:
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
        if fault is not None:
            self.connection.error(_FAULT, sent.id)
            sent.id = None
        elif isinstance(sent.event, Connected) and future.result().heir:
            self._refuse(known_visitor(), None)  # they became a user while they were being let in
        sent.settled = True
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
        became one, a later event may be settled before an earlier one."""
        newest = None
        while self._unsettled and self._unsettled[0].settled:
            newest = self._unsettled.popleft().id or newest
        if newest is not None:
            self.connection.acknowledge(newest)

    def _refuse(self, fault: BadInput, event: str | None) -> None:
        self.connection.error(fault, event)
        if fault.code in _FINAL:
            self.connection.finish(_FINAL[fault.code], fault.code)

    def _store_away(self, event: str | None = None) -> None:
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
            event = Disconnected(id=f"{connection.id}.close", at=desk.runner.clock(), connection=connection.id)
            await desk.depart(self.user, event)


def dismiss(connection: Connection, code: int, reason: str, window_ms: int) -> None:
    """Say goodbye with a moment to come back at, spread over the window, and close."""
    wait = random.randrange(window_ms) if window_ms > 0 else 0
    connection.push(frames.encode(Bye(code=code, reconnect_ms=wait)))
    connection.finish(code, reason, wait)
