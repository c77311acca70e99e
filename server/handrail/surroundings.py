"""Where and on what a user is, as senders and browsers tell it, in the few plain words that rules may read.

`location` has `country`, `region` and `city` as they were told, `device` has `type` (desktop, mobile or tablet), `os`
and `browser`. What is not known is left out. User agents are guesses: what a sender says outright comes first, then
client hints, then the user agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import httpagentparser  # type: ignore[import-untyped]

TEXT_MAX = 64  # characters of one value
AGENT_MAX = 512  # characters of a user agent that are looked at
AGENTS = 1_000  # user agents whose meaning is kept: looking at one takes a tenth of a millisecond

PLACES = ("country", "region", "city")
TYPES = ("desktop", "mobile", "tablet")

# Names as users of the rules would write them.
_SYSTEMS = {"Mac OS": "macOS", "Mac OS X": "macOS", "Chrome OS": "ChromeOS", "Chromium OS": "ChromeOS"}
_SYSTEMS |= {"iPadOS": "iOS", "iPhone OS": "iOS", "ios": "iOS", "android": "Android"}
_BROWSERS = {"Google Chrome": "Chrome", "ChromeiOS": "Chrome", "AndroidBrowser": "Android Browser"}
_BROWSERS |= {"Microsoft Edge": "Edge", "MSEdge": "Edge", "ChromiumEdge": "Edge", "OperaNew": "Opera"}
_BROWSERS |= {"Microsoft Internet Explorer": "Internet Explorer"}
_HANDHELD, _STANDING = ("Android", "iOS"), ("Windows", "macOS", "Linux", "ChromeOS")
_TELLING = (b"user-agent", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-ch-ua")
_BRAND = re.compile(r'"([^"]*)"\s*;\s*v=')
_COUNTRY = re.compile(r"[A-Z]{2}")
_NOWHERE = ("XX", "T1")  # how proxies write that they do not know, and Tor

Words = dict[str, str]


def read_context(context: Mapping[str, Any]) -> dict[str, Words]:
    """`location` and `device` from the context of a Segment call or a live message; each only if it says anything."""
    place = _texts(context.get("location"), PLACES)
    agent = context.get("userAgent")
    device = {
        **_read_agent(agent[:AGENT_MAX] if isinstance(agent, str) else ""),
        **_read_hints(context.get("userAgentData")),
        **_read_told(_texts(context.get("device"), ("type", "model", "name")), _texts(context.get("os"), ("name",))),
    }
    return _said(location=place, device=device)


def read_headers(headers: Iterable[tuple[bytes, bytes]], country_header: str | None) -> dict[str, Words]:
    """The same from a handshake; `country_header` is the one in which the operator's own proxy names the country.
    Callers share what is returned."""
    names = (*_TELLING, country_header.lower().encode("latin-1") if country_header else b"")
    found = {low: value for name, value in headers if (low := name.lower()) in names}
    return _read_found(*(found.get(name, b"")[:AGENT_MAX].decode("latin-1") for name in names))


@lru_cache(maxsize=AGENTS)
def _read_found(agent: str, mobile: str, platform: str, brands: str, country: str) -> dict[str, Words]:
    hints = {
        "mobile": {"?1": True, "?0": False}.get(mobile),
        "platform": platform.strip('" '),
        "brands": [{"brand": brand} for brand in _BRAND.findall(brands)],
    }
    device = {**_read_agent(agent), **_read_hints(hints)}
    place = country.strip().upper()
    known = _COUNTRY.fullmatch(place) is not None and place not in _NOWHERE
    return _said(location={"country": place} if known else {}, device=device)


def _said(**parts: Words) -> dict[str, Words]:
    return {name: words for name, words in parts.items() if words}


def _read_told(device: Words, system: Words) -> Words:
    """What the sender says outright. Segment's mobile SDKs give the system as the device's type."""
    kind, told = device.get("type", "").lower(), {}
    os = _SYSTEMS.get(system.get("name", ""), system.get("name", "")) or _SYSTEMS.get(kind, "")
    if os:
        told["os"] = os
    tablet = "ipad" in f"{device.get('model', '')} {device.get('name', '')}".lower()
    if kind in TYPES:
        told["type"] = kind
    elif kind in ("ios", "android", "phone", "smartphone"):
        told["type"] = "tablet" if tablet else "mobile"
    return told


def _read_hints(hints: object) -> Words:
    """User-agent client hints, as browsers put them in `navigator.userAgentData`."""
    if not isinstance(hints, Mapping):
        return {}
    read = {}
    platform, mobile, brands = (hints.get(key) for key in ("platform", "mobile", "brands"))
    if isinstance(platform, str) and platform not in ("", "Unknown"):
        read["os"] = _SYSTEMS.get(platform, platform)[:TEXT_MAX]
    if isinstance(mobile, bool) and (kind := _kind(read.get("os", ""), mobile)):
        read["type"] = kind
    browser = next(_browsers(brands), "") if isinstance(brands, list) else ""
    return {**read, "browser": browser} if browser else read


def _browsers(brands: list[Any]) -> Iterator[str]:
    """The brands that are browsers, not the engine that they share nor the made-up one that is always among them."""
    for each in brands:
        brand = each.get("brand") if isinstance(each, Mapping) else None
        if isinstance(brand, str) and brand and brand != "Chromium" and not ("Not" in brand and "Brand" in brand):
            yield _BROWSERS.get(brand, brand)[:TEXT_MAX]


def _kind(os: str, mobile: bool) -> str:
    if mobile:
        return "mobile"
    return "tablet" if os in _HANDHELD else "desktop" if os in _STANDING else ""


@lru_cache(maxsize=AGENTS)
def _read_agent(agent: str) -> Mapping[str, str]:
    found = httpagentparser.detect(agent) if agent else {}
    os = str(found.get("platform", {}).get("name") or "").strip()
    browser = str(found.get("browser", {}).get("name") or "")
    read = {"os": _SYSTEMS.get(os, os), "browser": _BROWSERS.get(browser, browser)}
    read["type"] = _kind(read["os"], "Mobi" in agent and "iPad" not in agent) if os else ""
    return {key: value for key, value in read.items() if value}


def _texts(given: object, keys: tuple[str, ...]) -> Words:
    if not isinstance(given, Mapping):
        return {}
    return {key: value[:TEXT_MAX] for key in keys if isinstance(value := given.get(key), str) and value}
