"""A moment between SIGTERM and the end: what was connected is told before the server closes its sockets."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self

Handler = Callable[[int, FrameType | None], Any]


class Farewell:
    """While open, the first SIGTERM or SIGINT runs `goodbye` and only then goes on to whoever handled it until now; a
    second one goes there at once. Does nothing outside the main thread, where Python hears no signals."""

    def __init__(self, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._goodbye = goodbye
        self._before: dict[int, Handler] = {}
        self._task: asyncio.Task[None] | None = None

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
        heard = False

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal heard
            if heard or self._task is not None:
                before(number, frame)
            else:
                heard = True
                loop.call_soon_threadsafe(self._part, lambda: before(number, frame))

        return handle

    def _part(self, leave: Callable[[], Any]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._goodbye())
        self._task.add_done_callback(lambda _: leave())
