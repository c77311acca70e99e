"""What the visits of one process share: who is let in, and how they are sent away."""

from __future__ import annotations

import random
import secrets
from collections.abc import MutableMapping
from typing import Any, Protocol

from handrail.core import frames
from handrail.core.events import Disconnected, Event
from handrail.core.frames import Bye
from handrail.core.inputs import BadInput
from handrail.identity import Caller, Headers
from handrail.lag import Lag
from handrail.limits import Limits
from handrail.live.admission import Admission, Refusal, stopping
from handrail.live.connection import BAD_TOKEN, CORRUPT_STATE, DRAINING, KNOWN_VISITOR, Connection
from handrail.live.hub import Hub
from handrail.profiles import Profiles
from handrail.runner import Runner, TooManyConflicts
from handrail.store.protocol import StoreDown
from handrail.tickets import Tickets

RECONNECT_MS = 2_000  # clients told to come back spread over this time

FINAL = dict.fromkeys(("bad-token", "token-expired", "token-revoked"), BAD_TOKEN)
FINAL |= {"known-visitor": KNOWN_VISITOR, "corrupt-state": CORRUPT_STATE}


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
    """`debts` hears of departures the store did not take."""

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
        if FINAL.get(fault.code) == BAD_TOKEN:
            self.limits.offend(address)

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


def name_connection() -> str:
    return f"c-{secrets.token_hex(8)}"


def turn_away(connection: Connection, fault: BadInput, code: int) -> None:
    """Say why, and goodbye for good."""
    connection.error(fault)
    dismiss(connection, code, fault.code, 0)


def dismiss(connection: Connection, code: int, reason: str, window_ms: int, *, after_ms: int = 0) -> None:
    """Say goodbye with a moment to come back at, spread over the window, and close."""
    wait = after_ms + (random.randrange(window_ms) if window_ms > 0 else 0)
    connection.push(frames.encode(Bye(code=code, reconnect_ms=wait)))
    connection.finish(code, reason, wait)
