"""Long-lived tasks do not die unnoticed: what ends is logged and started again, after a pause that grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 5.0
STEADY = 30.0  # a task that ran this long starts over with the first pause

log = structlog.get_logger(__name__)


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Run `run` for ever, until this is cancelled."""
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE
    while True:
        began = loop.time()
        try:
            await run()
            log.error("a task ended that should not; starting it again", task=name, pause_s=pause)
        except Exception:  # the rim of every background task: its death must be seen and mended
            log.exception("a task died; starting it again", task=name, pause_s=pause)
        if loop.time() - began > STEADY:
            pause = FIRST_PAUSE
        await sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
