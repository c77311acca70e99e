"""What a user does with the prompt on the screen, told by the events prompt_shown, _clicked, _dismissed, _snoozed and
_completed. Handling it on one device takes it off all of them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from handrail.core.compiler import resolve_flow
from handrail.core.durations import parse_duration
from handrail.core.events import Track
from handrail.core.scope import Occurrence
from handrail.core.state import OnScreen, Wait
from handrail.core.turn import Turn


def handle(turn: Turn, event: Track) -> None:
    """Apply a prompt event, `{prompt: id}` or `{message: NAME}`; one about a prompt no longer on the screen is only
    history."""
    shown = turn.state.prompt
    if shown is None or not _concerns(event.properties, shown):
        return
    what = event.name.removeprefix("prompt_")
    if what == "shown":
        turn.state.prompt = replace(shown, shown=True)
        return
    turn.withdraw(what)
    if what == "clicked":
        _perform(turn, shown, event)
    elif what == "snoozed":
        _snooze(turn, shown, event)


def _concerns(properties: dict[str, Any], shown: OnScreen) -> bool:
    if "prompt" in properties:
        return bool(properties["prompt"] == shown.prompt.id)
    return bool(properties.get("message") == shown.prompt.message)


def _perform(turn: Turn, shown: OnScreen, event: Track) -> None:
    """Do what the clicked button says; `action` is its index among the prompt's actions."""
    message, buttons, index = shown.prompt.message, shown.prompt.actions, event.properties.get("action")
    deed = buttons[index].do if isinstance(index, int) and 0 <= index < len(buttons) else None
    if not isinstance(deed, dict):
        return
    if "flow" in deed:
        flows = {name: tuple(variant.id for variant in flow.variants) for name, flow in turn.program.flows.items()}
        chosen = resolve_flow(deed["flow"], flows)
        if chosen is not None:
            turn.choose_flow(*chosen, f"action:{message}")
    elif "emit" in deed:
        turn.emit(deed["emit"], {"message": message}, Occurrence(keys=(), name=event.name, at=event.at))


def _snooze(turn: Turn, shown: OnScreen, event: Track) -> None:
    """Show it again later: after `for` where the event names one, else after the message's own snooze."""
    deeds = [button.do for button in shown.prompt.actions]
    asked = [event.properties.get("for"), *(deed.get("snooze") for deed in deeds if isinstance(deed, dict))]
    span = next((span for span in map(_span, asked) if span), None)
    if span:
        turn.arm(Wait(due=turn.now + span, trigger=shown.prompt.trigger, message=shown.prompt.message))


def _span(text: Any) -> int | None:
    try:
        return parse_duration(text) if isinstance(text, str) else None
    except ValueError:
        return None
