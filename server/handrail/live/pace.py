"""How fast one connection is heard."""

from __future__ import annotations

from handrail.limits import Bucket, Limits, TooMuch


class Pace:
    """Counts a connection's messages and bytes, and those messages as its user's."""

    __slots__ = ("_limits", "_messages", "_octets")

    def __init__(self, limits: Limits) -> None:
        now = limits.clock()
        self._limits = limits
        self._messages = Bucket(limits.bounds.messages, now)
        self._octets = Bucket(limits.bounds.octets, now)

    def check(self, size: int, user: str) -> None:
        """A message of that many characters has come; `user` is empty before the hello. Raises TooMuch."""
        now = self._limits.clock()
        if not self._messages.take(now):
            raise TooMuch("This connection sends more messages than are taken.", self._messages.wait())
        if not self._octets.take(now, size):
            raise TooMuch("This connection sends more bytes than are taken.", self._octets.wait(size))
        if user and (wait := self._limits.take_user(user)):
            raise TooMuch("This user sends more messages than are taken.", wait)
