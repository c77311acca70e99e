"""The network between processes and their store, and between pages and processes, with what can go wrong on both.

Bytes and messages arrive in order, after a while, or not at all. What was sent by a process that died, or over a
connection that was cut, may arrive all the same: it had left already.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from msgspec import Struct

from handrail.edge.websocket import Listener

from .loop import Process, VirtualLoop, present_process
from .server import Server, exchange, pending

LINGER = 2.0  # seconds for a page to take a goodbye


class Weather(Struct, kw_only=True):
    """What goes wrong, as probabilities of each exchange; `latency` in seconds."""

    latency: float = 0.001
    spike: float = 0.0  # a delay a hundred times as long
    cut_before: float = 0.0  # the connection breaks; nothing was carried out
    cut_after: float = 0.0  # carried out, and the reply is lost
    cut_within: float = 0.0  # some commands of a write were carried out
    silent: float = 0.0  # no reply, and no error either
    mute_bell: float = 0.0
    stray: float = 0.5  # what had left before its sender was gone arrives


class Network:
    """`carried_out` is told who had the store carry out what."""

    def __init__(self, loop: VirtualLoop, server: Server, random: Random, tally: Counter[str], ether: Process) -> None:
        self.loop = loop
        self.server = server
        self.weather = Weather()
        self.store_up = True
        self.server_id = "0" * 40  # by which servers tell whether the store is the one it was
        self.tally = tally
        self.carried_out: Callable[[Process, bytes], None] = lambda _process, _data: None
        self.ether = ether
        self._random = random
        self._links: list[Link] = []
        loop.dial = self.dial

    def delay(self) -> float:
        chance = self._random.random()
        return self.weather.latency * (0.2 + chance) * (100 if chance < self.weather.spike else 1)

    def happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    # --- processes and the store ---

    async def dial(self, factory: Callable[[], asyncio.Protocol]) -> tuple[asyncio.Transport, asyncio.Protocol]:
        await asyncio.sleep(self.delay())
        if not self.store_up:
            raise ConnectionRefusedError
        link = Link(self, factory(), present_process())
        self._links.append(link)
        link.protocol.connection_made(link)
        return link, link.protocol

    def drop_links(self, process: Process | None = None) -> None:
        """The store's connections break, those of one process or all."""
        for link in list(self._links):
            if process is None or link.process is process:
                link.cut()

    def close(self) -> None:
        for link in list(self._links):
            link.hang_up()

    def bury(self, process: Process) -> None:
        """The process is dead; what it had sent is on its way still."""
        for link in list(self._links):
            if link.process is process:
                self.loop.call_later(1.0, link.hang_up, context=self.ether.context)

    def arrive(self, link: Link, data: bytes) -> None:
        """The store receives what a process wrote."""
        weather = self.weather
        if link.cut_off or not self.store_up:
            return link.cut()
        if not link.process.alive or link.closed:
            if self.happens(weather.stray):
                self.tally["store: a write arrived after its sender was gone"] += 1
                self._carry_out(link, data)
            return link.hang_up()
        if self.happens(weather.cut_before):
            self.tally["store: connection cut before a write"] += 1
            return link.cut()
        if self.happens(weather.cut_within) and (parts := split(data))[1:]:
            self.tally["store: connection cut within a write"] += 1
            self._carry_out(link, b"".join(parts[: self._random.randrange(1, len(parts))]))
            return link.cut()
        reply = self._carry_out(link, data)
        if self.happens(weather.cut_after):
            self.tally["store: reply lost"] += 1
            return link.cut()
        if self.happens(weather.silent):
            self.tally["store: no reply"] += 1
            link.deaf = True
        if not link.deaf:
            link.bring(reply)

    def _carry_out(self, link: Link, data: bytes) -> bytes:
        reply = exchange(link.socket, data)
        if b"replication" in data:
            reply = re.sub(rb"(master_replid:)[0-9a-f]{40}", rb"\g<1>" + self.server_id.encode(), reply)
        self.tally["store: exchanges"] += 1
        if b"SUBSCRIBE" in data:
            link.listens = True
        self.tally["scripts told again"] += reply.startswith(b"-NOSCRIPT")
        if b"EVAL" in data:
            self.carried_out(link.process, data)
            self._ring(link)
        return reply

    def _ring(self, writer: Link) -> None:
        """Bring what was published to the others; their connections are silent otherwise. The store writes to all of
        them before it reads again, and the oracle has asked it something since."""
        for link in self._links:
            if link is not writer and link.listens and link.process.alive:
                bells = pending(link.socket)
                if bells and self.happens(self.weather.mute_bell):
                    self.tally["store: bell lost"] += 1
                elif bells and not link.deaf:
                    link.bring(bells)

    def forget(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)


class Link(asyncio.Transport):
    """A connection of a process to the store."""

    def __init__(self, network: Network, protocol: asyncio.Protocol, process: Process) -> None:
        super().__init__()
        self.protocol = protocol
        self.process = process
        self.socket = network.server.open()
        self.listens = False
        self.deaf = False  # nothing comes back any more
        self.cut_off = False  # by the network
        self.closed = False  # by the process
        self._network = network
        self._there = self._back = 0.0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            network = self._network
            self._there = max(self._there, network.loop.time() + network.delay())
            network.loop.call_at(self._there, network.arrive, self, bytes(data), context=network.ether.context)

    def bring(self, data: bytes) -> None:
        network = self._network
        self._back = max(self._back, network.loop.time() + network.delay())
        network.loop.call_at(self._back, self._received, data, context=self.process.context)

    def cut(self) -> None:
        """The connection breaks: the process hears of it after what was on its way."""
        if not self.cut_off:
            network = self._network
            self.hang_up()
            self._back = max(self._back, network.loop.time() + network.delay())
            network.loop.call_at(self._back, self._lost, ConnectionResetError(), context=self.process.context)

    def hang_up(self) -> None:
        self.cut_off = True
        self.socket.close()
        self._network.forget(self)

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._network.loop.call_soon(self.protocol.connection_lost, None)

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def _received(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)

    def _lost(self, error: Exception) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(error)


def split(data: bytes) -> list[bytes]:
    """The commands of a write, one by one."""
    commands, at = [], 0
    while at < len(data):
        begin = at
        end = data.index(b"\r\n", at)
        words, at = int(data[at + 1 : end]), end + 2
        for _ in range(words):
            end = data.index(b"\r\n", at)
            at = end + 2 + int(data[at + 1 : end]) + 2
        commands.append(data[begin:at])
    return commands


class Pipe:
    """A WebSocket, from a page (`heard`, `ended`) to what listens in a process, in the place of the edge's."""

    def __init__(
        self,
        network: Network,
        page: Process,
        process: Process,
        heard: Callable[[Pipe, str], None],
        ended: Callable[[Pipe, int], None],
        said: Callable[[Pipe, str], None],
        taken: Callable[[Pipe, str], None],
    ) -> None:
        self.process = process
        self.stalled = False  # the page reads nothing
        self.closed = False  # on the page's side
        self.over = False  # on the server's side
        self.received: list[str] = []  # by the server: ids of what wants an acknowledgement
        self.acknowledged = 0  # how many of them
        self.position: tuple[str, int] = ("", 0)  # as the server's messages have it
        self.user = ""
        self.forgotten: Callable[[], None] = lambda: None  # when it is over on the server's side
        self._network = network
        self._page = page
        self._heard, self._ended, self._said, self._taken = heard, ended, said, taken
        self._listener: Listener | None = None
        self._inbox: deque[str | None] = deque()  # None: the page is gone
        self._held = False  # nothing is to be handed over
        self._untaken: list[str] = []  # written while the page was stalled
        self._farewell = 0
        self._there = self._back = 0.0

    # --- the page's end ---

    def say(self, text: str, identity: str = "") -> None:
        if not self.closed:
            self._towards_server(text, identity)

    def close(self, *, silently_for: float = 0.0) -> None:
        """The page is gone; the server learns of it when the network tells."""
        if not self.closed:
            self._towards_server(None, "", silently_for)
            self.closed = True

    def stall(self, stalled: bool) -> None:
        if self.stalled and not stalled and self._untaken:
            self._network.loop.call_soon(self._drain, context=self._network.ether.context)
        self.stalled = stalled

    def _drain(self) -> None:
        untaken, self._untaken = self._untaken, []
        for text in untaken:
            self._towards_page(self._heard, text)
        if self._farewell:
            self._towards_page(self._end, self._farewell)
        elif self._listener is not None:
            self._network.loop.call_soon(self._listener.resume_writing, context=self.process.context)

    # --- the server's end ---

    def accept(self, listener: Listener, subprotocol: str | None) -> Socket | None:
        if self.over:
            return None
        self._listener = listener
        self._network.loop.call_soon(self._hand_over)
        return Socket(self)

    def write(self, data: bytes) -> None:
        if self.over:
            return
        texts = list(unframe(data))
        for text in texts:
            self._said(self, text)
        if not self.stalled:
            for text in texts:
                self._towards_page(self._heard, text)
            return
        self._untaken += texts
        if len(self._untaken) == len(texts) and self._listener is not None:
            self._listener.pause_writing()

    def shut(self, code: int, reason: str) -> None:
        """The server says goodbye; a page that does not take it has two seconds, also where the server ends before."""
        if self.over:
            return
        if self._untaken:
            self._farewell = code
            self._network.loop.call_later(LINGER, self._give_up, context=self._network.ether.context)
        else:
            self._towards_page(self._end, code)
        self._finish(code)

    def abort(self) -> None:
        self._untaken.clear()
        self._network.loop.call_soon(self.end, 1006)

    def pause_reading(self) -> None:
        self._held = True

    def resume_reading(self) -> None:
        self._held = False
        self._network.loop.call_soon(self._hand_over)

    def end(self, code: int) -> None:
        """The server closes without a word, or never answered."""
        if not self.over:
            self._towards_page(self._end, code)
            self._finish(code)

    def break_off(self) -> None:
        """The process died: its kernel says so."""
        self.over = True
        self._untaken.clear()
        self._towards_page(self._end, 1006)

    def _give_up(self) -> None:
        if self._untaken:
            self._untaken.clear()
            self._towards_page(self._end, 1006)

    def _finish(self, code: int) -> None:
        self.over = True
        self.forgotten()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.ended(code)

    def _end(self, _pipe: Pipe, code: int) -> None:
        if not self.closed:
            self.closed = True
            self._ended(self, code)

    def _hand_over(self) -> None:
        while self._inbox and not self._held and self._listener is not None:
            text = self._inbox.popleft()
            if text is None:
                self._finish(1006)
            else:
                self._listener.text(text.encode())

    def _towards_server(self, text: str | None, identity: str, later: float = 0.0) -> None:
        loop = self._network.loop
        self._there = max(self._there, loop.time() + self._network.delay() + later)
        loop.call_at(self._there, self._take, text, identity, context=self.process.context)

    def _take(self, text: str | None, identity: str) -> None:
        if identity:
            self.received.append(identity)
            self._taken(self, identity)
        self._inbox.append(text)
        self._hand_over()

    def _towards_page(self, what: Callable[[Pipe, Any], None], value: Any) -> None:
        loop = self._network.loop
        self._back = max(self._back, loop.time() + self._network.delay())
        loop.call_at(self._back, self._page_gets, what, value, context=self._page.context)

    def _page_gets(self, what: Callable[[Pipe, Any], None], value: Any) -> None:
        if not self.closed:
            what(self, value)


class Socket:
    """The server's end of a pipe, as the edge would hand it out."""

    def __init__(self, pipe: Pipe) -> None:
        self.write = pipe.write
        self.close = pipe.shut
        self.abort = pipe.abort
        self.pause_reading = pipe.pause_reading
        self.resume_reading = pipe.resume_reading


def unframe(data: bytes) -> Iterator[str]:
    """The messages of whole frames, which a server does not mask."""
    at = 0
    while at < len(data):
        size, body = data[at + 1], at + 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            size, body = int.from_bytes(data[body : body + wide]), body + wide
        yield data[body : body + size].decode()
        at = body + size
