"""F42: whatever position a client claims, it gets what it missed or a snapshot, and never what is another's."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed

from handrail.core.events import Track
from handrail.store import Embedded
from handrail.store.embedded import ask
from handrail.store.keys import user_keys
from handrail.store.pipeline import pack
from nodes import Node, say

USERS = 12
MESSAGES = 40
KEPT = 15  # messages that the store still has of each user
ASKED = 400
SEED = 20_261_122


async def fill(node: Node, valkey: Embedded) -> dict[str, str]:
    """Users with messages that name them, the older ones trimmed away; the epoch of each."""
    epochs = {}
    for user in (f"user-{number}" for number in range(USERS)):
        for number in range(MESSAGES):
            await node.runner.submit(
                user, Track(id=f"e{number}", name="greeted", at=0, properties={"n": f"{user}/{number + 1}"})
            )
        ask(Path(valkey.url.removeprefix("unix://")), pack(("XTRIM", user_keys(user).outbox, "MAXLEN", KEPT)))
        epochs[user] = (await node.runner.read(user)).epoch
    return epochs


def claim(chance: random.Random, user: str, epochs: dict[str, str]) -> dict[str, Any]:
    other = chance.choice([each for each in epochs if each != user])
    epoch = chance.choice(
        [epochs[user]] * 6 + [epochs[other], "", epochs[user][:-1], epochs[user] + "0", "\u2603", None]
    )
    offset = chance.choice([*(chance.randint(0, MESSAGES) for _ in range(6)), MESSAGES, MESSAGES + 1, 2**53, 0, None])
    return {name: value for name, value in (("epoch", epoch), ("offset", offset)) if value is not None}


async def resume(node: Node, user: str, claimed: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The welcome and all numbered messages that follow at once."""
    async with node.dial() as client:
        await say(client, "hello", user_id=user, **claimed)
        welcome = msgspec.json.decode(await client.recv())
        assert welcome["type"] == "welcome", welcome
        head = (await node.runner.read(user)).offset
        followed = [msgspec.json.decode(await client.recv()) for _ in range(head - welcome["offset"])]
        await say(client, "ping")
        assert msgspec.json.decode(await client.recv())["type"] == "pong"
    return welcome, followed


async def test_no_position_shows_what_is_anothers(node: Node, valkey: Embedded) -> None:
    epochs, chance = await fill(node, valkey), random.Random(SEED)
    leaks: list[Any] = []
    suffixes = snapshots = 0
    for _ in range(ASKED):
        user = chance.choice(list(epochs))
        claimed = claim(chance, user, epochs)
        welcome, followed = await resume(node, user, claimed)
        continues = claimed.get("epoch") == epochs[user] and MESSAGES - KEPT <= claimed.get("offset", -1) <= MESSAGES
        assert welcome["recovered"] == continues, (SEED, user, claimed)
        assert welcome["epoch"] == epochs[user]
        titles = [message["block"]["title"] for message in followed if message["type"] == "content"]
        if continues:
            suffixes += 1
            assert titles == [f"Hello {user}/{number}" for number in range(claimed["offset"] + 1, MESSAGES + 1)]
        else:
            snapshots += 1
            assert (welcome["slots"]["top"]["title"], titles) == (f"Hello {user}/{MESSAGES}", [])
        leaks += [
            text
            for text in (json.dumps([welcome, followed]),)
            for each in epochs
            if f"{each}/" in text and each != user
        ]
    print(
        json.dumps({"fault": "F42", "asked": ASKED, "suffixes": suffixes, "snapshots": snapshots, "leaks": len(leaks)})
    )
    assert min(suffixes, snapshots) > 50
    assert leaks == []


async def test_a_position_that_is_none_ends_nothing(node: Node) -> None:
    for claimed in (
        {"offset": -1},
        {"offset": 2**63},
        {"offset": "1"},
        {"offset": 1.5},
        {"epoch": 7},
        {"epoch": "x" * 129},
    ):
        async with node.dial() as client:
            await say(client, "hello", user_id="ann", **claimed)
            assert msgspec.json.decode(await client.recv())["type"] == "error"
            try:
                await say(client, "hello", user_id="ann")
                assert msgspec.json.decode(await client.recv())["type"] == "welcome"
            except ConnectionClosed as end:
                raise AssertionError(claimed) from end
