"""Background tasks come back, after pauses that grow."""

from __future__ import annotations

import asyncio

import pytest

from handrail.supervise import supervise


async def test_what_dies_or_ends_starts_again_after_growing_pauses() -> None:
    starts = 0
    pauses: list[float] = []

    async def run() -> None:
        nonlocal starts
        starts += 1
        if starts % 2:
            raise ValueError

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await supervise("task", run, sleep=sleep)
    assert starts == 8
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_cancelling_ends_it() -> None:
    task = asyncio.create_task(supervise("task", asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
