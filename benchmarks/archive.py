"""`python -m benchmarks.archive EVENTS FILE`: a made-up archive for `handrail replay`, the same for the same number.

Twenty thousand people over thirty days, as Segment exports it: visits of a few events to an onboarding and to features,
some with an e-mail address, a little out of order, one line in a hundred twice.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

USERS = 20_000
A_VISIT = 6  # events
DAYS = 30
START = 1_767_603_600  # Monday, 5 January 2026, 09:00 UTC
STEPS = ("welcome", "profile", "workspace", "invite")
FEATURES = ("reports", "filters", "alerts", "exports", "sharing", "templates")
Call = dict[str, Any]


def calls(events: int, *, seed: int = 1) -> Iterator[Call]:
    """About in order of time, as they come in; visits of different people overlap."""
    chance = random.Random(seed)
    waiting: list[Call] = []
    visits = max(1, events // A_VISIT)
    made = 0
    for visit in range(visits + 1):
        begun = START + DAYS * 86_400 * visit / visits + chance.uniform(0, 600)
        waiting += _visit(chance, f"user-{chance.randrange(USERS):05}", begun, visit)
        if len(waiting) >= 2_000 or visit == visits:
            chance.shuffle(waiting)
            for call in waiting[: events - made]:
                yield call
                made += 1
            waiting = []


def _visit(chance: random.Random, user: str, begun: float, number: int) -> Iterator[Call]:
    """An identify or a page first, then what they do, some seconds or minutes apart."""
    at = begun
    for index in range(A_VISIT):
        call = {"type": "page", "name": "App"} if index == 0 else _deed(chance)
        if index == 0 and chance.random() < 0.3:
            traits = {"email": f"{user}@example.com", "role": chance.choice(("developer", "marketing", "sales"))}
            call = {"type": "identify", "traits": traits}
        stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        shared = {"userId": user, "messageId": f"m-{number}-{index}", "timestamp": stamp, "receivedAt": stamp}
        yield {**call, **shared, "context": {"locale": "en-GB", "library": {"name": "analytics.js"}}}
        if index == 1 and chance.random() < 0.06:
            yield {**call, **shared}
        at += chance.expovariate(1 / 60)


def _deed(chance: random.Random) -> Call:
    if chance.random() < 0.5:
        return {"type": "track", "event": "feature_used", "properties": {"feature": chance.choice(FEATURES)}}
    event = chance.choice(("step_viewed", "step_viewed", "step_completed", "step_skipped"))
    return {"type": "track", "event": event, "properties": {"step": chance.choice(STEPS)}}


def write(events: int, path: Path) -> None:
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        file.writelines(encode(call) + b"\n" for call in calls(events))


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
