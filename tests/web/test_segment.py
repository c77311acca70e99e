"""Segment's calls as events: names, users, times, context, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.events import Event, Identify, Track
from handrail.core.inputs import BadInput
from handrail.web.segment import Call, Envelope, Item, decode, translate

NOW = 1_800_000_000_000
ITEM = msgspec.json.Decoder(Item)
ENVELOPE = msgspec.json.Decoder(Envelope)


def call(kind: str, *, sent_at: str | int | None = None, **fields: Any) -> Call:
    item = decode(msgspec.json.encode(fields), ITEM)
    return translate(item, kind, now=NOW, sent_at=sent_at, new_id=lambda: "made")


def event(kind: str, *, sent_at: str | int | None = None, **fields: Any) -> Event:
    return call(kind, sent_at=sent_at, **fields).event


def test_track() -> None:
    given_event = event("track", userId="ann", event="feature_used", messageId="m1", properties={"feature": "charts"})
    assert given_event == Track(id="m1", name="feature_used", at=NOW, properties={"feature": "charts"})


def test_identify_group_and_alias() -> None:
    assert event("identify", userId="ann", traits={"plan": "trial"}) == Identify(
        id="made", at=NOW, traits={"plan": "trial"}
    )
    assert event("group", groupId=7, traits={"name": "Acme"}) == Identify(
        id="made", at=NOW, traits={"group": {"name": "Acme", "id": "7"}}
    )
    assert event("alias", userId="ann", previousId="anon") == Track(
        id="made", name="alias", at=NOW, properties={"previous_id": "anon"}
    )


def test_traits_of_an_identify_may_stand_in_its_context() -> None:
    context = {"traits": {"plan": "trial", "seats": 3}, "locale": "de"}
    told = event("identify", userId="ann", traits={"plan": "pro"}, context=context)
    assert told == Identify(id="made", at=NOW, traits={"plan": "pro", "seats": 3}, context={"locale": "de"})
    assert event("identify", userId="ann", context={"traits": "x"}) == Identify(id="made", at=NOW, traits={})
    assert event("track", event="a", context=context) == Track(id="made", name="a", at=NOW, context={"locale": "de"})


@pytest.mark.parametrize(("kind", "name"), [("page", "page_viewed"), ("screen", "screen_viewed")])
def test_views_are_tracks_with_their_name(kind: str, name: str) -> None:
    seen = event(kind, name="Pricing", category="Docs", properties={"path": "/pricing"})
    assert isinstance(seen, Track)
    assert seen.name == name
    assert seen.properties == {"path": "/pricing", "name": "Pricing", "category": "Docs"}


def test_nulls_are_absences_and_numbers_are_ids() -> None:
    made = call("track", userId=None, anonymousId=42, event="x", properties=None, context=None, timestamp=None)
    assert (made.user_id, made.anonymous_id) == (None, "42")


@pytest.mark.parametrize(
    ("stamp", "sent", "at"),
    [
        (NOW - 5_000, None, NOW - 5_000),
        (NOW - 5_000, NOW, NOW - 5_000),
        (NOW - 3_605_000, NOW - 3_600_000, NOW - 5_000),  # a clock an hour slow
        (NOW + 200_000_000, NOW + 200_005_000, NOW - 5_000),  # a clock days fast
        (NOW + 60_000, None, NOW),  # a little ahead
        (NOW + 60_000, NOW, NOW),  # after it was sent: not later than now
        ("2027-01-15T07:59:55Z", "2027-01-15T08:00:00.000+00:00", NOW - 5_000),
    ],
)
def test_the_senders_clock_is_corrected(stamp: str | int, sent: str | int | None, at: int) -> None:
    assert event("track", event="x", timestamp=stamp, sent_at=sent).at == at


def test_an_items_own_sent_at_goes_before_the_batchs() -> None:
    assert event("track", event="x", timestamp=NOW - 10, sentAt=NOW - 5, sent_at=NOW + 99).at == NOW - 5


def test_only_known_context_is_carried() -> None:
    context = {
        "ip": "192.0.2.1",
        "locale": "de-DE",
        "timezone": "Europe/Berlin",
        "page": {"path": "/a", "title": "A", "secret": "no", "url": 7},
        "device": {"type": "phone", "id": "no"},
        "location": {"country": "DE", "latitude": 51.5},
        "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko/20100101 Firefox/131.0",
        "campaign": {"source": "mail"},
        "library": {"name": "x"},
    }
    seen = event("track", event="x", context=context)
    assert isinstance(seen, Track)
    assert seen.context == {
        "page": {"path": "/a", "title": "A"},
        "device": {"type": "mobile", "os": "Windows", "browser": "Firefox"},
        "location": {"country": "DE"},
        "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko/20100101 Firefox/131.0",
        "campaign": {"source": "mail"},
        "locale": "de-DE",
        "timezone": "Europe/Berlin",
    }


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("", {}, "unknown-type"),
        ("click", {}, "unknown-type"),
        ("track", {}, "bad-field"),
        ("track", {"event": "segment_entered"}, "reserved-name"),
        ("track", {"event": "x", "properties": {"__proto__": 1}}, "bad-field"),
        ("track", {"event": "x", "properties": {"n": 2**60}}, "too-large"),
        ("track", {"event": "x", "messageId": "m" * 200}, "too-large"),
        ("track", {"event": "x", "timestamp": "yesterday"}, "bad-time"),
        ("track", {"event": "x", "timestamp": NOW + 2 * 86_400_000}, "far-future"),
        ("track", {"event": "x", "properties": []}, "bad-field"),
        ("track", {"event": 5}, "bad-field"),
        ("group", {}, "bad-field"),
        ("alias", {}, "bad-field"),
    ],
)
def test_refusals_say_what_and_how_to_mend_it(kind: str, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        call(kind, **fields)
    assert caught.value.code == code
    assert caught.value.fix


def test_a_wrong_type_is_placed() -> None:
    with pytest.raises(BadInput, match=r"\$\.properties"):
        call("track", event="x", properties="charts")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([field.encode_name for field in msgspec.structs.fields(Item)])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_a_refusal(body: bytes) -> None:
    with suppress(BadInput):
        decode(body, ENVELOPE)


@given(st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "?"]), st.data())
def test_any_json_is_an_event_or_a_refusal(kind: str, data: st.DataObject) -> None:
    body = data.draw(st.dictionaries(fields, json_values, max_size=6))
    try:
        made = translate(
            decode(msgspec.json.encode(body), ITEM),
            kind,
            now=NOW,
            sent_at=data.draw(st.none() | st.integers()),
            new_id=lambda: "made",
        )
    except BadInput:
        return
    assert made.event.at <= NOW


def test_deep_and_broken_bodies_are_refusals() -> None:
    for body in (
        b"[" * 100_000,
        b'{"batch":' + b"[" * 100_000,
        b"\xff",
        b"",
        b"null",
        b"[]",
        b'{"a":NaN}',
        b'"\\ud800"',
    ):
        with pytest.raises(BadInput):
            decode(body, ENVELOPE)
