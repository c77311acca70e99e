"""Virtual time for several processes in one: each has a queue of its own, and chance says who runs next.

Within a process callbacks run in the order in which they became ready, as asyncio promises. Between processes any order
may happen. Time stands still while callbacks run, but for the little that each is said to take, and jumps when there is
nothing to run. A step is one callback: what a process does between two awaits, or one thing the network does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any

LONGEST = 0.0004  # seconds that a step may take


class Process:
    """What runs by itself. A dead one never runs again; a paused one finds everything waiting when it is resumed."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.ready: deque[asyncio.Handle] = deque()
        self.alive = True
        self.paused = False
        self.stale = False  # was stopped, and has not committed since
        self.context = copy_context()
        self.context.run(_PROCESS.set, self)


_PROCESS: ContextVar[Process] = ContextVar("process")


def present_process() -> Process:
    return _PROCESS.get()


class VirtualLoop(asyncio.BaseEventLoop):
    """`dial` makes what `create_unix_connection` returns; `failed` is told of exceptions that nobody took."""

    def __init__(self, random: Random, *, pace: float, failed: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.steps = 0
        self.trace = bytearray()
        self.over = False
        self.dial: Callable[[Callable[[], asyncio.Protocol]], Any] | None = None
        self._chance = random.random
        self._pace = pace * LONGEST
        self._instant = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self._runnable: list[Process] = []
        self.set_exception_handler(lambda _, context: failed(context))

    def time(self) -> float:
        return self._instant

    # --- what asyncio asks for ---

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue((context or handle._context)[_PROCESS], handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.over:
            self._made += 1
            heappush(self._timers, (when, self._made, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        assert self.dial is not None
        return await self.dial(protocol_factory)

    # --- running ---

    def step(self) -> bool:
        """Run one callback. False when there is nothing to run, now or later."""
        runnable = self._runnable
        while not runnable:
            if not self._timers:
                return False
            self._instant = max(self._instant, self._timers[0][0])
            self._ripen()
        index = int(self._chance() * len(runnable))
        process = runnable[index]
        handle = process.ready.popleft()
        if not process.ready:
            runnable[index] = runnable[-1]
            runnable.pop()
        if not handle.cancelled():
            self.steps += 1
            self.trace.append(process.number)
            handle._run()
            self._instant += self._pace * self._chance()
        if self._timers and self._timers[0][0] <= self._instant:
            self._ripen()
        return True

    def pause(self, process: Process) -> None:
        process.paused = True
        if process in self._runnable:
            self._runnable.remove(process)

    def resume(self, process: Process) -> None:
        process.paused = False
        if process.ready and process.alive and process not in self._runnable:
            self._runnable.append(process)

    def kill(self, process: Process) -> None:
        """As SIGKILL: not another line of it runs."""
        process.alive = False
        process.ready.clear()
        if process in self._runnable:
            self._runnable.remove(process)

    def _ripen(self) -> None:
        timers, instant = self._timers, self._instant
        while timers and timers[0][0] <= instant:
            handle = heappop(timers)[2]
            if not handle.cancelled():
                self._enqueue(handle._context[_PROCESS], handle)  # type: ignore[attr-defined]

    def _enqueue(self, process: Process, handle: asyncio.Handle) -> None:
        if self.over or not process.alive:
            return
        if not process.ready and not process.paused:
            self._runnable.append(process)
        process.ready.append(handle)
