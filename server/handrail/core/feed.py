"""Lines of the event log in words: what happened to a user, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from handrail.core.scope import iso

_SAID = {"track": "properties", "identify": "traits", "consent": "purposes"}


def tell(line: Mapping[str, Any]) -> Iterator[str]:
    """The event with its time and user; below it each decision, and each trigger that did not act, with its reason."""
    yield f"{iso(line['at'])}  {line['user']}  {_happening(line['event'])}"
    for each in line["decisions"]:
        variant = f" ({each['variant']})" if each.get("variant") else ""
        yield f"    {each['trigger']}: {each['action']} {_show(each['value'])}{variant}"
    for each in line["trace"]:
        if each["outcome"] != "fired":
            yield f"    {_verdict(each)}"


def _happening(event: Mapping[str, Any]) -> str:
    kind = event["type"]
    match kind:
        case "track" | "identify" | "consent":
            return " ".join(filter(None, (kind, event.get("name"), _show(event.get(_SAID[kind]) or ""))))
        case "activity":
            return "active" if event["visible"] else "hidden"
        case "alarm":
            return "time passed"
        case "absorb":
            return f"was the visitor {event['visitor']}"
        case "merge":
            return f"becomes {event['into']}"
    return str(kind)


def _verdict(each: Mapping[str, Any]) -> str:
    until = f"until {iso(each['until'])}" if each.get("until") else ""
    detail = f"({each['detail']})" if each.get("detail") else ""
    return " ".join(filter(None, (f"{each['trigger'] or 'rules'}:", each["outcome"], each["reason"], until, detail)))


def _show(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
