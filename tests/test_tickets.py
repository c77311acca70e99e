"""Tickets: each lets one caller in, once, for a moment."""

from __future__ import annotations

import asyncio

import pytest

from handrail.core.inputs import BadInput
from handrail.identity import Caller
from handrail.store import RedisStore
from handrail.tickets import TICKET_FOR, Tickets
from nodes import Clock

CALLER = Caller("ada", known=False, issued=5, expires=9)


async def test_a_ticket_lets_in_once(store: RedisStore, clock: Clock) -> None:
    tickets = Tickets(store, clock)
    ticket = await tickets.issue(CALLER)
    assert await tickets.redeem(ticket) == CALLER
    with pytest.raises(BadInput, match="bad-ticket"):
        await tickets.redeem(ticket)


async def test_of_many_who_show_one_at_once_one_is_let_in(store: RedisStore, clock: Clock) -> None:
    tickets = Tickets(store, clock)
    ticket = await tickets.issue(CALLER)
    tries = await asyncio.gather(*(tickets.redeem(ticket) for _ in range(50)), return_exceptions=True)
    assert [each for each in tries if not isinstance(each, BadInput)] == [CALLER]


async def test_a_ticket_is_good_for_a_moment(store: RedisStore, clock: Clock) -> None:
    tickets = Tickets(store, clock)
    ticket, late = await tickets.issue(CALLER), await tickets.issue(CALLER)
    clock.now += TICKET_FOR
    assert await tickets.redeem(ticket) == CALLER
    clock.now += 1
    with pytest.raises(BadInput, match="bad-ticket"):
        await tickets.redeem(late)


@pytest.mark.parametrize("bad", ["", "x", "x" * 65, "*", "\x00", "\ud800", "hr:{nodes}:alive", "{b0001}"])
async def test_what_is_no_ticket_is_refused(store: RedisStore, clock: Clock, bad: str) -> None:
    with pytest.raises(BadInput, match="bad-ticket"):
        await Tickets(store, clock).redeem(bad)


async def test_what_others_wrote_into_the_store_is_no_ticket(store: RedisStore, clock: Clock) -> None:
    for content in (b"", b"ada", b"\x80", b"\x95\xa3ada\xc3\x05\x09\xa1x"):
        await store.keep_ticket("forged", content, 1_000)
        with pytest.raises(BadInput, match="bad-ticket"):
            await Tickets(store, clock).redeem("forged")
