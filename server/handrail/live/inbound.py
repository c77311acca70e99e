"""What a client says, from bytes to messages to events; anything else is a `BadInput` that says how to mend it."""

from __future__ import annotations

import re
import secrets
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import Struct

from handrail.core import inputs
from handrail.core.events import Activity, Consent, Identify, Track
from handrail.core.frames import (
    ActivityMessage,
    ClientMessage,
    ConsentMessage,
    Hello,
    IdentifyMessage,
    TrackMessage,
)
from handrail.core.inputs import BadInput
from handrail.surroundings import read_context

KINDS = ("hello", "track", "identify", "consent", "activity", "seen", "ping", "token")

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_SHAPE_FIX = "See docs/protocol.md for the shape of each message."
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)


class _Peek(Struct):
    """The parts of a refused message that its error names."""

    type: Any = None
    id: Any = None


_peeker: msgspec.json.Decoder[_Peek] = msgspec.json.Decoder(_Peek)


def new_id() -> str:
    return secrets.token_hex(8)


def decode(data: str | bytes) -> ClientMessage:
    """One client message. Raises BadInput `bad-json`, `unknown-type`, `bad-field` or `too-large`, nothing else."""
    inputs.check_size(len(data))
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as fault:
        raise _explain(data, str(fault)) from None
    except RecursionError:
        raise BadInput("too-large", "The message is nested too deeply.", "Send flatter data.") from None
    except ValueError as fault:  # malformed JSON, or text that is no UTF-8
        raise BadInput("bad-json", f"The message is not JSON: {fault}.", "Send one JSON object a message.") from None


def find_id(data: str | bytes) -> str | None:
    """The id a refused message carries, so that its sender knows which one it was."""
    peek = _peek(data)
    return peek.id if isinstance(peek.id, str) and 0 < len(peek.id) <= inputs.MAX_ID else None


def check_hello(hello: Hello) -> Hello:
    """Raises BadInput when a field of the hello cannot be used."""
    inputs.check_label(hello.device, "device")
    inputs.check_label(hello.tab, "tab")
    inputs.check_label(hello.epoch or "", "epoch")
    if hello.offset is not None:
        _check_count(hello.offset, "offset")
    _check_count(hello.idle_ms, "idle_ms")
    return hello


def track_of(message: TrackMessage, now: int) -> Track:
    return Track(
        id=inputs.check_id(message.id),
        name=inputs.check_event_name(message.name),
        at=inputs.parse_time(message.at, now),
        properties=inputs.check_properties(message.properties),
        context=_context_of(inputs.check_properties(message.context, "context")),
    )


def identify_of(message: IdentifyMessage, now: int) -> Identify:
    return Identify(
        id=_id_of(message.id),
        at=now,
        traits=inputs.check_properties(message.traits, "traits"),
        context=_context_of(inputs.check_properties(message.context, "context")),
    )


def consent_of(message: ConsentMessage, now: int) -> Consent:
    inputs.check_properties(message.purposes, "purposes")
    return Consent(id=_id_of(message.id), at=now, purposes=message.purposes)


def activity_of(message: ActivityMessage, connection: str, now: int) -> Activity:
    idle = min(_check_count(message.idle_ms, "idle_ms"), now)
    return Activity(id=new_id(), at=now, connection=connection, visible=message.visible, idle_ms=idle)


def _context_of(given: dict[str, Any]) -> dict[str, Any]:
    """The context with place and device as rules read them."""
    return {key: value for key, value in given.items() if key not in ("location", "device")} | read_context(given)


def _id_of(given: str | None) -> str:
    return new_id() if given is None else inputs.check_id(given)


def _check_count(value: int, where: str) -> int:
    if not 0 <= value <= inputs.MAX_INT:
        raise BadInput("bad-field", f"{where} is negative or too large.", f"Send `{where}` as a count from 0.")
    return value


def _peek(data: str | bytes) -> _Peek:
    try:
        return _peeker.decode(data)
    except (ValueError, RecursionError):
        return _Peek()


def _explain(data: str | bytes, fault: str) -> BadInput:
    kind = _peek(data).type
    if isinstance(kind, str) and kind not in KINDS:
        near = get_close_matches(kind[:40], KINDS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        known = ", ".join(KINDS)
        return BadInput("unknown-type", f"{kind[:40]!a} is no type of message.{hint}", f"`type` is one of {known}.")
    place = _PLACE.match(fault)
    what, where = (place["what"], place["where"]) if place else (fault, None)
    return BadInput("bad-field", f"{where}: {what}." if where else f"{what}.", _SHAPE_FIX)
