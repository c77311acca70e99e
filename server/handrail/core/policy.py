"""Attention: what bounds how often a user is spoken to, and how long a session lasts.

Checks read the state and answer with a reason from REASONS or None; the caller records every suppression.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from handrail.core.durations import Duration, Limit, Limits
from handrail.core.holdout import Share
from handrail.core.source import Shape
from handrail.core.state import State
from handrail.core.zones import Clock, Hours, day_of, zone_fault, zone_of

# In the order they are checked, but for `holdout`: it is the reason only where nothing else is.
REASONS = ("limit", "cooldown", "cap", "gap", "busy", "quiet", "holdout", "late")
Channel = Literal["email", "prompts"]
KEPT = 200  # prompts and e-mails remembered at least, for caps that a later policy may set


class SessionShape(Shape):
    idle: Duration = 1_800_000
    max: Duration = 86_400_000
    active: Duration = 120_000


class PromptsShape(Shape):
    limit: Limits = ()
    gap: Duration = 0


class EmailShape(Shape):
    limit: Limits = ()


def _email() -> list[Channel]:
    return ["email"]


class QuietShape(Shape):
    start: Clock = Field(alias="from")
    end: Clock = Field(alias="to")
    applies_to: list[Channel] = Field(default_factory=_email, min_length=1)
    then: Literal["defer", "drop"] = "defer"

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.start == self.end:
            raise ValueError("'from' and 'to' are the same time: leave quiet_hours out for none")
        return self


class PolicyShape(Shape):
    policy: str
    description: str | None = None
    session: SessionShape = SessionShape()
    prompts: PromptsShape = PromptsShape()
    email: EmailShape = EmailShape()
    budget: Limits = ()
    quiet_hours: QuietShape | None = None
    holdout: Share = 0
    skew: Duration = 120_000


@dataclass(frozen=True, slots=True)
class Policy:
    """Durations in milliseconds; `budget` counts prompts and e-mail together.

    In the `quiet` hours those of `prompts` and `email` in `quiet_for` are held back; `holdout` is in basis points.
    """

    session_idle: int = 1_800_000
    session_max: int = 86_400_000
    active: int = 120_000
    prompts: tuple[Limit, ...] = ()
    gap: int = 0
    email: tuple[Limit, ...] = ()
    budget: tuple[Limit, ...] = ()
    quiet: Hours | None = None
    quiet_for: frozenset[str] = frozenset()
    quiet_defers: bool = False
    holdout: int = 0
    skew: int = 120_000

    @property
    def remembered(self) -> int:
        """How many prompts and e-mails the state must keep to judge the caps."""
        return max((KEPT, *(limit.count for limit in (*self.prompts, *self.email, *self.budget))))


def compile_policy(shape: PolicyShape) -> Policy:
    quiet = shape.quiet_hours
    return Policy(
        session_idle=shape.session.idle,
        session_max=shape.session.max,
        active=shape.session.active,
        prompts=shape.prompts.limit,
        gap=shape.prompts.gap,
        email=shape.email.limit,
        budget=shape.budget,
        quiet=Hours(quiet.start, quiet.end) if quiet else None,
        quiet_for=frozenset(quiet.applies_to if quiet else ()),
        quiet_defers=quiet is not None and quiet.then == "defer",
        holdout=shape.holdout,
        skew=shape.skew,
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Why something is held back and, where that is known, until when (milliseconds since the epoch)."""

    reason: str
    detail: str
    until: int | None = None


def check_limits(limits: tuple[Limit, ...], times: tuple[int, ...], state: State, *, now: int) -> Block | None:
    """The first limit that one more at `now` would break, for events that happened at `times` (oldest first).

    Until none of them is broken any more; if the end of one is not known, neither is that of all.
    """
    if not limits:
        return None
    broken = [
        limit for limit in limits if len(times) - bisect_right(times, _window_start(limit, state, now)) >= limit.count
    ]
    if not broken:
        return None
    fault = zone_fault(state) if broken[0].per == "day" else ""
    return Block(
        "limit", f"{broken[0]} reached{fault}", _latest(_window_end(each, times, state, now) for each in broken)
    )


def check_caps(policy: Policy, state: State, *, prompts: bool, mails: bool, now: int) -> Block | None:
    """Whether the policy's caps hold back a prompt, an e-mail or both at `now`: each one's own, then the budget."""
    asked = [(policy.prompts, state.prompted)] * prompts + [(policy.email, state.mailed)] * mails
    if asked and policy.budget:
        asked.append((policy.budget, tuple(sorted(state.prompted + state.mailed))))
    found = [block for limits, times in asked if (block := check_limits(limits, times, state, now=now))]
    return Block("cap", f"policy: {found[0].detail}", _latest(each.until for each in found)) if found else None


def check_gap(policy: Policy, state: State, *, now: int) -> Block | None:
    if policy.gap and state.prompted and now < state.prompted[-1] + policy.gap:
        return Block("gap", "policy: too soon after the prompt before", state.prompted[-1] + policy.gap)
    return None


def check_quiet(policy: Policy, state: State, *, now: int) -> Block | None:
    """Whether these are the policy's quiet hours where the user is."""
    until = policy.quiet.until(now, zone_of(state)) if policy.quiet else None
    if until is None:
        return None
    return Block("quiet", f"policy: quiet from {policy.quiet}{zone_fault(state)}", until)


def remember(times: tuple[int, ...], now: int, kept: int) -> tuple[int, ...]:
    """The latest `kept` times, oldest first whatever the clocks of two processes say."""
    return (*times, max((now, *times[-1:])))[-kept:]


def _latest(ends: Iterable[int | None]) -> int | None:
    """The last of these ends; None if one of them is not known."""
    known = list(ends)
    return None if None in known else max(end for end in known if end is not None)


def _window_start(limit: Limit, state: State, now: int) -> int:
    """Times strictly after this count."""
    if limit.per == "session":
        return state.session.started - 1 if state.session else -1
    if limit.per == "day":
        return day_of(now, zone_of(state))[0] - 1
    return now - limit.window if limit.window else -1


def _window_end(limit: Limit, times: tuple[int, ...], state: State, now: int) -> int | None:
    """When a limit that is reached lets one more pass, where that is a matter of time."""
    if not limit.count:
        return None
    if limit.per == "day":
        return day_of(now, zone_of(state))[1]
    return times[-limit.count] + limit.window if limit.window else None
