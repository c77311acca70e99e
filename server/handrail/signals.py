"""A moment between SIGTERM and the end: what was connected is told before the server closes its sockets.

The first SIGTERM or SIGINT begins the farewell, a second one ends it at once. Whatever is stuck by then, the process
ends: a watchdog that needs neither the event loop nor Python's lock prints where each thread is and exits with 1.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self

GOODBYE_WITHIN = 2.0  # seconds from the last goodbye until those who were told are gone
REQUESTS_WITHIN = 3  # seconds that open requests get after that
STUCK_AFTER = GOODBYE_WITHIN + REQUESTS_WITHIN + 1.0  # seconds from the last goodbye until the process is ended
NOW_WITHIN = 2.0  # seconds a second signal leaves
STDERR = 2
AGAIN = 1.0  # seconds: signals closer together are one. A terminal tells the whole group, and a parent its children too

Handler = Callable[[int, FrameType | None], Any]


class Farewell:
    """While open, the first SIGTERM or SIGINT runs `goodbye` and only then goes on to whoever handled it until now;
    a second one cuts that short. It is handed on once: told of two, uvicorn would not let us clean up. `window`
    says how many seconds the goodbyes take by themselves. Does nothing outside the main thread, where Python hears
    no signals."""

    def __init__(self, goodbye: Callable[[], Coroutine[Any, Any, None]], window: Callable[[], float]) -> None:
        self._goodbye = goodbye
        self._window = window
        self._before: dict[int, Handler] = {}
        self._task: asyncio.Task[None] | None = None
        self._heard: float | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._handler(loop, before))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handler(self, loop: asyncio.AbstractEventLoop, before: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if self._heard is None:
                self._heard = now
                end_within(STUCK_AFTER)  # the loop, if it lives, gives itself the window besides
                loop.call_soon_threadsafe(self._part, lambda: before(number, frame))
            elif now - self._heard >= AGAIN:
                end_within(NOW_WITHIN)
                loop.call_soon_threadsafe(self._hurry)

        return handle

    def _part(self, leave: Callable[[], Any]) -> None:
        end_within(self._window() + STUCK_AFTER)
        self._task = asyncio.get_running_loop().create_task(self._goodbye())
        self._task.add_done_callback(lambda _: leave())

    def _hurry(self) -> None:
        if self._task is not None:
            self._task.cancel()


def end_within(seconds: float) -> None:
    """Have this process ended, with its threads' tracebacks, if it is still there by then."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)
