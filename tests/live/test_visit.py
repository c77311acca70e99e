"""One conversation on a transport of our own, so that what arrives at which moment is ours to say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from handrail.core.events import Event
from handrail.live.connection import Out
from handrail.live.visit import Visit
from handrail.turns import Outcome
from nodes import Node, until


class Page:
    """Hears what the server says."""

    name = "page"

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.reads = True

    def write(self, batch: list[Out]) -> None:
        self.heard += [msgspec.json.decode(out.data) for out in batch]

    def close(self, code: int, reason: str, reconnect_ms: int) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    @property
    def acknowledged(self) -> list[str]:
        return [message["up_to"] for message in self.heard if message["type"] == "ack"]


def tell(kind: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **fields})


async def test_the_last_acknowledgement_is_that_of_the_last_event_of_a_user_just_made_known(node: Node) -> None:
    page, ids = Page(), [f"e{number}" for number in range(250)]
    visit = Visit(node.live.desk, page)
    visit.hear(tell("hello", user_id="ada"))
    await until(lambda: page.reads)  # now the hello is being written, and all that follows waits
    for each in ids[:200]:
        visit.hear(tell("track", id=each, name="looked"))
    await until(lambda: (state := node.runner.recall("ada")) is not None and state.known)
    for each in ids[200:]:
        visit.hear(tell("track", id=each, name="looked"))
    await node.runner.drain()
    await asyncio.sleep(0.01)  # for what is on its way to the page
    assert page.acknowledged[-1] == ids[-1]
    assert page.acknowledged == sorted(page.acknowledged, key=ids.index)
    visit.leave()
    await node.runner.drain()


async def test_what_the_old_epoch_had_is_acknowledged_ahead_of_the_welcome_of_the_new(node: Node) -> None:
    page = Page()
    visit = Visit(node.live.desk, page)
    visit.hear(tell("hello", user_id="ada"))
    await until(lambda: page.heard != [])
    visit.block()
    visit.hear(tell("track", id="e1", name="looked"))
    await node.runner.drain()
    visit.connection.greet(b'{"type":"welcome"}', "another", 0)
    visit.unblock()
    await until(lambda: len(page.heard) == 3)
    assert [message["type"] for message in page.heard] == ["welcome", "ack", "welcome"]
    assert page.acknowledged == ["e1"]
    visit.leave()
    await node.runner.drain()


async def test_what_only_the_old_epoch_had_is_submitted_again_before_it_is_acknowledged(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, submitted = Page(), list[str]()
    held: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    submit = node.live.desk.profiles.submit

    def hold(user: str, event: Event, *, known: bool) -> asyncio.Future[Outcome]:
        submitted.append(event.id)
        return held if event.id == "e1" else submit(user, event, known=known)

    monkeypatch.setattr(node.live.desk.profiles, "submit", hold)
    visit = Visit(node.live.desk, page)
    visit.hear(tell("hello", user_id="ada"))
    await until(lambda: page.heard != [])
    for each in ("e1", "e2"):
        visit.hear(tell("track", id=each, name="looked"))
    await node.runner.drain()
    visit.connection.greet(b'{"type":"welcome"}', "another", 0)
    held.set_result(Outcome(id="e1"))
    await until(lambda: page.acknowledged != [])
    assert submitted[1:] == ["e1", "e2", "e2"]
    await until(lambda: page.acknowledged[-1] == "e2")
    assert page.acknowledged == ["e1", "e2"]
    visit.leave()
    await node.runner.drain()
