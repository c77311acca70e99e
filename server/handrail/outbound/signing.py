"""Standard Webhooks: the three headers by which a receiver knows a message, its age and its sender.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from hashlib import blake2b

_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def message_id(job: str) -> str:
    """The `webhook-id` of a job: its id if that may stand in a header and under the signature, else a digest of it."""
    return job if _SAFE_ID.fullmatch(job) else "msg_" + blake2b(job.encode(), digest_size=16).hexdigest()


def sign(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` over `id.timestamp.body`; `timestamp` is whole seconds since the epoch."""
    signed = b"%s.%d.%s" % (message.encode(), timestamp, body)
    return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode()


def headers(message: str, now: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """What identifies this try of the message; unsigned without a key. `now` is milliseconds since the epoch."""
    seconds = now // 1000
    head = {"webhook-id": message, "webhook-timestamp": str(seconds)}
    if key is not None:
        head["webhook-signature"] = sign(key, message, seconds, body)
    return head
