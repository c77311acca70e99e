"""The messages of the live connection, both ways, as typed values and as JSON.

One definition validates what clients send and encodes what the server sends; docs/protocol.md describes the same
shapes in words and `tests/wire` holds golden frames that the browser client's tests read too. `type` names the kind.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

# --- client -> server -------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    token: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    device: str = ""
    tab: str = ""
    epoch: str | None = None
    offset: int | None = None
    visible: bool = True
    idle_ms: int = 0


class TrackMessage(Struct, frozen=True, kw_only=True, tag="track"):
    id: str
    name: str
    properties: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    at: str | int | None = None  # ISO 8601 or milliseconds since the epoch; absent means time of receipt


class IdentifyMessage(Struct, frozen=True, kw_only=True, tag="identify"):
    traits: dict[str, Any]
    context: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


class ConsentMessage(Struct, frozen=True, kw_only=True, tag="consent"):
    purposes: dict[str, bool]
    id: str | None = None


class ActivityMessage(Struct, frozen=True, kw_only=True, tag="activity"):
    visible: bool = True
    idle_ms: int = 0


class Seen(Struct, frozen=True, kw_only=True, tag="seen"):
    offset: int


class Ping(Struct, frozen=True, kw_only=True, tag="ping"):
    pass


class TokenMessage(Struct, frozen=True, kw_only=True, tag="token"):
    """A newer token of the same user, shown before the one of the hello expires."""

    token: str


ClientMessage = Hello | TrackMessage | IdentifyMessage | ConsentMessage | ActivityMessage | Seen | Ping | TokenMessage

# --- server -> client -------------------------------------------------------------------------------------------


class Button(Struct, frozen=True, kw_only=True):
    """One of a message's actions. `do` is "dismiss" or a mapping of one key: snooze, flow, url, emit."""

    label: str
    do: str | dict[str, Any] = "dismiss"


class Block(Struct, frozen=True, kw_only=True):
    """What fills a content slot."""

    message: str
    title: str = ""
    body: str = ""
    actions: tuple[Button, ...] = ()
    style: dict[str, Any] = field(default_factory=dict)
    variant: str | None = None


class Question(Struct, frozen=True, kw_only=True):
    """`labels` are the words for the choices, in their order; what is sent back is a choice."""

    id: str
    ask: str
    choose: tuple[str | int | float | bool, ...]
    labels: tuple[str, ...]


class Survey(Struct, frozen=True, kw_only=True):
    """The questions that apply to the user so far, in order, and the answers given to them; null: skipped."""

    id: str
    questions: tuple[Question, ...]
    answers: dict[str, Any] = field(default_factory=dict)


class Prompt(Struct, frozen=True, kw_only=True, tag="prompt"):
    offset: int
    id: str
    message: str
    kind: str
    title: str = ""
    body: str = ""
    actions: tuple[Button, ...] = ()
    anchor: str | None = None
    style: dict[str, Any] = field(default_factory=dict)
    expires_at: str | None = None  # ISO 8601
    trigger: str = ""
    variant: str | None = None
    survey: Survey | None = None


class Withdraw(Struct, frozen=True, kw_only=True, tag="withdraw"):
    """Take a prompt off the screen. reason: clicked, dismissed, snoozed, completed, expired, withdrawn,
    preempted."""

    offset: int
    id: str
    reason: str


class Content(Struct, frozen=True, kw_only=True, tag="content"):
    offset: int
    slot: str
    block: Block | None


class StepView(Struct, frozen=True, kw_only=True):
    id: str
    component: str = ""
    skippable: bool = False
    status: str = ""  # "", viewed, completed, skipped


class FlowView(Struct, frozen=True, kw_only=True):
    """A flow as assembled for one user; `position` is the index of the first step not done, len(steps) at the end."""

    id: str
    variant: str | None = None
    steps: tuple[StepView, ...] = ()
    position: int = 0


class Flow(Struct, frozen=True, kw_only=True, tag="flow"):
    offset: int
    id: str
    steps: tuple[StepView, ...]
    position: int
    reason: str  # trigger:NAME, action:MESSAGE, progress, segments, rules
    variant: str | None = None


class Welcome(Struct, frozen=True, kw_only=True, tag="welcome"):
    """First frame of a connection. With `recovered` the missed messages follow and flow, slots, prompts are empty;
    otherwise they are a full snapshot at `offset`."""

    session: str | None
    connection: str
    epoch: str
    offset: int
    recovered: bool
    heartbeat_s: int
    token_expires_in: int | None = None  # seconds; None where no token is needed
    flow: FlowView | None = None
    slots: dict[str, Block] = field(default_factory=dict)
    prompts: tuple[Prompt, ...] = ()


class Ack(Struct, frozen=True, kw_only=True, tag="ack"):
    up_to: str


class Error(Struct, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str
    fix: str
    id: str | UnsetType = UNSET  # the event refused, when one was
    retry_ms: int | UnsetType = UNSET  # when it may be sent again, where that is all that is wrong with it


class Bye(Struct, frozen=True, kw_only=True, tag="bye"):
    code: int
    reconnect_ms: int


class Pong(Struct, frozen=True, kw_only=True, tag="pong"):
    pass


class Renewed(Struct, frozen=True, kw_only=True, tag="renewed"):
    """The newer token was taken."""

    token_expires_in: int | None


Numbered = Prompt | Withdraw | Content | Flow
ServerMessage = Numbered | Welcome | Ack | Error | Bye | Pong | Renewed

encode = msgspec.json.Encoder().encode
