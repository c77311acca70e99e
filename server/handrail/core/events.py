"""What can happen to a user: the only inputs of `step` besides the program, the state and the time.

All times are whole milliseconds since the Unix epoch, UTC. `at` is when the thing happened, already corrected for
clock skew and never later than the moment of receipt; `now`, given to `step`, is the moment of deciding.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from handrail.core.state import State


class Track(Struct, frozen=True, kw_only=True, tag="track"):
    """The user did something. `id` is the sender's message id: the same id is applied once."""

    id: str
    name: str
    at: int
    properties: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)


class Identify(Struct, frozen=True, kw_only=True, tag="identify"):
    """Traits of the user became known; a trait set to None is removed."""

    id: str
    at: int
    traits: dict[str, Any]
    context: dict[str, Any] = field(default_factory=dict)


class Consent(Struct, frozen=True, kw_only=True, tag="consent"):
    """The user allowed (True) or refused (False) purposes."""

    id: str
    at: int
    purposes: dict[str, bool]


class Connected(Struct, frozen=True, kw_only=True, tag="connected"):
    """A connection opened; the user was last active `idle_ms` before `at`. `context` is what its handshake tells."""

    id: str
    at: int
    connection: str
    node: str
    device: str = ""
    tab: str = ""
    visible: bool = True
    idle_ms: int = 0
    context: dict[str, Any] = field(default_factory=dict)


class Disconnected(Struct, frozen=True, kw_only=True, tag="disconnected"):
    """A connection closed."""

    id: str
    at: int
    connection: str


class Activity(Struct, frozen=True, kw_only=True, tag="activity"):
    """An edge of activity or visibility on one connection; the user was last active `idle_ms` before `at`."""

    id: str
    at: int
    connection: str
    visible: bool
    idle_ms: int = 0


class Alarm(Struct, frozen=True, kw_only=True, tag="alarm"):
    """Time passed: whatever fell due by `now` happens. Also sent when the rules changed or a node died.

    `lost_nodes` are processes known to be dead; connections they held are dropped.
    """

    at: int
    id: str = ""
    lost_nodes: tuple[str, ...] = ()


class Known(Struct, frozen=True, kw_only=True, tag="known"):
    """The id was addressed as a user's, so it is no anonymous visitor's."""

    at: int
    id: str = ""


class Merge(Struct, frozen=True, kw_only=True, tag="merge"):
    """The anonymous visitor turned out to be the user `into`, who is known already."""

    id: str
    at: int
    into: str


class Absorb(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="absorb"):
    """The user was the anonymous `visitor` before; `parcel` is all that is known of them (left out of the log)."""

    id: str
    at: int
    visitor: str
    parcel: State | None = None


class Merged(Struct, frozen=True, kw_only=True, tag="merged"):
    """The user that this anonymous visitor turned out to be has absorbed everything."""

    at: int
    id: str = ""


class Revoke(Struct, frozen=True, kw_only=True, tag="revoke"):
    """Tokens that were issued to the user by `at` are no longer good."""

    at: int
    id: str = ""


Event = (
    Track | Identify | Consent | Connected | Disconnected | Activity | Alarm | Known | Merge | Absorb | Merged | Revoke
)

# Made by the server while deciding; they wake triggers and are never sent in from outside.
SERVER_EVENTS = frozenset({"session_started", "session_ended", "segment_entered", "segment_left"})
# What a user answers to a survey of the rules.
SURVEY_ANSWERED = "survey_answered"
# What a user does with a prompt. All but `prompt_shown` are activity.
PROMPT_EVENTS = frozenset({"prompt_shown", "prompt_clicked", "prompt_dismissed", "prompt_snoozed", "prompt_completed"})
