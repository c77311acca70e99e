"""The Segment tracking API's calls as Handrail's events: one JSON object in, one event out, or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from handrail.core.events import Event, Identify, Track
from handrail.core.inputs import BadInput, check_event_name, check_id, check_properties, parse_time, read_time
from handrail.surroundings import read_context

MAX_ITEM = 32 * 1024
KINDS = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias"}
TEXT_MAX = 2_048
_CONTEXT = {
    "page": ("path", "url", "title", "referrer"),
    "campaign": ("name", "source", "medium", "term", "content"),
}
_PLAIN = ("locale", "timezone", "userAgent")

T = TypeVar("T")
Object = dict[str, Any]
Time = str | int | float | None


class Envelope(Struct, rename="camel"):
    """What surrounds the events of a body. Unknown keys are let be: every SDK adds some."""

    batch: list[Raw] | None = None
    sent_at: Time = None
    write_key: str | None = None
    token: str | None = None
    context: Object | None = None


class Item(Struct, rename="camel"):
    """One call. SDKs send null for what they do not know."""

    type: str | None = None
    message_id: str | None = None
    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    previous_id: str | int | None = None
    group_id: str | int | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    properties: Object | None = None
    traits: Object | None = None
    context: Object | None = None
    timestamp: Time = None
    original_timestamp: Time = None
    sent_at: Time = None


class Presence(Struct, rename="camel", kw_only=True):
    """Body of `POST /v1/activity`: what a page with a one-way stream says of its visitor."""

    connection: str = field(name="connection")
    visible: bool = True
    idle_ms: int = field(name="idle_ms", default=0)
    user_id: str | None = None
    token: str | None = None
    anonymous_id: str | None = None


class Call(Struct, frozen=True):
    """An event and whose it is, as the sender says."""

    user_id: str | None
    anonymous_id: str | None
    event: Event
    visitor: str | None = None  # the anonymous id that the user had before, where the call says so


def translate(
    item: Item,
    kind: str,
    *,
    now: int,
    sent_at: Time = None,
    context: Object | None = None,
    new_id: Callable[[], str],
) -> Call:
    """The event a call stands for. Raises BadInput.

    The sender's clock is corrected where it says when it sent: true time = now − (sentAt − timestamp).
    """
    make = _MAKERS.get(kind)
    if make is None:
        known = ", ".join(_MAKERS)
        raise BadInput("unknown-type", f"'{kind}' is no type of call.", f"`type` is one of {known}.")
    identity = check_id(item.message_id) if item.message_id else new_id()
    at = _true_time(item, now, item.sent_at if item.sent_at is not None else sent_at)
    about = _known_context({**(context or {}), **(item.context or {})})
    before = {"identify": item.anonymous_id, "alias": item.previous_id}.get(kind)
    return Call(_text(item.user_id), _text(item.anonymous_id), make(item, identity, at, about), _text(before))


def _track(item: Item, identity: str, at: int, context: Object) -> Event:
    name = check_event_name(item.event or "", "event")
    return Track(id=identity, name=name, at=at, properties=check_properties(item.properties or {}), context=context)


def _viewed(name: str) -> Callable[[Item, str, int, Object], Event]:
    def make(item: Item, identity: str, at: int, context: Object) -> Event:
        named = {key: value for key in ("name", "category") if (value := getattr(item, key))}
        properties = check_properties({**(item.properties or {}), **named})
        return Track(id=identity, name=name, at=at, properties=properties, context=context)

    return make


def _identify(item: Item, identity: str, at: int, context: Object) -> Event:
    elsewhere = (item.context or {}).get("traits")  # where RudderStack's SDKs put them
    traits = {**(elsewhere if isinstance(elsewhere, dict) else {}), **(item.traits or {})}
    return Identify(id=identity, at=at, traits=check_properties(traits), context=context)


def _group(item: Item, identity: str, at: int, context: Object) -> Event:
    if item.group_id is None:
        raise BadInput("bad-field", "A group call needs `groupId`.", "Send the group's id as `groupId`.")
    group = check_properties({**(item.traits or {}), "id": _text(item.group_id)})
    return Identify(id=identity, at=at, traits={"group": group}, context=context)


def _alias(item: Item, identity: str, at: int, context: Object) -> Event:
    if item.previous_id is None:
        raise BadInput("bad-field", "An alias call needs `previousId`.", "Send the former id as `previousId`.")
    properties = check_properties({"previous_id": _text(item.previous_id)})
    return Track(id=identity, name="alias", at=at, properties=properties, context=context)


_MAKERS: Mapping[str, Callable[[Item, str, int, Object], Event]] = {
    "track": _track,
    "identify": _identify,
    "page": _viewed("page_viewed"),
    "screen": _viewed("screen_viewed"),
    "group": _group,
    "alias": _alias,
}


def _true_time(item: Item, now: int, sent_at: Time) -> int:
    stamp = item.timestamp if item.timestamp is not None else item.original_timestamp
    if stamp is None:
        return now
    if sent_at is None:
        return parse_time(stamp, now)
    return parse_time(now - (read_time(sent_at) - read_time(stamp)), now)


def _known_context(context: Object) -> Object:
    """The parts of a context that rules may read, as plain text; the rest is dropped and never stored."""
    known: Object = {
        part: kept
        for part, keys in _CONTEXT.items()
        if isinstance(given := context.get(part), dict) and (kept := _texts(given, keys))
    }
    return known | _texts(context, _PLAIN) | read_context(context)


def _texts(given: Object, keys: tuple[str, ...]) -> Object:
    return {key: value[:TEXT_MAX] for key in keys if isinstance(value := given.get(key), str) and value}


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def decode(body: bytes | Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON bytes as a typed value. Raises BadInput `bad-field` or `bad-json`, nothing else."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise BadInput("bad-field", f"{fault}.", "See docs/protocol.md for the shape of each call.") from None
    except (ValueError, RecursionError) as fault:
        raise BadInput("bad-json", f"The body is not JSON: {fault}.", "Send one JSON object, in UTF-8.") from None
