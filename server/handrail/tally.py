"""What became of events, counted by kind once the store has them."""

from __future__ import annotations

from collections.abc import Iterable

from handrail.core.effects import Push
from handrail.core.frames import Prompt
from handrail.counts import Counts
from handrail.turns import Outcome


def tally(counts: Counts, outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.duplicate:
            counts.add("events.duplicate")
            continue
        counts.add("events.set_aside" if outcome.set_aside else "events.accepted")
        for effect in outcome.effects:
            if isinstance(effect, Push) and isinstance(effect.frame, Prompt):
                counts.add("prompts_shown")
        for line in outcome.trace:
            if line.outcome == "suppressed":
                counts.add(f"suppressed.{line.reason}")
