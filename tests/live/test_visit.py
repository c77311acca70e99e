"""One conversation on a transport of our own, so that what arrives at which moment is ours to say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from handrail.live.connection import Out
from handrail.live.visit import Visit
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
