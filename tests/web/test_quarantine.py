"""What was set aside, for whoever has the admin key."""

from __future__ import annotations

import msgspec
import pytest

from handrail.core.events import Track
from handrail.guard import FAILURES
from handrail.store import Quarantined, RedisStore
from handrail.store.keys import QUARANTINE
from servers import Serve

KEY = "an-admin-key-of-some-length"


def entry(number: int, **more: bytes) -> Quarantined:
    event = msgspec.json.encode(Track(id=f"e{number}", name="clicked", at=number))
    given = {"event": event, **more}
    return Quarantined(at=number, node="t-a", user="ada", kind="track", id=f"e{number}", reason="why", **given)


async def test_the_newest_first_with_the_event_as_it_came(serve: Serve, store: RedisStore) -> None:
    client = await serve()
    for number in (1, 2):
        await store.set_aside(entry(number))
    told = (await client.get("/api/quarantine")).json()
    assert [(each["id"], each["event"]["name"]) for each in told["entries"]] == [("e2", "clicked"), ("e1", "clicked")]
    assert told["switched_off"] == []


async def test_what_cannot_be_read_is_passed_over_and_counted(serve: Serve, store: RedisStore) -> None:
    client = await serve()
    await store.set_aside(entry(1, event=b"{no json"))
    await store._ask(QUARANTINE, "XADD", QUARANTINE, "*", "e", b"\x80\x04pickle")
    assert [each["event"] for each in (await client.get("/api/quarantine")).json()["entries"]] == [None]
    assert store.counts.totals == {"unreadable.quarantine": 1}


async def test_it_takes_the_admin_key(serve: Serve) -> None:
    client = await serve(admin_key=KEY)
    assert (await client.get("/api/quarantine")).status_code == 401
    assert (await client.get("/api/quarantine", headers={"Authorization": f"Bearer {KEY}"})).status_code == 200


async def test_a_trigger_that_keeps_failing_is_named_everywhere(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await serve()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("handrail.core.actions.set.SetTraits.run", fail)
    for _ in range(FAILURES):
        assert (await client.post("/v1/track", json={"userId": "ada", "event": "greeted"})).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["rules"]["switched_off"]) == (200, ["greet"])
    assert (await client.get("/api/quarantine")).json() == {"entries": [], "switched_off": ["greet"]}
    lines = (await client.get("/metrics")).text.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("handrail_rules_off ")] == ["1.0"]
    log = (await client.get("/api/tail?since=1h&follow=false")).text.splitlines()
    assert [msgspec.json.decode(line)["trace"][0]["outcome"] for line in log if line] == ["off"] * FAILURES
