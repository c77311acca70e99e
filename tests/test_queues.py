"""Queues: events in their order, a batch at a time, and who waits for them."""

from __future__ import annotations

import asyncio

import pytest

from handrail.core.events import Track
from handrail.queues import BATCH, Queues, Waiting
from handrail.turns import Outcome


def waiting(number: int = 0) -> Waiting:
    loop = asyncio.get_running_loop()
    event = Track(id=f"e{number}", name="a", at=number, properties={})
    return Waiting(event, loop.create_future(), loop.time())


async def test_the_first_of_a_user_asks_for_turns_and_the_others_wait_behind_it() -> None:
    queues = Queues()
    entries = [waiting(number) for number in range(BATCH + 1)]
    assert [queues.put("ann", entry) for entry in entries] == [True, *[False] * BATCH]
    assert queues.put("bob", waiting())
    assert (queues.take("ann"), queues.has_more("ann")) == (entries[:BATCH], True)
    assert (queues.take("ann"), queues.has_more("ann")) == (entries[BATCH:], False)
    assert not queues.put("ann", waiting()), "her turns are still being taken"


async def test_it_is_quiet_when_the_last_user_has_left() -> None:
    queues = Queues()
    await queues.quiet()
    queues.put("ann", waiting())
    queues.put("bob", waiting())
    quiet = asyncio.ensure_future(queues.quiet())
    for user in ("ann", "bob"):
        await asyncio.sleep(0)
        assert not quiet.done()
        queues.take_all(user)
        queues.leave(user)
    await quiet
    assert len(queues) == 0


async def test_whoever_waits_hears_once_what_became_of_it() -> None:
    settled, failed, cancelled = waiting(), waiting(), waiting()
    settled.settle(Outcome(id="e0"))
    settled.settle(ValueError())
    failed.settle(ValueError())
    cancelled.settle(asyncio.CancelledError())
    assert settled.future.result().id == "e0"
    assert cancelled.future.cancelled()
    with pytest.raises(ValueError):  # noqa: PT011 - it is ours
        failed.future.result()
