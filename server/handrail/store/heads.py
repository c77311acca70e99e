"""The head of a stored state, which commit.lua reads: fixed in width, in front of the msgpack.

`hr1:` (the layout's stamp), version and offset in 16 digits each, the op of the commit that wrote it in 16 characters,
zeros where it had none, and the mark of the epoch in 16. Code that does not know a stamp must not touch the state.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

STAMP = b"hr1:"
LENGTH = 68
NO_OP = b"0" * 16


class Head(NamedTuple):
    version: int
    offset: int
    op: str
    mark: str


def write_head(head: Head) -> bytes:
    return b"%b%016d%016d%b%b" % (STAMP, head.version, head.offset, write_op(head.op), head.mark.encode())


def write_base(version: int, op: str) -> bytes:
    """The version and op that a commit builds on, as commit.lua compares them."""
    return b"%016d%b" % (version, write_op(op))


def write_op(op: str) -> bytes:
    packed = op.encode() or NO_OP
    assert len(packed) == len(NO_OP), "an op is 16 characters"
    return packed


def read_head(blob: bytes) -> Head:
    """Raises ValueError when the bytes do not begin with a head of this layout."""
    if blob[:4] != STAMP:
        raise ValueError(f"it is not stamped {STAMP.decode()} as this version of Handrail stamps states")
    op, mark = blob[36:52], blob[52:LENGTH].decode()
    return Head(int(blob[4:20]), int(blob[20:36]), "" if op == NO_OP else op.decode(), mark)


@lru_cache(maxsize=10_000)
def mark_of(epoch: str) -> str:
    """What stands for an epoch in a head: 16 characters, however long the epoch is."""
    return blake2b(epoch.encode(), digest_size=8).hexdigest()
