from __future__ import annotations

import json
import re
import time
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from handrail.outbound.signing import headers, message_id, sign

KEY = bytes(range(32))


def test_the_published_example() -> None:
    # From the reference implementations' own tests.
    secret, message, timestamp = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(b64decode(secret), message, timestamp, b'{"test": 2432232314}') == expected


@given(st.dictionaries(st.text(), st.text() | st.integers()), st.binary(min_size=1, max_size=64))
def test_the_reference_verifier_accepts_every_message(value: dict[str, object], key: bytes) -> None:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    head = headers("msg_1", int(time.time() * 1000), body, key)
    Verifier(key).verify(body, head)


@pytest.mark.parametrize("change", ["body", "id", "time", "key"])
def test_the_reference_verifier_refuses_what_was_altered(change: str) -> None:
    now = int(time.time() * 1000)
    head, body, key = headers("msg_1", now, b"{}", KEY), b"{}", KEY
    if change == "body":
        body = b"{ }"
    elif change == "id":
        head["webhook-id"] = "msg_2"
    elif change == "time":
        head["webhook-timestamp"] = str(now // 1000 - 1)
    else:
        key = KEY[::-1]
    with pytest.raises(WebhookVerificationError):
        Verifier(key).verify(body, head)


def test_without_a_key_nothing_is_signed() -> None:
    assert headers("msg_1", 1_500, b"{}", None) == {"webhook-id": "msg_1", "webhook-timestamp": "1"}


def test_a_plain_id_is_sent_as_it_is() -> None:
    assert message_id("msg_2f9a-B") == "msg_2f9a-B"


@given(st.text())
def test_any_other_id_becomes_one_that_is_safe_and_stable(job: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", message_id(job))
    assert message_id(job) == message_id(job)
