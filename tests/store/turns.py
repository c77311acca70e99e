"""Commits for the store's tests, without the engine that makes them in earnest."""

from __future__ import annotations

from typing import Any

from handrail.core.state import State
from handrail.store import Commit, Job

NOW = 1_790_000_000_000
DAY = 24 * 3_600_000


def turn(user: str = "ana", version: int = 1, offset: int = 0, frames: int = 0, **more: Any) -> Commit:
    """The commit that makes `version`, its last `frames` messages ending at `offset`."""
    state = State(user=user, epoch="e1", version=version, offset=offset, traits=more.pop("traits", {}))
    numbers = range(offset - frames + 1, offset + 1)
    told = tuple((number, b'{"type":"content","offset":%d}' % number) for number in numbers)
    return Commit(state=state, **{"expected": version - 1, "frames": told, "now": NOW, "node": "n1", **more})


def job(name: str, due: int = NOW, user: str = "ana") -> Job:
    return Job(id=name, user=user, webhook="mail", body=b'{"to":"a"}', created=NOW, due=due)
