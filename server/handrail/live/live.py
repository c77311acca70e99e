"""The live side of a process, put together: what the composition root mounts, runs and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from handrail.counts import Counts
from handrail.lag import Lag
from handrail.limits import Bounds, Limits
from handrail.live import draining
from handrail.live.hub import STALL, Hub
from handrail.live.lapses import Lapses
from handrail.live.presence import Presence
from handrail.live.reception import RECONNECT_MS, Gate, Reception
from handrail.live.sse import Stream
from handrail.live.timers import Timers
from handrail.live.websocket import Updates
from handrail.runner import Runner

DRAIN_WITHIN = 3.0  # seconds from the last goodbye until what was under way is stored


class Live:
    """`websocket` and `sse` are the ASGI apps of `/updates` and `/updates/sse`; `tasks` are to run, supervised.

    Make it inside the event loop. `drain` it before the server closes its sockets; `leave` after its tasks ended and
    while the store is still there.
    """

    def __init__(
        self,
        runner: Runner,
        gate: Gate,
        *,
        monotonic: Callable[[], float] | None = None,
        stall: float = STALL,
        country_header: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        monotonic = monotonic or asyncio.get_running_loop().time
        self.hub = Hub(runner, alone=lambda: self.presence.alone, stall=stall)
        self.presence = Presence(
            runner,
            self.hub,
            recall=lambda: self.desk.recall(RECONNECT_MS),
            monotonic=monotonic,
        )
        self.timers = Timers(runner, nodes=lambda: self.presence.nodes)
        self.lapses = Lapses(self.hub, runner)
        self.lag = Lag()
        self.desk = Reception(
            self.hub,
            runner,
            gate,
            self.presence,
            limits=limits or Limits(Bounds(), monotonic, Counts()),
            lag=self.lag,
            country_header=country_header,
        )
        self.websocket = Updates(self.desk)
        self.sse = Stream(self.desk)
        self._runner = runner

    def tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        runs = {"presence": self.presence.run, "connections": self.hub.run, "timers": self.timers.run}
        return runs | {"lapses": self.lapses.run, "lag": self.lag.run}

    def users(self) -> list[str]:
        """Those with a connection here."""
        return self.hub.users()

    def transports(self) -> list[str]:
        """What each connection here travels by."""
        return [connection.transport for connection in self.hub.connections()]

    def drain_window(self, longest_ms: int) -> int:
        """How long it takes to send everybody away who is here now, in ms."""
        return draining.spread(len(self.hub.connections()), longest_ms)

    async def drain(self, *, window_ms: int = RECONNECT_MS, within: float = DRAIN_WITHIN) -> None:
        """Send every client away, over `window_ms` if they are many; then wait until they are gone and their events are
        stored, but not for ever."""
        window_ms = self.drain_window(window_ms)
        self.desk.draining = True
        away_ms = window_ms if self.presence.alone else 0
        await draining.send_away(self.hub.connections(), window_ms, partial(self.desk.dismiss, away_ms=away_ms))
        try:
            async with asyncio.timeout(within):
                while self.hub.users():  # noqa: ASYNC110 - at shutdown, for thousands, this need not be exact
                    await asyncio.sleep(0.02)
                await self._runner.drain()
        except TimeoutError:
            return

    async def leave(self) -> None:
        """Settle what is under way and give up this process's name."""
        await self._runner.drain()
        await self.presence.leave()
