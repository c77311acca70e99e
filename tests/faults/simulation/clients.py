"""A browser tab as the server meets it: the browser client's rules of resuming, reducing and sending again, in Python.

It keeps what was not acknowledged and sends it after every welcome; it keeps what was acknowledged within the last
minute and sends that again when the epoch changed: over another connection where something has left twice over this
one, whose acknowledgements it could not tell apart.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from .network import Pipe

KEPT = 60_000  # ms that an acknowledged event is kept
LATE = 2_000  # ms after which an event carries the time it was made
PATIENCE = 4.0  # seconds from dialling to the welcome
WAITS = (0.1, 0.5, 3.0)  # seconds at most before another try
NAMES = ("puzzled", "begun", "cancelled", "opened", "ordered", "step_completed")
REACTIONS = ("prompt_dismissed", "prompt_clicked", "prompt_snoozed", "prompt_completed", "prompt_shown")

_encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class Tab:
    """`dial` gives a connection to some process, or None where there is none; `acknowledged` hears what it takes for
    stored; `clock` gives ms since 1970."""

    def __init__(
        self,
        name: str,
        user: str,
        random: Random,
        *,
        dial: Callable[[Tab], Pipe | None],
        acknowledged: Callable[[Tab, list[str]], None],
        clock: Callable[[], int],
        later: Callable[..., Any],
        tally: Counter[str],
    ) -> None:
        self.name = name
        self.user = user
        self.pipe: Pipe | None = None
        self.live = False
        self.epoch, self.offset = "", 0
        self.prompts: dict[str, Any] = {}
        self.slots: dict[str, Any] = {}
        self.flow: dict[str, Any] | None = None
        self.connection = ""
        self.unacknowledged: dict[str, tuple[dict[str, Any], int]] = {}
        self.acknowledged: deque[tuple[int, dict[str, Any], int]] = deque()  # when, message, when it was made
        self.all_acknowledged: set[str] = set()
        self.settled: set[str] = set()  # prompts whose dismissal was acknowledged
        self.said: tuple[str, int] = ("", 0)  # the position in the last hello
        self._random = random
        self._dial, self._told, self._clock, self._later, self._tally = dial, acknowledged, clock, later, tally
        self._sent = 0
        self._doubled = 0  # when something last left a second time over this connection
        self._tries = 0

    # --- the connection ---

    def connect(self) -> None:
        if self.pipe is not None:
            return
        self.pipe = self._dial(self)
        self._tries += 1
        if self.pipe is None:
            self._later(self._random.random() * self._random.choice(WAITS), self.connect)
            return
        self._later(PATIENCE, self._lose_patience, self._tries)
        hello: dict[str, Any] = {"type": "hello", "user_id": self.user, "device": self.name, "tab": self.name}
        self.said = (self.epoch, self.offset)
        if self.epoch:
            hello |= {"epoch": self.epoch, "offset": self.offset}
        self._say(hello)

    def ended(self, pipe: Pipe, code: int) -> None:
        if pipe is self.pipe:
            self._tally[f"page: closed with {code}"] += 1
            self.drop()

    def drop(self, *, silently_for: float = 0.0) -> None:
        """Lose the connection and come back soon."""
        if self.pipe is not None:
            self.pipe.close(silently_for=silently_for)
            self.pipe, self.live = None, False
            self._later(self._random.random() * self._random.choice(WAITS), self.connect)

    def _lose_patience(self, turn: int) -> None:
        if self.pipe is not None and not self.live and turn == self._tries:
            self._tally["page: no welcome in time"] += 1
            self.drop()

    # --- what comes ---

    def heard(self, pipe: Pipe, text: str) -> None:
        if pipe is not self.pipe:
            return
        frame = decode(text)
        match frame["type"]:
            case "welcome":
                self._welcomed(frame)
            case "ack":
                self._acknowledge(frame["up_to"])
            case "bye":
                self._tally[f"page: sent away with {frame['code']}"] += 1
                self.drop()
            case "prompt" | "withdraw" | "content" | "flow" if frame["offset"] > self.offset:
                self.offset = frame["offset"]
                self._apply(frame)

    def _welcomed(self, frame: dict[str, Any]) -> None:
        changed = bool(self.epoch) and self.epoch != frame["epoch"]
        again = self.live
        self.live = True
        self.epoch, self.offset = frame["epoch"], frame["offset"]
        self.connection = frame["connection"]
        if not frame["recovered"]:
            self.prompts = {prompt["id"]: prompt for prompt in frame["prompts"]}
            self.slots = dict(frame["slots"])
            self.flow = frame["flow"]
        kept = self._take_back() if changed else {}
        mixed = again and changed and self._clock() < self._doubled + KEPT
        # On a connection that goes on, acknowledgements of what it carried before may still come: these go behind.
        goes_on = again and not mixed
        self.unacknowledged = {**self.unacknowledged, **kept} if goes_on else {**kept, **self.unacknowledged}
        if mixed:
            self._tally["page: another connection for what is to be sent again"] += 1
            self.drop()
            return
        self._doubled = self._clock() if again and self.unacknowledged else self._doubled if again else 0
        for message, made in list(self.unacknowledged.values()):
            self._send(message, made)

    def _take_back(self) -> dict[str, tuple[dict[str, Any], int]]:
        """What the store may have lost."""
        now = self._clock()
        kept = {message["id"]: (message, made) for at, message, made in self.acknowledged if at >= now - KEPT}
        self._tally["page: acknowledged events sent again in a new epoch"] += len(kept)
        self.acknowledged.clear()
        return kept

    def _acknowledge(self, up_to: str) -> None:
        if up_to not in self.unacknowledged:
            return
        ids = list(self.unacknowledged)
        ids = ids[: ids.index(up_to) + 1]
        self._told(self, ids)
        for identity in ids:
            message, made = self.unacknowledged.pop(identity)
            self.acknowledged.append((self._clock(), message, made))
            self.all_acknowledged.add(identity)
            if message.get("name") in REACTIONS[:2]:
                self.settled.add(message["properties"]["prompt"])

    def _apply(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "prompt":
                self.prompts[frame["id"]] = frame
            case "withdraw":
                self.prompts.pop(frame["id"], None)
            case "content" if frame["block"] is None:
                self.slots.pop(frame["slot"], None)
            case "content":
                self.slots[frame["slot"]] = frame["block"]
            case "flow":
                self.flow = {key: frame[key] for key in ("id", "variant", "steps", "position")}

    # --- what the person does ---

    def act(self) -> None:
        """One thing that somebody does on this page."""
        chance = self._random.random()
        if chance < 0.35 and self.prompts:
            self._react(self._random.choice(list(self.prompts)))
        elif chance < 0.75:
            name = self._random.choice(NAMES)
            step = {"step": self._random.choice(("one", "two"))} if name == "step_completed" else {}
            self.track(name, {"n": self._sent, **step})
        elif chance < 0.85:
            self._keep({"type": "identify", "traits": {"plan": self._random.choice(("trial", "team"))}})
        elif chance < 0.95:
            visible = self._random.random() < 0.7
            if self.live:
                self._say({"type": "activity", "visible": visible, "idle_ms": self._random.randrange(3_000)})
        else:
            self._repeat()

    def track(self, name: str, properties: dict[str, Any], identity: str = "") -> None:
        self._keep({"type": "track", "name": name, "properties": properties}, identity)

    def _react(self, prompt: str) -> None:
        name = self._random.choice(REACTIONS)
        # All tabs that draw a prompt say so with one id.
        identity = f"{self.epoch}.{prompt}.shown" if name == "prompt_shown" else ""
        if identity not in self.all_acknowledged and identity not in self.unacknowledged:
            self.track(name, {"prompt": prompt}, identity)

    def _repeat(self) -> None:
        """Send something a second time, as senders do that are not sure."""
        if self.live and self.unacknowledged:
            self._doubled = self._clock()
            self._send(*list(self.unacknowledged.values())[-1])

    def _keep(self, message: dict[str, Any], identity: str = "") -> None:
        self._sent += 1
        message["id"] = identity or f"{self.name}.{self._sent}"
        made = self._clock()
        self.unacknowledged[message["id"]] = (message, made)
        if self.live:
            self._send(message, made)

    def _send(self, message: dict[str, Any], made: int) -> None:
        if message["type"] == "track" and self._clock() - made > LATE:
            message = {**message, "at": made}
        self._say(message, message["id"])

    def _say(self, message: dict[str, Any], identity: str = "") -> None:
        if self.pipe is not None:
            self.pipe.say(_encode(message).decode(), identity)
