"""How much is too much: token buckets, and counts of what is open, for connections, addresses, users and keys.

`Bounds` are what an operator chose, `Limits` what one process has counted. Times are seconds of a monotonic clock that
is handed in. Everything kept is bounded: of the keys that were met, the latest ten thousand.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from msgspec import Struct

from handrail.core.inputs import BadInput
from handrail.counts import Counts
from handrail.settings import Settings

SECONDS = 12  # of a rate that may come at once: a page that was offline sends up to a thousand events, and some more
KEYS = 10_000  # keys of one kind that are remembered; who is forgotten begins anew with a full bucket
SHARE = 4  # who was refused is told to wait until this part of the burst, one in so many, is free again


class Rate(Struct, frozen=True):
    """So many a second in the long run, `burst` at once. Without a number a second there is no bound."""

    per_second: float = 0.0
    burst: float = 0.0


FREE = Rate()
REFUSALS = Rate(5, 200)  # messages of one user that are answered with an error before the connection is closed
OCTETS = 4_096  # bytes of a message in the long run
OFFENCES = 20  # failed authentications and connections closed for abuse that an address has to spare


class Bounds(Struct, frozen=True, kw_only=True):
    """What may be had. A count of 0 is no bound."""

    handshakes: Rate = FREE
    address_handshakes: Rate = FREE
    address_connections: int = 0
    offences: Rate = FREE
    user_connections: int = 0
    user_messages: Rate = FREE
    messages: Rate = FREE
    octets: Rate = FREE
    writes: Rate = FREE


def bounds_of(settings: Settings) -> Bounds:
    """What the settings say; what they leave open is bounded where others can reach the server."""

    def pick(chosen: int | None, usual: int) -> int:
        return chosen if chosen is not None else usual if settings.guarded else 0

    def rate(chosen: int | None, usual: int, seconds: float = SECONDS) -> Rate:
        per_second = pick(chosen, usual)
        return Rate(per_second, per_second * seconds)

    failures = pick(settings.address_failures, 12)
    messages = rate(settings.message_rate, 100)
    return Bounds(
        handshakes=rate(settings.handshake_rate, 500, seconds=1),
        address_handshakes=rate(settings.address_handshake_rate, 50, seconds=5),
        address_connections=pick(settings.address_connections, 1_000),
        offences=Rate(failures / 60, OFFENCES if failures else 0),
        user_connections=settings.user_connections,
        user_messages=messages,
        messages=messages,
        octets=Rate(messages.per_second * OCTETS, messages.burst * OCTETS),
        writes=rate(settings.write_rate, 5_000),
    )


class TooMuch(BadInput):
    """More than is allowed, for now: `wait` says for how many seconds."""

    def __init__(self, what: str, wait: float) -> None:
        self.wait = max(wait, 0.001)
        fix = f"Send it again in {math.ceil(self.wait)} s, with the same id, and less at once."
        super().__init__("rate-limited", what, fix)


class Bucket:
    """Holds `burst` at first, is filled at the rate, and never holds more."""

    __slots__ = ("_at", "_level", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._level = rate.burst
        self._at = now

    def take(self, now: float, cost: float = 1.0, *, keep: float = 0.0) -> bool:
        """Take that much out, if `keep` stays behind. What costs more than a full bucket empties it below nothing."""
        if not self._rate.per_second:
            return True
        self._level = min(self._rate.burst, self._level + (now - self._at) * self._rate.per_second)
        self._at = now
        if self._level < min(cost, self._rate.burst) + keep:
            return False
        self._level -= cost
        return True

    def wait(self, cost: float = 1.0) -> float:
        """Seconds until that much, and a good part of the burst, can be had; as of the last `take`."""
        if not self._rate.per_second:
            return 0.0
        wanted = max(self._rate.burst / SHARE, min(cost, self._rate.burst))
        return max(wanted - self._level, 0.0) / self._rate.per_second


class Buckets:
    """One for each key."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str, cost: float = 1.0) -> float:
        """Nothing when it could be taken, else the seconds to wait."""
        if not self._rate.per_second:
            return 0.0
        now = self._clock()
        bucket = self._buckets.pop(key, None) or Bucket(self._rate, now)
        self._buckets[key] = bucket
        if len(self._buckets) > KEYS:
            self._buckets.popitem(last=False)
        return 0.0 if bucket.take(now, cost) else bucket.wait(cost)

    def empty(self, key: str) -> float:
        """The seconds to wait if nothing could be taken now; takes nothing."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None or bucket.take(self._clock(), 0.0, keep=1.0) else bucket.wait()


class Limits:
    """What one process has counted against its bounds."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float], counts: Counts) -> None:
        self.bounds = bounds
        self.clock = clock
        self.counts = counts
        self.open: Counter[str] = Counter()  # live connections by address
        self.handshakes = Buckets(bounds.address_handshakes, clock)
        self._users = Buckets(bounds.user_messages, clock)
        self._refusals = Buckets(REFUSALS, clock)
        self._offences = Buckets(bounds.offences, clock)
        self._writes = Buckets(bounds.writes, clock)

    def take_user(self, user: str, cost: int = 1) -> float:
        """A message of this user, by whichever connection: nothing, or the seconds to wait."""
        return self._users.take(user, cost)

    def is_abuse(self, user: str) -> bool:
        """Count a refused message: whether that is enough."""
        self.counts.add("messages_refused_rate")
        return self._refusals.take(user) > 0

    def is_barred(self, user: str) -> bool:
        """Whether so many messages of this user were refused that a connection of theirs would be closed at once."""
        return self._refusals.empty(user) > 0

    def check_posts(self, user: str | None, events: int) -> None:
        """Events over HTTP: a user's own, or those sent with the write key. Raises TooMuch."""
        wait = self._writes.take("", events) if user is None else self._users.take(user, events)
        if wait:
            self.counts.add("posts_refused_rate")
            raise TooMuch("More events were sent than are taken in this time.", wait)

    def offend(self, address: str) -> None:
        """Somebody at this address failed to say who they are, or did not stop sending."""
        self._offences.take(address)

    def offended(self, address: str) -> float:
        """Seconds for which nobody at this address is heard any more."""
        return self._offences.empty(address)


def address_of(client: object) -> str:
    """Whom an address counts as: the network of an IPv6 address, since one person has all of a /64."""
    return _network_of(str(client[0])) if isinstance(client, tuple | list) and client else ""


@lru_cache(maxsize=KEYS)
def _network_of(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
