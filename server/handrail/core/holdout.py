"""The share of users who are left alone, so that what rules do can be told from what happens anyway.

A user is in or out by a hash of their id: for good, everywhere, and when the share grows nobody leaves it. The id is
the one they had when it first mattered, so that nobody changes sides when an anonymous visitor becomes a known user.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from handrail.core.state import State

WHOLE = 10_000  # basis points

_SHARE = re.compile(r"(100|[0-9]{1,2})(?:\.([0-9]{1,2}))?%")


def leave_alone(state: State, share: int) -> bool:
    """Whether the user belongs to the share; from now on it is decided by the id they have now."""
    if not share:
        return False
    state.unit = state.unit or state.user
    return held_out(state.unit, share)


def held_out(user: str, share: int) -> bool:
    """Whether the user belongs to the `share` (basis points) that is shown nothing."""
    return bool(share) and _point(user) < share


def _point(user: str) -> int:
    """The user's place among 10,000."""
    return (
        int.from_bytes(blake2b(user.encode(errors="surrogatepass"), digest_size=8, person=b"holdout").digest()) % WHOLE
    )


def _read_share(value: Any) -> int:
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    share = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else WHOLE + 1
    if share > WHOLE:
        raise PydanticCustomError("share_type", "a percentage was expected")
    return share


Share = Annotated[
    int, PlainValidator(_read_share), WithJsonSchema({"type": "string", "pattern": r"^(100|\d{1,2})(\.\d{1,2})?%$"})
]
