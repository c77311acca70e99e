"""The parser of client messages: any bytes give a message or a BadInput, nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handrail.core.frames import ActivityMessage, ConsentMessage, Hello, IdentifyMessage, TrackMessage
from handrail.core.inputs import BadInput
from handrail.live import inbound

NOW = 1_800_000_000_000

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("id", "name", "properties", "context", "at", "traits", "purposes", "visible", "idle_ms", "offset", "epoch")
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(inbound.KINDS) | VALUES}, optional=dict.fromkeys(FIELDS, VALUES)
)


def understand(data: str | bytes) -> Any:
    """What the connection does with bytes, as far as it is a matter of the bytes alone."""
    match inbound.decode(data):
        case Hello() as message:
            return inbound.check_hello(message)
        case TrackMessage() as message:
            return inbound.track_of(message, NOW)
        case IdentifyMessage() as message:
            return inbound.identify_of(message, NOW)
        case ConsentMessage() as message:
            return inbound.consent_of(message, NOW)
        case ActivityMessage() as message:
            return inbound.activity_of(message, "c", NOW)
        case message:
            return message


def check(data: str | bytes) -> None:
    try:
        understood = understand(data)
    except BadInput as fault:
        msgspec.json.encode([fault.code, fault.message, fault.fix, inbound.find_id(data)])
        return
    msgspec.json.encode(understood)
    assert getattr(understood, "at", 0) <= NOW


@given(st.binary())
@example(b"[" * 10_000)
@example(b'{"type":"track","id":"a","name":"b","properties":{"a":"\\ud800 x"}}')
@example(b'{"type":"hello","user_id":"\\u0000"}')
def test_any_bytes(data: bytes) -> None:
    check(data)


@given(st.text(st.characters(codec=None)))
def test_any_text(data: str) -> None:
    check(data)


@given(VALUES)
def test_any_json(value: Any) -> None:
    check(msgspec.json.encode(value) if not _huge(value) else b"1" * 30)


@given(MESSAGES)
def test_anything_like_a_message(value: dict[str, Any]) -> None:
    if not _huge(value):
        check(msgspec.json.encode(value))


def _huge(value: Any) -> bool:
    """Whole numbers that the encoder itself does not write."""
    if isinstance(value, dict):
        return any(_huge(item) for item in value.values())
    if isinstance(value, list):
        return any(_huge(item) for item in value)
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"type":"hullo"}', "'hullo' is no type of message. Did you mean 'hello'?"),
        ('{"type":"zzz"}', "'zzz' is no type of message."),
        ('{"type":"track","id":"a"}', "Object missing required field `name`."),
        ('{"type":"track","id":"a","name":3}', "name: Expected `str`, got `int`."),
        ("[]", "Expected `object`, got `array`."),
    ],
)
def test_what_the_error_says(data: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        inbound.decode(data)
    assert refused.value.message == message


def test_an_identify_tells_of_place_and_device_as_a_track_does() -> None:
    told = {"locale": "de", "location": {"country": "DE", "street": "x"}, "device": {"type": "mobile"}}
    message = inbound.decode(msgspec.json.encode({"type": "identify", "traits": {}, "context": told}))
    assert isinstance(message, IdentifyMessage)
    track = TrackMessage(id="m1", name="a", context=told)
    assert inbound.identify_of(message, NOW).context == inbound.track_of(track, NOW).context != {}


def test_messages_without_an_id_get_one() -> None:
    one, two = (inbound.identify_of(IdentifyMessage(traits={}), NOW) for _ in range(2))
    assert one.id != two.id
    assert inbound.identify_of(IdentifyMessage(traits={}, id="mine"), NOW).id == "mine"
