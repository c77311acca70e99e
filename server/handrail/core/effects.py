"""What a decision asks the shell to do: plain values, printable, comparable, replayable."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from handrail.core.frames import Content, Flow, Prompt, Withdraw


class Push(Struct, frozen=True):
    """Send this numbered message to every connection of the user."""

    frame: Prompt | Withdraw | Content | Flow


class Call(Struct, frozen=True, kw_only=True):
    """POST to a webhook. `id` is the message id, the same over all tries; `body` is the JSON value to send."""

    id: str
    webhook: str
    body: Any
    trigger: str
    at: int


class Decision(Struct, frozen=True, kw_only=True):
    """One action of a trigger that fired, as its author wrote it; `variant` is the message variant chosen.

    `action` is one of prompt, content, flow, webhook, set, emit, withdraw; `value` what stands there in the rule file.
    """

    trigger: str
    action: str
    value: Any
    variant: str | None = None


class Considered(Struct, frozen=True, kw_only=True):
    """A line of the trace: a trigger that was woken, and what became of it.

    `outcome` is `fired`, `suppressed`, `not-met`, `cancelled` (a wait), `failed` (an action of a trigger that fired),
    `merged`, `ignored` or `off` (left out, because evaluating it raised an error); `reason` is the suppression (one of
    policy.REASONS, or loop) or the text of the condition that did not hold; `detail` says more in words; `until` is
    when a suppression ends by itself (milliseconds since the epoch, None where time alone does not end it). `trigger`
    is empty where it is about no single one.
    """

    trigger: str
    outcome: str
    reason: str = ""
    detail: str = ""
    until: int | None = None


Effect = Push | Call | Decision
