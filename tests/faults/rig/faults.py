"""Which faults there are, and how much of each the long lane does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from . import hanging, killing, storing
from .figures import Figures


@dataclass(frozen=True)
class Fault:
    """`run` makes a rig in an empty folder and does the fault to it; the long lane does it `rounds` times with the
    options in `long`, each round on a rig of its own."""

    run: Callable[..., Coroutine[Any, Any, Figures]]
    long: dict[str, Any] = field(default_factory=dict)
    rounds: int = 1

    @property
    def what(self) -> str:
        return (self.run.__doc__ or "").partition(":")[0].partition(".")[0]


FAULTS = {
    "F1": Fault(killing.f1, {"kills": 10, "rate": 200, "pages": 100}, rounds=20),
    "F2": Fault(killing.f2, {"rounds": 10, "pages": 100}, rounds=10),
    "F3": Fault(killing.f3, {"rounds": 6, "pages": 100}, rounds=5),
    "F4": Fault(killing.f4, {"timers": 10_000, "away": 40.0}),
    "F5": Fault(killing.f5, {"stopped": 30.0, "pages": 100}, rounds=4),
    "F11": Fault(storing.f11, {"rounds": 6, "pages": 60}, rounds=10),
    "F11-always": Fault(storing.f11_always, {"rounds": 5, "pages": 60}, rounds=20),
    "F15": Fault(hanging.f15, {"hung": 20.0}, rounds=3),
    "F16": Fault(storing.f16, {"full": 10.0}, rounds=3),
    "F17": Fault(storing.f17, {"rounds": 3, "pages": 100}, rounds=5),
    "F18": Fault(storing.f18, {"flushes": 200}),
    "F24": Fault(storing.f24, {"rounds": 2, "pages": 100}, rounds=5),
    "F25": Fault(hanging.f25, {"pages": 100}, rounds=3),
    "F26": Fault(hanging.f26, {"cuts": 25, "pages": 100, "rate": 400, "hold": 0.4}, rounds=5),
}
