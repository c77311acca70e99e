"""What has to happen at least once in a long simulation: one in which it never does shows nothing about it."""

from __future__ import annotations

from collections.abc import Mapping

SOMETIMES = (
    "a commit of a process that had been stopped was refused",
    "a commit sent again met itself",
    "a process died between commit and acknowledgement",
    "a process stopped in order",
    "an alarm rang that somebody had moved",
    "an applied event arrived again",
    "an expired prompt was left out",
    "conflict",
    "epoch changed",
    "fault: cut",
    "fault: forget",
    "fault: kill",
    "fault: leave",
    "fault: lose",
    "fault: outage",
    "fault: pause",
    "fault: stall",
    "fault: stop",
    "fault: vanish",
    "fault: wipe",
    "greeted a second time",
    "log: a process is gone; its connections are dropped",
    "log: others took this process for dead; its clients are asked to connect again",
    "log: the store is back",
    "outbox trimmed",
    "page: acknowledged events sent again in a new epoch",
    "page: error store-down",
    "resumed by snapshot",
    "resumed by snapshot in a new epoch",
    "resumed by snapshot in the same epoch",
    "resumed by suffix",
    "scripts told again",
    "store: a write arrived after its sender was gone",
    "store: bell lost",
    "store: connection cut before a write",
    "store: connection cut within a write",
    "store: no reply",
    "store: reply lost",
    "webhook: delivered twice",
    "webhook: tried again",
)


def missing(tally: Mapping[str, int]) -> list[str]:
    return [name for name in SOMETIMES if not tally.get(name)]
