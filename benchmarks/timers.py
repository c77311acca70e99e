"""How late timers fire: a million are armed, of which some fall due at leisure, and then a thousand a second.

Those that fall due are armed through the store's own commits, with states that the core made of an event and a `delay`
rule, as the server would have; the real server then fires them. Lateness is the store's own stamp of the commit in
which the timer's trigger fired, less the time it was due. The rest, which never fall due, only stand in the store's
sorted sets, where their weight is read off.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace
from redis import Redis

from benchmarks import machine
from benchmarks.figures import MeasurementFault, Row, quantile, row
from benchmarks.servers import Ground, Server, ground, serving
from handrail.core import engine
from handrail.core.events import Track
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.store import Commit, RedisStore
from handrail.store.keys import BUCKET_KEYS, bucket_of

RULES = """
trigger: nudge
when: {delay: {after: {event: started}, for: 25m}}
then:
  - set: {nudged: true}
"""
DELAY = 25 * 60_000  # ms; shorter than the session's idle limit, so the delay is each user's first alarm
ARMED, QUICK_ARMED = 1_000_000, 50_000
LATER = 60 * 60_000  # ms until the first of those that do not fall due while this runs
A_PIPELINE = 10_000
AT_ONCE = 500  # commits under way while arming
PATIENCE = 10.0  # seconds that the last may be late before it counts as lost
GOALS = {"at leisure": 50, "at full pace": 250}  # ms that 99 of 100 may be late
WEIGHT_GOAL = 120  # bytes


class Plan(NamedTuple):
    """How many fall due at leisure and then at full pace, within how long each (ms), and how long arming may take."""

    few: int
    few_over: int
    many: int
    many_over: int
    lead: int


PLAN, QUICK_PLAN = Plan(400, 10_000, 20_000, 20_000, 45_000), Plan(50, 2_000, 2_000, 4_000, 10_000)


def run(quick: bool) -> list[Row]:
    armed, plan = (QUICK_ARMED, QUICK_PLAN) if quick else (ARMED, PLAN)
    program = load({"rules.yaml": RULES}, {}).program
    assert program is not None
    with ground() as place:
        weight = _fill(place, armed - plan.few - plan.many)
        with serving(place, RULES) as server:
            first = _now() + plan.lead
            due = _moments(plan, first)
            asyncio.run(_arm(place.url, program, due))
            if _now() >= first:
                raise MeasurementFault(
                    f"arming {len(due):,} timers took more than {plan.lead / 1000:g} s: this machine is too busy"
                )
            found = _fire(place, server, plan, due, armed)
    return [row(f"a timer's weight, of {armed:,} armed", [weight], "B", places=0, below=WEIGHT_GOAL), *found]


def _fill(place: Ground, many: int) -> float:
    """Arm so many that do not fall due, and return the bytes of each in the store."""
    start = _now() + LATER
    with Redis.from_url(place.url, protocol=2) as redis:
        before = redis.info("memory")["used_memory"]
        for at in range(0, many, A_PIPELINE):
            with redis.pipeline(transaction=False) as pipeline:
                for number in range(at, min(at + A_PIPELINE, many)):
                    user = f"later-{number:07}"
                    pipeline.zadd(BUCKET_KEYS[bucket_of(user)].timers, {user: start + number})
                pipeline.execute()
        weight: float = (redis.info("memory")["used_memory"] - before) / many
    return weight


def _moments(plan: Plan, first: int) -> dict[str, int]:
    """When each falls due, by user."""
    few = {f"few-{number}": first + number * plan.few_over // plan.few for number in range(plan.few)}
    start = first + plan.few_over
    return few | {f"many-{number}": start + number * plan.many_over // plan.many for number in range(plan.many)}


def _fire(place: Ground, server: Server, plan: Plan, due: dict[str, int], armed: int) -> list[Row]:
    with Redis.from_url(place.url, protocol=2) as redis:
        waiting = sum(redis.zcard(keys.timers) for keys in BUCKET_KEYS)
        if waiting != armed:
            raise MeasurementFault(f"{waiting:,} timers are armed, not {armed:,}")
        _sleep_until(min(due.values()) + plan.few_over)
        used = machine.cpu_seconds(server.pid)
        _sleep_until(max(due.values()))
        used = machine.cpu_seconds(server.pid) - used
        last = time.monotonic() + PATIENCE
        while sum(redis.zcount(keys.timers, "-inf", _now()) for keys in BUCKET_KEYS) and time.monotonic() < last:
            time.sleep(0.25)
        fired = [(user, at) for keys in BUCKET_KEYS for user, at in _nudges(redis, keys.log)]
    rates = [plan.few * 1_000 / plan.few_over, plan.many * 1_000 / plan.many_over]
    rows = []
    for (pace, goal), name, rate in zip(GOALS.items(), ("few", "many"), rates, strict=True):
        late = [at - due[user] for user, at in fired if user.startswith(name) and user in due]
        rows += _lateness(f"lateness {pace}", f"{rate:,.0f} due a second", late, goal)
    return [*rows, _faults(due, fired), Row("  server CPU a timer", f"{used / plan.many * 1e6:,.0f} µs")]


def _sleep_until(moment: int) -> None:
    time.sleep(max(0.0, (moment - _now()) / 1000))


def _nudges(redis: Redis, log: bytes) -> Iterable[tuple[str, int]]:
    """(user, when it was written) of every firing in a bucket's event log."""
    entries: Any = redis.xrange(log)
    for entry, fields in entries:
        line = msgspec.json.decode(fields[b"line"])
        if any(decision["trigger"] == "nudge" for decision in line["decisions"]):
            yield fields[b"user"].decode(), int(entry.partition(b"-")[0])


def _lateness(what: str, rate: str, late: list[int], goal: int) -> list[Row]:
    p99 = quantile(late, 0.99)
    return [
        Row(f"{what}, p50", f"{quantile(late, 0.5):,.0f} ms", rate),
        Row(f"{what}, p99", f"{p99:,.0f} ms", rate, f"≤ {goal} ms", p99 <= goal),
        Row(f"{what}, max", f"{max(late):,.0f} ms", rate),
    ]


def _faults(due: dict[str, int], fired: list[tuple[str, int]]) -> Row:
    times = Counter(user for user, _ in fired)
    lost, twice = due.keys() - times.keys(), [user for user, count in times.items() if count > 1]
    early = [user for user, at in fired if user not in due or at < due[user]]
    right = not lost and not twice and not early
    return Row("  lost · twice · early", f"{len(lost)} · {len(twice)} · {len(early)}", "", "none", right)


async def _arm(url: str, program: Program, due: Mapping[str, int]) -> None:
    store = await RedisStore.connect(url, deadline=30)
    gate = asyncio.Semaphore(AT_ONCE)

    async def arm(user: str, at: int) -> None:
        try:
            if not await store.commit(_commit(program, user, at, store.lineage(user))):
                raise MeasurementFault(f"{user} exists already")
        finally:
            gate.release()

    async with asyncio.TaskGroup() as tasks:
        for user, at in due.items():
            await gate.acquire()
            tasks.create_task(arm(user, at))
    await store.close()


def _commit(program: Program, user: str, due: int, lineage: str) -> Commit:
    """The turn in which the user does what the delay waits for, so that it is over at `due`."""
    event = Track(id=f"m-{user}", name="started", at=due - DELAY)
    now = _now()
    step = engine.step(program, engine.fresh(program, user, "e-1", event.at), event, now)
    alarm = engine.alarm(program, step.state)
    if alarm != due:
        raise MeasurementFault(f"the alarm should be due at {due}, not at {alarm}")
    state = replace(step.state, version=1, lineage=lineage)
    return Commit(state=state, expected=0, alarm=alarm, seen=((event.id, now),), node="bench", now=now)


def _now() -> int:
    return time.time_ns() // 1_000_000
