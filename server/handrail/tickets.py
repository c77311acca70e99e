"""Tickets: what a page shows in an address in place of its token, good once and for a moment.

An address ends up in logs and histories, and EventSource can send nothing else. So a page shows its token in a header,
is given a ticket, and opens the stream with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec
from msgspec import Struct

from handrail.core.inputs import BadInput
from handrail.identity import Caller
from handrail.store.protocol import Store

TICKET_FOR = 30_000  # ms
MAX_TICKET = 64  # characters
_FIX = "Ask for a new ticket with `POST /v1/ticket`; each opens one stream."


class _Ticket(Struct, frozen=True, array_like=True):
    """Whom it lets in, until when, and the times of the token it was given for."""

    user: str
    known: bool
    issued: int
    expires: int
    until: int


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Ticket)


class Tickets:
    """`now` gives ms since the epoch."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._store = store
        self._now = now

    async def issue(self, caller: Caller) -> str:
        """A ticket for who has shown a token. Raises StoreDown."""
        ticket = secrets.token_urlsafe(24)
        until = self._now() + TICKET_FOR
        content = _encode(_Ticket(caller.user, caller.known, caller.issued, caller.expires, until))
        await self._store.keep_ticket(ticket, content, TICKET_FOR)
        return ticket

    async def redeem(self, ticket: str) -> Caller:
        """Whom the ticket lets in, once. Raises BadInput `bad-ticket`, StoreDown."""
        content = await self._store.take_ticket(ticket) if 0 < len(ticket) <= MAX_TICKET else None
        found = _read(content) if content is not None else None
        if found is None or self._now() > found.until:
            raise BadInput("bad-ticket", "The ticket is not known, was used already, or is too old.", _FIX)
        return Caller(found.user, found.known, "", found.issued, found.expires)


def _read(content: bytes) -> _Ticket | None:
    try:
        return _decoder.decode(content)
    except (ValueError, msgspec.MsgspecError):
        return None
