"""F29: two versions of the rules, and of what is stored, side by side."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from msgspec import Struct
from test_drain import Server

from handrail.core import state as states
from handrail.core.frames import Block, Prompt
from handrail.core.state import (
    Connection,
    FlowChoice,
    Memory,
    Merger,
    OnScreen,
    Session,
    State,
    Stay,
    Tally,
    Wait,
    load_state,
)
from handrail.store import Embedded, RedisStore
from handrail.store.embedded import ask
from handrail.store.heads import LENGTH
from handrail.store.keys import BUCKET_KEYS, bucket_of, user_keys
from handrail.store.packing import pack_job, read_bell, read_job
from handrail.store.protocol import Bell, Job
from nodes import Start, greet, say, until

USERS = 12
BOTH = """
trigger: third
when: {count: {event: greeted, at_least: 3, within: 1h}}
then: [{set: {third: {cel: "user.counters.greetings"}}}]
---
trigger: later
when: {delay: {after: {event: greeted}, for: 1s}}
reentry: {max: 1}
then: [{set: {later: true}}]
---
counter: greetings
of: greeted
within: 24h
---
trigger: greet
when: {event: greeted}
then: [{content: {slot: top, message: hello}}]
---
"""
OWN = "message: hello\nkind: inline\ntitle: of version %d\n"
MORE = "---\ntrigger: only-here\nwhen: {event: greeted}\nthen: [{set: {seen_by: 2}}]\n"


async def test_f29_two_versions_of_the_rules(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    servers = []
    for version, text in enumerate((BOTH + OWN % 1, BOTH + OWN % 2 + MORE), start=1):
        (folder := tmp_path / str(version)).mkdir()
        servers.append(Server(folder, valkey.url))
        (folder / "rules" / "rules.yaml").write_text(text)
    await asyncio.gather(*(server.start() for server in servers))
    try:
        faults = Counter[str]()
        for number in range(3):
            for user in range(USERS):
                here, there = servers[:: 1 if (number + user) % 2 else -1]
                await track(here, f"u{user}", number)
                await track(there, f"u{user}", number)  # the same again, at the other
                state = await store.load(f"u{user}")
                assert state is not None
                faults["decided by the wrong rules"] += (
                    state.slots["top"].title != f"of version {servers.index(here) + 1}"
                )
        states = [await finished(store, f"u{user}") for user in range(USERS)]
        faults["counted wrong"] = sum(state.traits.get("third") != 3 for state in states)
        faults["not told three times"] = sum(state.offset != 3 for state in states)
        faults["waits forgotten"] = sum("later" not in state.traits for state in states)
        faults["events applied twice or not"] = sum(
            len([event for event in state.seen if event.startswith("u")]) != 3 for state in states
        )
    finally:
        for server in servers:
            server.end()
    tell(what="rules", users=USERS, events=3 * USERS, mismatches=sum(faults.values()))
    assert not +faults


async def track(server: Server, user: str, number: int) -> None:
    body = {"userId": user, "event": "greeted", "messageId": f"{user}-{number}"}
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
        assert (await client.post("/v1/track", json=body)).status_code == 200


async def finished(store: RedisStore, user: str) -> State:
    """The state when its timer has fired, or does not."""
    tries = 0
    while True:
        state, tries = await store.load(user), tries + 1
        assert state is not None
        if "later" in state.traits or tries == 300:
            return state
        await asyncio.sleep(0.05)


def tell(**figures: Any) -> None:
    print(json.dumps({"fault": "F29", **figures}))


# --- what is stored: a later version appends fields, an earlier one has fewer --------------------------------------

NOW = 1_800_000_000_000
FULL = State(
    user="ada",
    epoch="e1",
    version=1,
    offset=1,
    first_seen=NOW,
    last_activity=NOW,
    traits={"plan": "trial"},
    session=Session("s1", NOW, events=3, newest=NOW),
    sessions=1,
    connections={"c1": Connection("n1", "d", "t", visible=False)},
    counters={"uses": Tally(2, (NOW, NOW + 1), {"x": NOW})},
    flow=FlowChoice("f", "v", ("a",), 0, True),
    slots={"hero": Block(message="m", title="t")},
    prompt=OnScreen(Prompt(offset=1, id="p1", message="help", kind="modal"), expires=NOW + 500_000, shown=True),
    waits=(Wait(due=NOW + 500_000, trigger="stuck", name="begun", entry="k"),),
    stay=Stay("one", NOW, NOW, 5, 5),
    memory={"stuck#0": Memory("r", {"k": (1, 2)})},
)


def pack(value: Any, version: int) -> Any:
    """As a version of the program writes it that has one field more (1), or one less (-1), in everything it stores."""
    if isinstance(value, Struct):
        fields = {name: pack(getattr(value, name), version) for name in value.__struct_fields__}
        if value.__struct_config__.array_like:
            return resize(list(fields.values()), version, least=len(fields) - len(value.__struct_defaults__))
        tag = {"type": value.__struct_config__.tag} if value.__struct_config__.tag else {}
        return tag | fields | ({"of_later": [1, {}]} if version > 0 else {})
    if isinstance(value, dict):
        return {key: pack(each, version) for key, each in value.items()}
    return [pack(each, version) for each in value] if isinstance(value, tuple) else value


def resize(fields: list[Any], version: int, *, least: int) -> list[Any]:
    return [*fields, {"of": "later"}] if version > 0 else fields[: max(least, len(fields) + min(version, 0))]


def arrays(value: Any) -> Iterator[type]:
    """The kinds of structs within that are stored as arrays."""
    if isinstance(value, Struct):
        if value.__struct_config__.array_like:
            yield type(value)
        for name in value.__struct_fields__:
            yield from arrays(getattr(value, name))
    elif isinstance(value, dict | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from arrays(each)


def test_nothing_that_is_stored_as_an_array_is_left_out() -> None:
    own = {kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, Struct)}
    stored = {kind for kind in own if kind.__struct_config__.array_like}
    assert stored == set(arrays(FULL)) | {Merger}


@pytest.mark.parametrize("version", [1, -1], ids=["later", "earlier"])
async def test_f29_what_another_version_stored_is_read_and_gone_on_from(
    start: Start, store: RedisStore, valkey: Embedded, version: int
) -> None:
    writer = await start("t-a")
    async with writer.dial() as page:
        await greet(page, "ada")
        await say(page, "track", id="e1", name="puzzled")
    await until(lambda: not writer.live.users())
    await writer.runner.drain()
    state = await store.load("ada")
    assert state is not None
    assert state.prompt is not None
    key = user_keys("ada").state
    place = Path(valkey.url.removeprefix("unix://"))
    state = msgspec.structs.replace(FULL, epoch=state.epoch, version=state.version, offset=state.offset)
    body = msgspec.msgpack.encode({**pack(state, version), "seen": {}, "op": ""})
    head = ask(place, command(b"GETRANGE", key, b"0", b"%d" % (LENGTH - 1))).partition(b"\r\n")[2].removesuffix(b"\r\n")
    assert ask(place, command(b"SET", key, head + body)) == b"+OK\r\n"
    line = command(
        b"XADD", BUCKET_KEYS[bucket_of("ada")].log, b"*", b"user", b"ada", b"at", b"5", b"line", b"{}", b"v", b"9"
    )
    ask(place, line)
    reader = await start("t-b")
    async with reader.dial() as page:
        welcome = await greet(page, "ada")
        assert [prompt["id"] for prompt in welcome["prompts"]] == ["p1"]
        await say(page, "track", id="e2", name="greeted")
        await reader.runner.drain()
    after = await store.load("ada")
    assert after is not None
    assert {"e1", "e2"} <= set(after.seen)
    assert after.traits == FULL.traits
    assert [found async for found in store.follow("ada", 5, live=False)]
    assert not store.counts.totals
    tell(what="stored", version="later" if version > 0 else "earlier", mismatches=0)


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def test_what_a_later_version_appends_is_passed_over() -> None:
    known = msgspec.structs.replace(FULL, merger=Merger("bea", NOW, NOW + 1))
    assert load_state(msgspec.msgpack.encode({**pack(known, 1), "seen": {}, "op": ""}), {}) == known
    bell = Bell("ada", 7, "n1", "e1")
    assert read_bell(msgspec.msgpack.encode(pack(bell, 1))) == bell
    job = Job(id="j", user="ada", webhook="mail", created=4, due=5, body=b"{}")
    head = pack_job(job)[:4]
    assert read_job(head + msgspec.msgpack.encode(pack(job, 1))) == job


def test_what_an_earlier_version_did_not_have_is_at_its_default() -> None:
    state = load_state(msgspec.msgpack.encode({**pack(FULL, -1), "seen": {}, "op": ""}), {})
    assert state.connections["c1"] == Connection("n1", "d", "t", visible=True)
    assert state.session == Session("s1", NOW, events=3)
    assert read_bell(msgspec.msgpack.encode(pack(Bell("ada", 7, "n1", "e1"), -1))) == Bell("ada", 7, "n1")
