"""Where everything lies in the store: one bucket a user, one hash slot a bucket.

The bucket comes from a hash of the user id, never from the id itself, so that nobody chooses where their keys lie.
Only the first `{…}` of a key is its hash tag, and every user key ends in two fixed characters: no two users share one.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

BUCKETS = 1024  # stored in the store and checked when connecting: another count would look for users in the wrong place

ALIVE = b"hr:{nodes}:alive"
BUCKET_COUNT = b"hr:{nodes}:buckets"
LINEAGE = b"hr:{nodes}:lineage"
REVOKED = b"hr:{nodes}:revoked"  # stream: user whose tokens were revoked
QUARANTINE = b"hr:{nodes}:quarantine"  # stream


class BucketKeys(NamedTuple):
    """timers: zset due -> user. hooks: zset due -> job id. hookdata: hash job id -> job. log: stream. bell: channel."""

    timers: bytes
    hooks: bytes
    hookdata: bytes
    log: bytes
    bell: bytes


class UserKeys(NamedTuple):
    """state: string. outbox: stream, ids `<offset>-0`. seen: zset time -> event id."""

    bucket: int
    state: bytes
    outbox: bytes
    seen: bytes


def _bucket_keys(number: int) -> BucketKeys:
    root = f"hr:{{b{number:04d}}}:"
    return BucketKeys(*((root + name).encode() for name in BucketKeys._fields))


BUCKET_KEYS = tuple(_bucket_keys(number) for number in range(BUCKETS))


@lru_cache(maxsize=10_000)
def bucket_of(user: str) -> int:
    return int.from_bytes(blake2b(user.encode(), digest_size=2).digest()) % BUCKETS


@lru_cache(maxsize=10_000)
def user_keys(user: str) -> UserKeys:
    bucket = bucket_of(user)
    root = f"hr:{{b{bucket:04d}}}:u:{user}:".encode()
    return UserKeys(bucket, root + b"s", root + b"o", root + b"i")


def ticket_key(ticket: str) -> bytes:
    """By its digest: who reads the store learns no ticket."""
    digest = blake2b(ticket.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return f"hr:{{b{int.from_bytes(digest[:2]) % BUCKETS:04d}}}:k:{digest.hex()}".encode()


def enlisted_key(node: str, bucket: int) -> bytes:
    """The set of users of a bucket that a process may hold connections of: who can be reached can be enlisted."""
    return f"hr:{{b{bucket:04d}}}:n:{node}".encode()
