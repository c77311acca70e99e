"""Place and device as senders and browsers tell them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.surroundings import AGENT_MAX, TEXT_MAX, read_context, read_headers

MOZILLA = "Mozilla/5.0 "
KIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
AGENTS = {
    f"(Windows NT 10.0; Win64; x64) {KIT} Chrome/140.0.0.0 Safari/537.36": "desktop Windows Chrome",
    f"(Windows NT 10.0; Win64; x64) {KIT} Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0": "desktop Windows Edge",
    f"(Windows NT 10.0; Win64; x64) {KIT} Chrome/120.0 Safari/537.36 OPR/106.0.0.0": "desktop Windows Opera",
    "(Macintosh; Intel Mac OS X 10.15; rv:131.0) Gecko/20100101 Firefox/131.0": "desktop macOS Firefox",
    f"(Macintosh; Intel Mac OS X 10_15_7) {KIT} Version/18.0 Safari/605.1.15": "desktop macOS Safari",
    f"(X11; CrOS x86_64 14541.0.0) {KIT} Chrome/131.0.0.0 Safari/537.36": "desktop ChromeOS Chrome",
    "(X11; Ubuntu; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0": "desktop Linux Firefox",
    f"(iPhone; CPU iPhone OS 17_5 like Mac OS X) {KIT} Version/17.5 Mobile/15E148 Safari/604.1": "mobile iOS Safari",
    f"(iPhone; CPU iPhone OS 17_5 like Mac OS X) {KIT} CriOS/126.0 Mobile/15E148 Safari/604.1": "mobile iOS Chrome",
    f"(iPad; CPU OS 16_5 like Mac OS X) {KIT} Version/16.5 Mobile/15E148 Safari/604.1": "tablet iOS Safari",
    f"(Linux; Android 14; Pixel 8) {KIT} Chrome/126.0.0.0 Mobile Safari/537.36": "mobile Android Chrome",
    f"(Linux; Android 13; SM-X906C) {KIT} Chrome/126.0.0.0 Safari/537.36": "tablet Android Chrome",
}


def words(found: dict[str, dict[str, str]]) -> str:
    device = found.get("device", {})
    return " ".join(device[key] for key in ("type", "os", "browser") if key in device)


@pytest.mark.parametrize(("agent", "device"), AGENTS.items(), ids=AGENTS.values())
def test_the_user_agent_tells_device_system_and_browser(agent: str, device: str) -> None:
    assert words(read_context({"userAgent": MOZILLA + agent})) == device
    assert words(read_headers([(b"User-Agent", (MOZILLA + agent).encode())], None)) == device


@pytest.mark.parametrize("agent", ["", "curl/8.5.0", "python-httpx/0.27", "x" * 10_000, "(" * 600, "\udcff\0", 7, None])
def test_what_is_no_browser_tells_nothing(agent: Any) -> None:
    assert read_context({"userAgent": agent}) == {}


def test_client_hints_come_before_the_user_agent() -> None:
    agent = f"{MOZILLA}(X11; Linux x86_64) {KIT} Chrome/140.0.0.0 Safari/537.36"
    brands = [{"brand": "Not?A_Brand"}, {"brand": "Chromium", "version": "140"}, {"brand": "Microsoft Edge"}]
    hints = {"mobile": False, "platform": "Android", "brands": brands}
    assert words(read_context({"userAgent": agent, "userAgentData": hints})) == "tablet Android Edge"
    headers = [
        (b"user-agent", agent.encode()),
        (b"sec-ch-ua", b'"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"'),
        (b"sec-ch-ua-mobile", b"?1"),
        (b"sec-ch-ua-platform", b'"Android"'),
    ]
    assert words(read_headers(headers, None)) == "mobile Android Chrome"
    assert words(read_headers(headers[:1], None)) == "desktop Linux Chrome"


def test_what_is_told_outright_comes_first() -> None:
    agent = {"userAgent": f"{MOZILLA}(X11; Linux x86_64) {KIT} Chrome/140.0.0.0 Safari/537.36"}
    assert words(read_context({**agent, "device": {"type": "tablet"}, "os": {"name": "iPadOS"}})) == "tablet iOS Chrome"
    assert words(read_context({"device": {"type": "ios", "model": "iPhone14,2"}})) == "mobile iOS"
    assert words(read_context({"device": {"type": "ios", "model": "iPad13,1"}})) == "tablet iOS"
    assert words(read_context({"device": {"type": "android"}, "os": {"name": "Android"}})) == "mobile Android"
    assert words(read_context({"device": {"type": "toaster"}})) == ""


def test_a_place_is_what_was_told_as_text() -> None:
    told = {"country": "Germany", "city": "Halle", "region": 7, "latitude": 51.5}
    assert read_context({"location": told}) == {"location": {"country": "Germany", "city": "Halle"}}
    assert read_context({"location": {"city": "x" * 900}}) == {"location": {"city": "x" * TEXT_MAX}}


@pytest.mark.parametrize(
    ("value", "country"),
    [(b"DE", "DE"), (b" at ", "AT"), (b"XX", None), (b"T1", None), (b"Germany", None), (b"", None)],
)
def test_the_country_is_believed_from_the_header_that_was_named(value: bytes, country: str | None) -> None:
    headers = [(b"cf-ipcountry", value)]
    assert read_headers(headers, "CF-IPCountry") == ({"location": {"country": country}} if country else {})
    assert read_headers(headers, None) == {}
    assert read_headers(headers, "X-Country") == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.text() | st.floats(), lambda it: st.lists(it) | st.dictionaries(st.text(), it)
)
KEYS = st.sampled_from(["location", "device", "os", "userAgent", "userAgentData"])
PARTS = st.dictionaries(st.sampled_from(["type", "name", "model", "country", "mobile", "platform", "brands"]), JSON)


@given(st.dictionaries(KEYS, JSON | PARTS))
def test_whatever_is_sent_becomes_a_few_short_words(context: dict[str, Any]) -> None:
    for part in read_context(context).values():
        assert part
        assert all(isinstance(value, str) and 0 < len(value) <= TEXT_MAX for value in part.values())


@given(st.binary(max_size=2 * AGENT_MAX))
def test_whatever_a_handshake_carries_can_be_read(value: bytes) -> None:
    names = (b"user-agent", b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"country")
    for name in names:
        read_headers([(name, value)], "country")
