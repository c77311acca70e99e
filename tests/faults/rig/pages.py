"""Pages: clients that do what the browser client does, and write down everything they were told.

A page keeps each event until it is acknowledged and sends it again over every new connection, comes back by epoch and
offset, takes each numbered message once, and keeps what was acknowledged in the last 60 s to send it again when the
epoch changed. It differs from a browser in its haste: it pings every second and gives a silent server up after 2.5.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

KEPT_FOR = 60.0  # seconds an acknowledged event is kept
BACKOFF = (0.3, 2.0)  # seconds, doubling
AGAIN = 0.5  # seconds until an event is sent again which the store did not take
HANDLED_AFTER = 0.3  # seconds for which a prompt is looked at

Message = dict[str, Any]
Gone = (aiohttp.ClientError, OSError, TimeoutError)
Talk = Callable[["Page", str], Coroutine[Any, Any, None]]


@dataclass
class Tally:
    """What all pages of a run went through. Durations are in milliseconds."""

    acks: list[float] = field(default_factory=list)  # from sending an event first to its acknowledgement
    resumes: list[float] = field(default_factory=list)  # from losing a connection to the next welcome
    welcomes: list[float] = field(default_factory=list)  # of those, from the hello
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # what must never happen


@dataclass
class Kept:
    message: Message
    made: float
    acked: float = 0.0


class Page:
    """`dial` gives the address of a server to go to, `talk` is how it goes there and stays."""

    def __init__(self, user: str, dial: Callable[[], str], talk: Talk, tally: Tally, *, stream: bool) -> None:
        self.user = user
        self.stream = stream
        self.epoch, self.offset = "", 0
        self.slots: dict[str, Any] = {}
        self.prompts: dict[str, Message] = {}
        self.live = False
        self.at = ""  # the server it is at, or tries to be
        self.sent: Counter[str] = Counter()  # events by name
        self.checksum = 0  # of all `worked`
        self.ids: list[str] = []
        self.seen_prompts: set[str] = set()
        self.tally = tally
        self.dial = dial
        self._talk = talk
        self._unacked: deque[Kept] = deque()
        self._acked: deque[Kept] = deque()
        self._outgoing: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._over: set[tuple[str, str]] = set()  # prompts that were withdrawn, by epoch
        self._lost_at = self._asked_at = 0.0
        self._retrying = False
        self._failures = 0
        self._bidden: float | None = None
        self._talking: asyncio.Task[None] | None = None
        self._acts: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        how = "stream" if self.stream else "socket"
        return f"{self.user} ({how}, {'live' if self.live else 'away'} at {self.at}, {self.epoch}:{self.offset})"

    # --- what a page does ---

    @property
    def waiting(self) -> int:
        """Events not yet acknowledged."""
        return len(self._unacked)

    @property
    def busy(self) -> bool:
        """Whether it will do something more by itself."""
        return bool(self._unacked or self._acts)

    def acknowledged(self) -> list[str]:
        """Ids of all it was told are stored, in this epoch, of the last 60 s."""
        return [kept.message["id"] for kept in self._acked]

    def track(self, name: str, **properties: Any) -> None:
        message: Message = {
            "type": "track",
            "id": f"{self.user}-{len(self.ids)}",
            "name": name,
            "properties": properties,
        }
        self._count(name, message["id"], properties.get("weight", 0))
        self._unacked.append(Kept(message, perf_counter()))
        if self.live:
            self._send(message)

    def work(self) -> None:
        self.track("worked", weight=random.randrange(1 << 20))

    def elsewhere(self) -> dict[str, object]:
        """Something this page's user did somewhere else, as a server-side SDK tells it."""
        event, weight = f"{self.user}-{len(self.ids)}", random.randrange(1 << 20)
        self._count("worked", event, weight)
        told = {"type": "track", "userId": self.user, "messageId": event, "event": "worked"}
        return told | {"properties": {"weight": weight}}

    def _count(self, name: str, event: str, weight: int) -> None:
        self.sent[name] += 1
        self.ids.append(event)
        self.checksum += weight

    def leave_unless(self, base: str) -> None:
        """Go and come back, but for one that is there already."""
        if self.at != base and self._talking is not None:
            self._bidden = 0.0
            self._talking.cancel()

    async def run(self) -> None:
        """Be connected, for ever."""
        try:
            while True:
                with suppress(*Gone):
                    self.at = self.dial()
                    await self._talk_to(self.at)
                self._lose()
                await asyncio.sleep(self._pause())
        finally:
            for act in self._acts:
                act.cancel()

    async def _talk_to(self, base: str) -> None:
        self._talking = asyncio.create_task(self._talk(self, base))
        try:
            await asyncio.wait([self._talking])
        finally:
            self._talking.cancel()
        if not self._talking.cancelled():
            self._talking.result()

    def _pause(self) -> float:
        bidden, self._bidden = self._bidden, None
        if bidden is not None:
            return bidden
        self._failures += 1
        return min(BACKOFF[1], BACKOFF[0] * 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1)

    def _lose(self) -> None:
        if self.live:
            self.tally.counts["connections lost"] += 1
            self._lost_at = perf_counter()
        self.live = False
        self._outgoing.clear()

    def _send(self, message: Message) -> None:
        self._outgoing.append(message)
        self._wake.set()

    async def next(self) -> Message:
        while not self._outgoing:
            self._wake.clear()
            await self._wake.wait()
        return self._outgoing.popleft()

    def hello(self) -> dict[str, Any]:
        """Who comes, and where they were; what is said next has to be the welcome."""
        self._asked_at = perf_counter()
        known = {"epoch": self.epoch, "offset": self.offset} if self.epoch else {}
        return {"user_id": self.user, **known}

    # --- what a page is told ---

    def take(self, message: Message) -> None:
        match message["type"]:
            case "welcome":
                self._welcome(message)
            case "prompt" | "withdraw" | "content" | "flow":
                self._follow(message)
            case "ack":
                self.acknowledge(message["up_to"])
            case "error":
                self._hear_error(message)
            case "bye":
                self._bidden = message["reconnect_ms"] / 1000

    def _welcome(self, welcome: Message) -> None:
        if self._lost_at:
            self.tally.resumes.append((perf_counter() - self._lost_at) * 1000)
            self._lost_at = 0.0
            self.tally.welcomes.append((perf_counter() - self._asked_at) * 1000)
        changed = bool(self.epoch) and welcome["epoch"] != self.epoch
        if welcome["recovered"]:
            self.tally.counts["resumed by suffix"] += 1
            if changed or welcome["offset"] != self.offset:
                self.tally.wrong.append(f"{self.user} resumed somewhere else")
        else:
            self.tally.counts["resumed by snapshot"] += bool(self.epoch)
            self._replace(welcome, changed)
        self.epoch, self.offset = welcome["epoch"], welcome["offset"]
        self._failures = 0
        if changed:
            self.tally.counts["epochs changed"] += 1
            self._doubt()
        if not self.live or changed:
            self._send_again()
        self.live = True

    def _replace(self, welcome: Message, changed: bool) -> None:
        if not changed and welcome["offset"] < self.offset:
            self.tally.wrong.append(f"{self.user} went back from {self.offset} to {welcome['offset']} in one epoch")
        self.slots = dict(welcome["slots"])
        prompts = {prompt["id"]: prompt for prompt in welcome["prompts"]}
        for prompt in prompts.values():
            if prompt["id"] not in self.prompts:
                self._show(welcome["epoch"], prompt)
        self.prompts = prompts

    def _send_again(self) -> None:
        self._outgoing.clear()
        for kept in self._unacked:
            self._send(kept.message)

    def _doubt(self) -> None:
        """What was acknowledged in an epoch that is over may be lost: it has to be acknowledged anew. It goes behind
        what is under way, whose acknowledgement must not count for it."""
        doubtful = [kept for kept in self._acked if kept.acked >= perf_counter() - KEPT_FOR]
        self.tally.counts["sent again though acknowledged"] += len(doubtful)
        self._unacked.extend(doubtful)
        self._acked.clear()

    def _follow(self, message: Message) -> None:
        if message["offset"] <= self.offset:
            self.tally.counts["messages told twice"] += 1
            return
        if message["offset"] != self.offset + 1:
            self.tally.wrong.append(f"{self.user} missed messages {self.offset + 1} to {message['offset'] - 1}")
        self.offset = message["offset"]
        if message["type"] == "content":
            self.slots[message["slot"]] = message["block"]
        elif message["type"] == "prompt":
            self._show(self.epoch, message)
            self.prompts[message["id"]] = message
        elif message["type"] == "withdraw":
            self._over.add((self.epoch, message["id"]))
            self.prompts.pop(message["id"], None)

    def _show(self, epoch: str, prompt: Message) -> None:
        self.seen_prompts.add(prompt["id"])
        self.tally.counts["prompts shown"] += 1
        if (epoch, prompt["id"]) in self._over or prompt["id"] in self.prompts:
            self.tally.wrong.append(f"{self.user} was shown {prompt['id']} again")
        act = asyncio.create_task(self._handle(prompt["id"]))
        self._acts.add(act)
        act.add_done_callback(self._acts.discard)

    async def _handle(self, prompt: str) -> None:
        await asyncio.sleep(HANDLED_AFTER * random.uniform(0.5, 1.5))
        self.track("prompt_dismissed", prompt=prompt)

    def _hear_error(self, error: Message) -> None:
        if error["code"] != "store-down":
            self.tally.wrong.append(f"{self.user} was told {error['code']}: {error['message']}")
            return
        self.tally.counts["refused for now"] += 1
        if not self._retrying:
            self._retrying = True
            asyncio.get_running_loop().call_later(AGAIN, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if self.live and not self.stream:
            self._send_again()

    def acknowledge(self, event: str) -> None:
        """This event is stored, and all that was sent before it."""
        if any(kept.message["id"] == event for kept in self._unacked):
            while self._settle(self._unacked.popleft()) != event:
                pass

    def acknowledge_alone(self, event: str) -> None:
        """This event is stored; a post's answer says nothing of others."""
        for kept in [kept for kept in self._unacked if kept.message["id"] == event]:
            self._unacked.remove(kept)
            self._settle(kept)

    def _settle(self, kept: Kept) -> str:
        now = perf_counter()
        if not kept.acked:
            self.tally.acks.append((now - kept.made) * 1000)
        kept.acked = now
        self._acked.append(kept)
        while self._acked[0].acked < now - KEPT_FOR:
            self._acked.popleft()
        return str(kept.message["id"])
