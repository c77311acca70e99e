"""How late timers fire: 100,000 users who wait, of whom 10,000 fall due over twenty seconds.

They are armed through the store's own commits, with states that the core made of an event and a `delay` rule, as the
server would have; the real server then fires them. Lateness is the store's own stamp of the commit in which the
timer's trigger fired, less the time it was due.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace
from redis import Redis

from benchmarks import machine
from benchmarks.figures import MeasurementFault, Row, quantile
from benchmarks.servers import Ground, Server, ground, serving
from handrail.core import engine
from handrail.core.events import Track
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.store import Commit, RedisStore
from handrail.store.keys import BUCKET_KEYS

RULES = """
trigger: nudge
when: {delay: {after: {event: started}, for: 25m}}
then:
  - set: {nudged: true}
"""
DELAY = 25 * 60_000  # ms; shorter than the session's idle limit, so the delay is each user's first alarm
DUE, ARMED = 10_000, 100_000
OVER = 20_000  # ms in which they fall due
LEAD = 12_000  # ms between the first arming of those and the first that is due
LATER = 10 * 60_000  # ms until the first of the rest, which do not fall due while this runs
AT_ONCE = 500  # commits under way while arming
PATIENCE = 10.0  # seconds that the last may be late before it counts as lost
GOAL_MS = 250


def run(quick: bool) -> list[Row]:
    program = load({"rules.yaml": RULES}, {}).program
    assert program is not None
    with ground() as place:
        started = _now()
        rest = ARMED - DUE
        asyncio.run(_arm(place.url, program, "later", [started + LATER + i * LATER // rest for i in range(rest)]))
        with serving(place, RULES) as server:
            first = _now() + LEAD
            due = {f"due-{i}": first + i * OVER // DUE for i in range(DUE)}
            asyncio.run(_arm(place.url, program, "due", due.values()))
            if _now() >= first:
                raise MeasurementFault(
                    f"arming {DUE:,} timers took more than {LEAD / 1000:g} s: this machine is too busy"
                )
            return _fire(place, server, due)


def _fire(place: Ground, server: Server, due: dict[str, int]) -> list[Row]:
    with Redis.from_url(place.url, protocol=2) as redis:
        armed = sum(redis.zcard(keys.timers) for keys in BUCKET_KEYS)
        if armed != ARMED:
            raise MeasurementFault(f"{armed:,} timers are armed, not {ARMED:,}")
        time.sleep(max(0.0, (min(due.values()) - _now()) / 1000))
        used = machine.cpu_seconds(server.pid)
        time.sleep(OVER / 1000)
        used = machine.cpu_seconds(server.pid) - used
        last = time.monotonic() + PATIENCE
        while sum(redis.zcount(keys.timers, "-inf", _now()) for keys in BUCKET_KEYS) and time.monotonic() < last:
            time.sleep(0.25)
        fired = [(user, at) for keys in BUCKET_KEYS for user, at in _nudges(redis, keys.log)]
    return _rows(due, fired, used)


def _nudges(redis: Redis, log: bytes) -> Iterable[tuple[str, int]]:
    """(user, when it was written) of every firing in a bucket's event log."""
    entries: Any = redis.xrange(log)
    for entry, fields in entries:
        line = msgspec.json.decode(fields[b"line"])
        if any(decision["trigger"] == "nudge" for decision in line["decisions"]):
            yield fields[b"user"].decode(), int(entry.partition(b"-")[0])


def _rows(due: dict[str, int], fired: list[tuple[str, int]], used: float) -> list[Row]:
    times = Counter(user for user, _ in fired)
    lost, twice = due.keys() - times.keys(), [user for user, count in times.items() if count > 1]
    early = [user for user, at in fired if user not in due or at < due[user]]
    lateness = [at - due[user] for user, at in fired if user in due]
    right = not lost and not twice and not early
    p99 = quantile(lateness, 0.99)
    rate = f"{DUE:,} of {ARMED:,} due, {DUE * 1000 // OVER:,}/s"
    return [
        Row("lateness, p50", f"{quantile(lateness, 0.5):,.0f} ms", rate),
        Row("lateness, p99", f"{p99:,.0f} ms", rate, f"≤ {GOAL_MS} ms", p99 <= GOAL_MS),
        Row("lateness, max", f"{max(lateness):,.0f} ms", rate),
        Row("  lost · twice · early", f"{len(lost)} · {len(twice)} · {len(early)}", "", "none", right),
        Row("  server CPU a timer", f"{used / DUE * 1e6:,.0f} µs"),
    ]


async def _arm(url: str, program: Program, name: str, due: Iterable[int]) -> None:
    store = await RedisStore.connect(url, deadline=30)
    gate = asyncio.Semaphore(AT_ONCE)

    async def arm(user: str, at: int) -> None:
        try:
            if not await store.commit(_commit(program, user, at)):
                raise MeasurementFault(f"{user} exists already")
        finally:
            gate.release()

    async with asyncio.TaskGroup() as tasks:
        for number, at in enumerate(due):
            await gate.acquire()
            tasks.create_task(arm(f"{name}-{number}", at))
    await store.close()


def _commit(program: Program, user: str, due: int) -> Commit:
    """The turn in which the user does what the delay waits for, so that it is over at `due`."""
    event = Track(id=f"m-{user}", name="started", at=due - DELAY)
    now = _now()
    step = engine.step(program, engine.fresh(program, user, "e-1", event.at), event, now)
    alarm = engine.alarm(program, step.state)
    if alarm != due:
        raise MeasurementFault(f"the alarm should be due at {due}, not at {alarm}")
    return Commit(
        state=replace(step.state, version=1), expected=0, alarm=alarm, seen=((event.id, now),), node="bench", now=now
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
