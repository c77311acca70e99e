"""What the store asks of Redis, prepared once: the Lua scripts, and queries over all buckets packed beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from handrail.core.state import SEEN_FOR, SEEN_MAX
from handrail.store.heads import LENGTH
from handrail.store.keys import BUCKET_KEYS

OUTBOX_MAX = 1_000  # messages kept for resuming, about
OUTBOX_FOR = 24 * 3_600_000
LOG_MAX = 1_000  # lines of the event log kept a bucket, about


class Script(NamedTuple):
    source: bytes
    sha: str


def _script(name: str) -> Script:
    limits = {"OUTBOX_MAX": OUTBOX_MAX, "OUTBOX_FOR": OUTBOX_FOR, "LOG_MAX": LOG_MAX}
    limits |= {"SEEN_FOR": SEEN_FOR, "SEEN_MAX": SEEN_MAX, "HEAD": LENGTH}
    head = "".join(f"local {key} = {value} " for key, value in limits.items())  # one line: error lines stay nearly true
    source = (head + files("handrail.store").joinpath(name).read_text("utf-8")).encode()
    return Script(source, sha1(source, usedforsecurity=False).hexdigest())


SCRIPTS = COMMIT, CLAIM, RETRY, FINISH = tuple(
    _script(f"{name}.lua") for name in ("commit", "claim", "retry", "finish")
)


class Sweep:
    """The same range query on many sorted sets, most of it packed beforehand: `… -inf BEFORE LIMIT 0 N WITHSCORES`."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._heads = [b"*8\r\n$13\r\nZRANGEBYSCORE\r\n$%d\r\n%b\r\n$4\r\n-inf\r\n" % (len(key), key) for key in keys]

    def packed(self, buckets: Iterable[int], before: int, limit: int) -> bytes:
        words = (b"%d" % before, b"LIMIT", b"0", b"%d" % limit, b"WITHSCORES")
        tail = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        return tail.join(self._heads[bucket] for bucket in buckets) + tail


TIMERS = Sweep(keys.timers for keys in BUCKET_KEYS)
HOOKS = Sweep(keys.hooks for keys in BUCKET_KEYS)
